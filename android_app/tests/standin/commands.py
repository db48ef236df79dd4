"""The phone's own commands: what they print, and their exit status."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from . import clock, exits, storage
from .app import App
from .paths import on_this_machine
from .state import PACKAGE, State

Command = Callable[[State, list[str]], int]


def run(root: Path, name: str, arguments: list[str]) -> int:
    """Runs one of them; what the test set for the whole command line comes first."""
    state = State(root)
    override = state.read()["overrides"].get(" ".join([name, *arguments]))
    try:
        if override:
            print(_filled(state, override[0]), end="")
            return int(override[1])
        status = _command(name)(state, arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing is left for Python to complain about as it ends
        return 1


def _command(name: str) -> Command:
    # Each imports what it needs, so that a getprop does not wait for it.
    if name == "logcat":
        from .logcat import logcat

        return logcat
    if name == "am":
        from .am import am

        return am
    if name == "pm":
        from .packages import pm

        return pm
    own = {
        "cat": cat,
        "cmd": cmd,
        "date": date,
        "df": df,
        "dumpsys": dumpsys,
        "getprop": getprop,
        "pidof": pidof,
        "run-as": run_as,
        "setprop": setprop,
    }
    return own[name]


def fail(message: str, status: int = 1) -> int:
    """Says why on standard error."""
    sys.stdout.flush()
    print(message, file=sys.stderr)
    return status


# --- What the phone is ------------------------------------------------------------------------------------------------


def getprop(state: State, arguments: list[str]) -> int:
    found = state.properties()
    if arguments:
        print(found.get(arguments[0], arguments[1] if len(arguments) > 1 else ""))
    else:
        print("\n".join(f"[{name}]: [{value}]" for name, value in sorted(found.items())))
    return 0


def setprop(state: State, arguments: list[str]) -> int:
    with state.change() as now:
        now["properties"][arguments[0]] = arguments[1]
    return 0


def dumpsys(state: State, arguments: list[str]) -> int:
    service, *more = arguments or [""]
    if service == "activity" and more[:1] == ["exit-info"]:
        print(exits.listed(state), end="")
    elif service == "activity" and more[:1] == ["services"]:
        print(services(state), end="")
    elif service == "package" and more:
        if more[0] == PACKAGE and state.read()["installed"]:
            print(_filled(state, state.text("package")), end="")
        else:
            print(f"Unable to find package: {more[0]}")
    elif service == "meminfo" and more:
        pid = App(state).pid
        if pid is None or more[-1] not in (str(pid), PACKAGE):
            print(f"No process found for: {more[-1]}")
        else:
            print(_filled(state, state.text("meminfo")), end="")
    elif text := state.text(service.replace("/", "-")):
        print(_filled(state, text), end="")
    else:
        print(f"Can't find service: {service}")
    return 0


def services(state: State) -> str:
    """The app's service, while it trains."""
    pid, head = App(state).pid, "ACTIVITY MANAGER SERVICES (dumpsys activity services)\n"
    if pid is None:
        return f"{head}  (nothing)\n"
    return (
        f"{head}  User 0 active services:\n  * ServiceRecord{{9b3f0d1 u0 {PACKAGE}/.TrainService}}\n"
        f"    app=ProcessRecord{{4a1c2e7 {pid}:{PACKAGE}/u0a214}}\n    isForeground=true foregroundId=1 foregroundNoti=Notification(...)\n"
    )


def _filled(state: State, text: str) -> str:
    """With the numbers of the app's process."""
    if "{pid}" not in text and "{total_pss_kb}" not in text:
        return text
    pid = App(state).pid
    return text.replace("{pid}", str(pid)).replace("{total_pss_kb}", str(_pss_kb(pid)))


def _pss_kb(pid: int | None) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def date(state: State, arguments: list[str]) -> int:
    """This machine's, by the phone's clock; a date of the caller's own is left alone."""
    given = (
        [] if any(word.startswith(("-d", "--date", "-r")) for word in arguments) else ["-d", f"@{clock.now(state):.9f}"]
    )
    rest = os.environ["PATH"].partition(":")[2]
    os.execvpe("date", ["date", *given, *arguments], {**os.environ, "PATH": rest})


def df(state: State, arguments: list[str]) -> int:
    """In toybox's columns; of the storage that the test made full, what it said is free."""
    unit = 1024
    print("Filesystem     1K-blocks      Used Available Use% Mounted on")
    for path in [word for word in arguments if not word.startswith("-")] or [str(state.root / "sdcard")]:
        try:
            found = os.statvfs(path)
        except OSError as error:
            return fail(f"df: {path}: {error.strerror}")
        total, free = found.f_blocks * found.f_frsize // unit, found.f_bavail * found.f_frsize // unit
        left = state.read()["free"]
        if left is not None and storage.counts(Path(path), state):
            free = left // unit
        used = total - free
        print(f"{'/dev/fuse':14} {total:9} {used:9} {free:9} {-(-100 * used // total):3}% /storage/emulated")
    return 0


# --- What runs on it --------------------------------------------------------------------------------------------------


def pidof(state: State, arguments: list[str]) -> int:
    pid = App(state).pid if arguments == [PACKAGE] else None
    if pid is None:
        return 1
    print(pid)
    return 0


def run_as(state: State, arguments: list[str]) -> int:
    package, *command = arguments or [""]
    now = state.read()
    if package != PACKAGE or not now["installed"]:
        return fail(f"run-as: unknown package: {package}")
    if not now["debuggable"]:
        return fail(f"run-as: package not debuggable: {package}")
    state.internal.mkdir(parents=True, exist_ok=True)
    os.chdir(state.internal.parent)
    words = [on_this_machine(word, state.root) for word in command] or ["sh"]
    try:
        os.execvp(words[0], words)
    except OSError as error:
        return fail(f"run-as: exec failed for {words[0]}: {error.strerror}")


def cmd(state: State, arguments: list[str]) -> int:
    service, *more = arguments or [""]
    if service not in ("package", "activity"):
        return fail(f"cmd: Can't find service: {service}", 20)
    return _command({"package": "pm", "activity": "am"}[service])(state, more)


def cat(state: State, arguments: list[str]) -> int:
    """There only while the storage is about to be full: counts what goes to it."""
    target = Path(os.readlink("/proc/self/fd/1"))
    out = open(1, "wb", buffering=0, closefd=False)  # noqa: SIM115
    for name in arguments or ["-"]:
        try:
            file = open(0 if name == "-" else name, "rb")  # noqa: SIM115
        except OSError as error:
            return fail(f"cat: {name}: {error.strerror}")
        with file:
            while data := file.read1(65536):
                try:
                    storage.write(out, data, target, state)
                except OSError as error:
                    return fail(f"cat: xwrite: {error.strerror}")  # as toybox says it
    return 0
