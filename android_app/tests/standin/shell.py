"""The phone's shell: this machine's, with the phone's own commands before it on the PATH, and the phone's paths led to its folder."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from .paths import on_this_machine
from .state import State

# cat and date come to these only when a test has the phone differ in them.
COMMANDS = ("am", "cmd", "df", "dumpsys", "getprop", "logcat", "pidof", "pm", "run-as", "setprop")


def install_commands(state: State) -> None:
    """Writes the folder of the phone's own commands."""
    if shlex.quote(str(state.root)) != str(state.root):
        raise ValueError(f"{state.root} is to stand in commands as it is: it must not need quotes.")
    for name in COMMANDS:
        add_command(state, name)


def add_command(state: State, name: str) -> None:
    # -S and -E: what is installed for Python beside its own library is not needed, and takes its time.
    words = [sys.executable, "-S", "-E", str(Path(__file__).with_name("command.py")), str(state.root), name]
    file = state.root / "bin" / name
    file.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    file.chmod(0o755)


def refuse_command(state: State, name: str, message: str) -> None:
    """Has a command say why not, on standard error, and fail."""
    file = state.root / "bin" / name
    file.write_text(f"#!/bin/sh\necho {shlex.quote(message)} >&2\nexit 1\n")
    file.chmod(0o755)


def environment(state: State) -> dict[str, str]:
    """Nothing of the test's own, but where the machine's commands are."""
    return {
        "PATH": f"{state.root / 'bin'}:{os.environ.get('PATH', os.defpath)}",
        "HOME": "/",
        "TMPDIR": str(state.root / "data" / "local" / "tmp"),
        "ANDROID_ROOT": "/system",
    }


def start(state: State, command: str, terminal: str = "", **pipes: Any) -> "subprocess.Popen[bytes]":
    """Starts a command line in a process group of its own."""
    return subprocess.Popen(
        ["/bin/sh", "-c", on_this_machine(command, state.root)],
        cwd=state.root,
        env={**environment(state), **({"TERM": terminal} if terminal else {})},
        start_new_session=True,
        **pipes,
    )
