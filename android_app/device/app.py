"""The app on a phone: where it keeps things, how it is installed, and how it is told what to do."""

import json
import re
import shlex
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesp.runtime.errors import MespError, UsageError

from . import dumpsys
from .adb import Device, ShellFailed
from .reading import Unreadable

PACKAGE = "org.mesp.app"
TAG = "mesp"  # of its lines in the log
SERVICE = f"{PACKAGE}/.TrainService"
# The app's external files, which adb's shell may read and write without root; Folders.kt names the same three.
FILES = f"/sdcard/Android/data/{PACKAGE}/files"
BUNDLES, DATA, RUNS, ADAPTERS = (f"{FILES}/{name}" for name in ("bundles", "data", "runs", "adapters"))

# The phone's clock: of Android's shell itself, or of a date that may not know fractions.
CLOCK = 'echo "${EPOCHREALTIME:-$(date +%s.%N)}"'

COMMANDS = ("pause", "continue", "stop", "checkpoint")
_FIRST_START_SECONDS = 15.0
# Where the log takes nothing below a level ("Logger buffer sizes: Off", some makers' own setting), a tag's own level goes before it, until the
# phone is started anew.
_SAY_ALL = f"setprop log.tag.{TAG} V 2>/dev/null"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")

# What Android's package manager answers, and what a person can do about it.
_REFUSALS = {
    "INSTALL_FAILED_NO_MATCHING_ABIS": "the APK has no library for this phone's processor ({abis}); it needs arm64-v8a or x86_64",
    "INSTALL_FAILED_UPDATE_INCOMPATIBLE": "an app of this name, signed with another key, is there. "
    f"Fetch its runs (mesp device pull), then remove it: adb uninstall {PACKAGE}",
    "INSTALL_FAILED_VERSION_DOWNGRADE": f"a newer version is there. Build that version's APK, or remove it: adb uninstall {PACKAGE}",
    "INSTALL_FAILED_INSUFFICIENT_STORAGE": "the phone's storage is full. Free some, for instance with: mesp device clean",
    "INSTALL_FAILED_USER_RESTRICTED": "the phone asks before it installs over USB: accept on its screen, "
    "or enable 'Install via USB' in the developer options",
    "INSTALL_FAILED_OLDER_SDK": "this Android is too old: it needs Android 8 (API 26) or later",
    "INSTALL_PARSE_FAILED_NO_CERTIFICATES": "the APK is not signed. Build it with: make apk",
}


