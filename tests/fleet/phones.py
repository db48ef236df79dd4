"""Phones of a fleet: the stand-in of the harness's own tests, with the app's core on the JVM."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "android_app" / "tests"))

from harness import BUNDLE, DATA
from standin.adb_server import AdbServer
from standin.phone import Phone
from standin.trainers import Trainer, core, fake

__all__ = ["BUNDLE", "DATA", "AdbServer", "Phone", "Trainer", "connected", "core", "fake"]


def connected(adb: AdbServer, folder: Path, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    """A phone that this process's adb finds, with the app on it."""
    for name in ("ANDROID_ADB_SERVER_PORT", "ADB_LOCAL_TRANSPORT_MAX_PORT"):
        monkeypatch.setenv(name, adb.environment[name])
    with Phone(folder, trainer=trainer) as phone:
        adb.connect(phone)
        phone.install()
        phone.set_debuggable(True)
        yield phone
        adb.run("disconnect", phone.serial)
