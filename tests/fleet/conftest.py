"""Two phones, for the tests of a fleet with phones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .phones import AdbServer, Phone, connected, core


@pytest.fixture(scope="module")
def adb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    with AdbServer(tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture
def first(adb: AdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    yield from connected(adb, tmp_path / "first", core(), monkeypatch)


@pytest.fixture
def second(adb: AdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    yield from connected(adb, tmp_path / "second", core(), monkeypatch)
