"""The adb server, the phones and the command that the tests of `mesp device` share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Harness
from phone_contract import check_fetched, check_phone
from standin.adb_server import AdbServer
from standin.phone import Phone
from standin.trainers import core, fake


@pytest.fixture(scope="module")
def adb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    with AdbServer(tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture
def phone(adb: AdbServer, tmp_path: Path) -> Iterator[Phone]:
    with Phone(tmp_path / "phone", trainer=fake(seconds=0.05, megabytes=20)) as made:
        assert adb.connect(made) == f"connected to {made.serial}"
        made.install()
        yield made
        adb.run("disconnect", made.serial)
    check_phone(made)
    check_fetched(tmp_path / "here")


@pytest.fixture
def mesp(adb: AdbServer, tmp_path: Path) -> Harness:
    folder = tmp_path / "here"
    folder.mkdir()
    return Harness(adb, folder)


@pytest.fixture
def real(adb: AdbServer, tmp_path: Path) -> Iterator[Phone]:
    """The app's process is android_app/core on the JVM, with Android's own library."""
    with Phone(tmp_path / "real", trainer=core()) as made:
        adb.connect(made)
        made.install()
        made.set_debuggable(True)
        yield made
        adb.run("disconnect", made.serial)
    check_phone(made)
    check_fetched(tmp_path / "here")
