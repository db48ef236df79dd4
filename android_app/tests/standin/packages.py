"""pm, and `cmd package`, which `adb install` calls."""

import hashlib
import shutil
import sys
from pathlib import Path

from .app import App
from .commands import fail
from .state import PACKAGE, State

CHUNK = 1 << 20


def pm(state: State, arguments: list[str]) -> int:
    verb, *more = arguments or [""]
    if verb == "install":
        return _install(state, more)
    package = next((word for word in reversed(more) if not word.startswith("-")), "")
    known = package == PACKAGE and state.read()["installed"]
    if verb == "list":
        if state.read()["installed"] and (package == "packages" or package in PACKAGE):
            print(f"package:{PACKAGE}")
        return 0
    if verb == "path":
        if known:
            print(f"package:/data/app/~~standin==/{PACKAGE}-standin==/base.apk")
        return 0 if known else 1
    if verb == "uninstall":
        if not known:
            print("Failure [DELETE_FAILED_INTERNAL_ERROR]")
            return 1
        _remove_files(state)
        state.set(installed=None)
    elif verb == "clear":
        if not known:
            print("Failed")
            return 1
        _remove_files(state)
    else:
        return fail(f"Unknown command: {verb}", 255)
    print("Success")
    return 0


def _remove_files(state: State) -> None:
    """The app's own and its folder in the shared storage; its process with them."""
    App(state).force_stop()
    for folder in (state.external.parent, state.internal.parent):
        shutil.rmtree(folder, ignore_errors=True)


def _install(state: State, arguments: list[str]) -> int:
    """From standard input with -S, else from a file of the phone."""
    if "-S" in arguments:
        left = size = int(arguments[arguments.index("-S") + 1])
        file = sys.stdin.buffer
    else:
        path = Path(arguments[-1])
        if not path.is_file():
            return fail(f"Error: failed to open file: {path}")
        left = size = path.stat().st_size
        file = open(path, "rb")  # noqa: SIM115
    digest = hashlib.sha256()
    while left and (data := file.read(min(left, CHUNK))):
        digest.update(data)
        left -= len(data)
    now = state.read()
    failure = now["install_failure"]
    if left:
        failure = "INSTALL_FAILED_INVALID_APK: the APK was cut short"
    elif now["free"] is not None and size > now["free"]:
        failure = "INSTALL_FAILED_INSUFFICIENT_STORAGE: Failed to override installation location"
    if failure:
        print(f"Failure [{failure}]")
        return 1
    App(state).force_stop()  # a process of the version before
    state.set(installed={"sha256": digest.hexdigest(), "size": size})
    state.external.mkdir(parents=True, exist_ok=True)
    print("Success")
    return 0