def check_name(name: str, what: str) -> str:
    """A name that may stand for a folder on the phone.

    Raises:
        UsageError: it has other characters, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{what} {name!r} cannot be a folder's name on the phone: expected letters, digits, '.', '_' and '-', 100 at most."
        )
    return name


def installed(device: Device) -> dumpsys.Package | None:
    """What Android says of the app, None where it is not installed."""
    return dumpsys.package(
        device.patiently(lambda: device.sections({"package": f"dumpsys package {PACKAGE}"}))["package"]
    )


def need_installed(device: Device) -> dumpsys.Package:
    """The same, for what cannot do without.

    Raises:
        UsageError: the app is not installed.
    """
    package = installed(device)
    if package is None:
        raise UsageError(
            f"The app is not installed on {device.serial}. Build and install it: make apk, then mesp device install"
        )
    return package


def install(device: Device, apk: Path, abis: list[str], sdk: int) -> dumpsys.Package:
    """Installs the app, or updates it with its data kept.

    Args:
        abis: of the phone, as ro.product.cpu.abilist has them
        sdk: the phone's API level

    Raises:
        UsageError: not an APK, or not for this phone.
        MespError: Android refused it; says why and what to do.
    """
    if not apk.is_file():
        raise UsageError(f"There is no {apk}. Build it with make apk, or name one: mesp device install APK")
    if not zipfile.is_zipfile(apk):
        raise UsageError(f"{apk} is not an APK. Build one with: make apk")
    if sdk < 26:
        raise UsageError(f"{device.serial} has API level {sdk}; the app needs 26 (Android 8) or later.")
    with zipfile.ZipFile(apk) as archive:
        inside = {name.split("/")[1] for name in archive.namelist() if name.startswith("lib/")}
    if not inside & set(abis):
        raise UsageError(
            f"{apk} has libraries for {', '.join(sorted(inside)) or 'no processor'}; {device.serial} runs {', '.join(abis)} alone."
        )
    done = device.install(apk)
    output = (done.stdout + done.stderr).decode(errors="replace").strip()
    if done.returncode or "Success" not in output:
        reason = next((code for code in _REFUSALS if code in output), None)
        advice = (
            _REFUSALS[reason].format(abis=", ".join(abis))
            if reason
            else output.splitlines()[-1]
            if output
            else "it said nothing"
        )
        raise MespError(f"{device.serial} did not install {apk}: {advice}.")
    # Since Android 13 a notification needs leave, which else the app's screen asks for; the training runs without it too.
    device.shell(f"pm grant {PACKAGE} android.permission.POST_NOTIFICATIONS 2>/dev/null || true")
    return need_installed(device)


def make_folders(device: Device) -> None:
    """Has the app make its external folder, by its first start, if it is not there.

    A folder that the shell makes has other rights: since Android 11 what the app then writes there may be closed to the shell (vold gives the
    rights that both need to the folders that it makes for an app).

    Raises:
        MespError: it did not appear.
    """
    script = f"[ -d {FILES} ] && echo there || true"
    if device.patiently(lambda: device.shell(script)):
        return
    device.patiently(lambda: device.shell(f"am start -n {PACKAGE}/.MainActivity"))
    until = time.monotonic() + _FIRST_START_SECONDS
    while not device.patiently(lambda: device.shell(script)):
        if time.monotonic() > until:
            raise MespError(
                f"The app did not make its folder {FILES} on {device.serial}: unlock the phone, open the app once, and try again."
            )
        time.sleep(0.5)


def start(
    device: Device, run: str, bundle: str | None, data: str | None, settings: Mapping[str, Any], resume: bool
) -> None:
    """Tells the app to train, as the head of TrainService.kt says. What then happens, it tells in logcat.

    Raises:
        MespError: Android did not start the service.
    """
    extras = ["--es", "output", run]
    if resume:
        extras += ["--ez", "resume", "true"]
    else:
        extras += [
            "--es",
            "bundle",
            f"bundles/{bundle}",
            "--es",
            "data",
            f"data/{data}",
            "--es",
            "settings",
            json.dumps(dict(settings)),
        ]
    _am(device, "start-foreground-service", "TRAIN", extras)


def tell(device: Device, command: str) -> None:
    """Tells the app's run to pause, continue, stop or write a checkpoint.

    Raises:
        MespError: Android did not pass it on.
    """
    _am(device, "start-foreground-service", command.upper(), [])


def _am(device: Device, verb: str, action: str, extras: list[str]) -> None:
    words = ["am", verb, "-n", SERVICE, "-a", f"{PACKAGE}.action.{action}", *extras]
    try:
        output = device.shell(f"{_SAY_ALL}; {shlex.join(words)} 2>&1")
    except ShellFailed as failed:
        raise MespError(f"{device.serial} did not start the app: {failed.output}.") from failed
    # am reports some errors and ends with 0 all the same.
    if found := re.search(r"(?m)^(Error.*|.*Exception.*)$", output):
        raise MespError(
            f"{device.serial} did not start the app: {found[0].strip()}. Is it installed, and of this version? mesp device install"
        )


def epoch_seconds(output: str) -> float:
    """What CLOCK says.

    Raises:
        Unreadable: no time.
    """
    found = re.match(r"\s*(\d+(?:\.\d+)?)", output)
    if not found:
        raise Unreadable("date +%s", output, "seconds since 1970")
    return float(found[1])


def process(device: Device) -> int | None:
    """The app's process, None when it does not run."""
    words = device.shell(f"pidof {PACKAGE} || true").split()
    return int(words[0]) if words and words[0].isdecimal() else None
