"""What the steps of the Android build share: where things are, how a program is run, and how a folder is made whole or not at all."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

ANDROID = Path(__file__).resolve().parent.parent
ROOT = ANDROID.parent
BUILD = ROOT / "build" / "android"

# The names that Android and Debian have for the two processors that the APK is for.
ABIS = {"arm64-v8a": "aarch64", "x86_64": "x86_64"}


class Failure(Exception):
    """A step that cannot be done, with what to do about it. Told without a traceback."""


def main(step: Callable[[], None]) -> None:
    """Runs a step as a command: exit status 1 and a line on standard error if it fails."""
    try:
        step()
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(1)


def need(program: str, package: str) -> str:
    """The path of a program, or how to get it."""
    if path := shutil.which(program):
        return path
    raise Failure(
        f"{program} is needed and not there. As root: make android-setup. On Debian: apt-get install {package}"
    )


def run(
    *command: str | Path,
    seconds: float = 600,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    show: str | None = None,
) -> str:
    """Runs a program to its end and returns what it printed; it, and what it started, is killed after its time.

    Killed, not asked: a JVM with fbjni in it has a thread that never ends, and may not listen.

    Args:
        show: lines in which this pattern is found are printed as they come

    Raises:
        Failure: with the end of what the program said.
    """
    words = [str(word) for word in command]
    name = Path(words[0]).name
    said: list[str] = []
    late = threading.Event()
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        cwd=folder,
        text=True,
        errors="replace",
        start_new_session=True,
    )

    def end() -> None:
        late.set()
        _kill(process)

    clock = threading.Timer(seconds, end)
    clock.start()
    try:
        for line in process.stdout or ():
            said.append(line)
            if show and re.search(show, line):
                print(line, end="", flush=True)
        process.wait()
    finally:
        clock.cancel()
        _kill(process)
    text = "".join(said)
    if late.is_set():
        raise Failure(f"{name} was not done after {seconds:.0f} s and was killed.{_end(text)}")
    if process.returncode:
        raise Failure(f"{name} failed with status {process.returncode}.{_end(text)}\nThe command: {' '.join(words)}")
    return text


def _kill(process: subprocess.Popen[str]) -> None:
    """Ends a program and everything that it left running."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end(said: str) -> str:
    lines = said.strip().splitlines()[-40:]
    return "\n  " + "\n  ".join(lines) if lines else ""


def digest(files: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, in order."""
    sha = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()


def write(target: Path, content: bytes | str) -> None:
    """Writes a file beside its place and moves it there; nothing happens if it has this content already."""
    data = content.encode() if isinstance(content, str) else content
    if target.exists() and target.read_bytes() == data:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(target)


@contextlib.contextmanager
def one_at_a_time(target: Path) -> Iterator[None]:
    """Another process that makes the same target waits until this one is done."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_folder(target: Path, inputs: Iterable[Path], make: Callable[[Path], object]) -> Path:
    """Makes a folder from input files, unless it was made from the same ones.

    ``make`` fills an empty folder beside it, which then takes its place: what stands under the name is complete.
    """
    with one_at_a_time(target):
        return _make_folder(target, inputs, make)


def _make_folder(target: Path, inputs: Iterable[Path], make: Callable[[Path], object]) -> Path:
    made_from = "\n".join(f"{file.name} {digest([file])}" for file in inputs)
    stamp = target / ".made-from"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == made_from:
        return target
    part = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        part.chmod(0o755)
        make(part)
        (part / ".made-from").write_text(made_from)
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target
