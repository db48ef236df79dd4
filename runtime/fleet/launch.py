"""Starts a fleet: by Flower's simulation on this machine, or on a SuperLink that is there.

A simulation has a SuperLink of its own, for as long as it runs: what ``flwr run`` would start stays behind. Both get the app by ``flwr run``,
whose settings, Flower's folder, are the project's own then.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import MespError, UsageError
from ..files import make_folders
from .folder import FleetFolder
from .settings import FleetSettings, read_clients

_START_SECONDS = 60.0
_END_SECONDS = 15.0
_INSTALL = "Install it with: make fleet, or pip install 'mesp[fleet-simulation]'"


@dataclass(frozen=True)
class Project:
    """A project's folder, and the fleet's settings in it."""

    folder: Path
    settings: FleetSettings


def read_project(folder: Path, given: Mapping[str, Any]) -> Project:
    """A project with what is given over its settings.

    Raises:
        UsageError: no project of a fleet, or a setting that cannot be.
    """
    file = folder / "pyproject.toml"
    try:
        app = tomllib.loads(file.read_bytes().decode())["tool"]["flwr"]["app"]
        config = _flat(app["config"])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} is not the project of a fleet. Make one with: mesp fleet new BUNDLE --data FILE… -o PROJECT"
        ) from error
    if unknown := [name for name in given if name not in config]:
        raise UsageError(f"{file} has no {unknown[0]} to be replaced. Write it there first.")
    return Project(folder, FleetSettings.of({**config, **given}))


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A table as Flower gives it to an app: one level, with dots."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def simulate(project: Project, given: Mapping[str, Any], cores: float) -> int:
    """Runs a fleet on this machine, its clients side by side; returns the exit status.

    Args:
        given: over the project's settings, as ``flwr run --run-config`` takes them
        cores: of each client

    Raises:
        UsageError: Flower is not installed, or no clients.
        MespError: Flower's server did not start.
    """
    if find_spec("ray") is None:
        raise UsageError(f"Flower's simulation is not installed. {_INSTALL}")
    if project.settings.clients is None:
        raise UsageError(f"{project.folder} names no clients: give their file, as clients in its pyproject.toml.")
    if not project.settings.resume:
        FleetFolder(project.settings.output).check_free()
    count = len(read_clients(project.settings.clients))
    with _superlink(project.settings.output) as (home, address):
        options = f"num-supernodes={count} client-resources-num-cpus={cores:g} init-args-num-cpus={os.cpu_count() or 1}"
        return _run(project, home, address, None, given, ["--federation-config", options])


def submit(project: Project, given: Mapping[str, Any], address: str, certificate: Path | None) -> int:
    """Runs a fleet on a SuperLink that is there; returns the exit status.

    Args:
        address: HOST:PORT of its HTTP API
        certificate: of who signed the server's; None for a connection without TLS

    Raises:
        UsageError: Flower is not installed, or no certificate at its place.
    """
    if certificate is not None and not certificate.is_file():
        raise UsageError(f"There is no certificate {certificate}.")
    home = project.folder.with_name(f".{project.folder.name}.flwr")
    return _run(project, home, address, certificate, given, [])


def environment(home: Path) -> dict[str, str]:
    """Of Flower's processes: its folder is the fleet's own; it sends nothing home and looks for no update, unless it is told to; Ray neither."""
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    own = str(Path(sys.executable).parent)
    return {**quiet, **os.environ, "FLWR_HOME": str(home), "PATH": f"{own}{os.pathsep}{os.environ.get('PATH', '')}"}


def program(name: str) -> str:
    """One of Flower's programs, beside this Python or on the PATH.

    Raises:
        UsageError: it is not installed.
    """
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise UsageError(f"{name} is not installed. {_INSTALL}")
    return found


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _superlink(output: Path) -> Iterator[tuple[Path, str]]:
    """A SuperLink for a simulation: Flower's folder, and the address of the server."""
    make_folders(output)
    home, port, log = output / "flower", free_port(), output / "flower" / "superlink.log"
    make_folders(home)
    words = ["--insecure", "--simulation", "--host", "127.0.0.1", "--port", str(port)]
    with open(log, "a", encoding="utf-8") as file:
        process = subprocess.Popen(
            [program("flower-superlink"), *words],
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", log)
        yield home, f"127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise MespError(f"Flower's server did not start; what it said is in {log}.")


def _run(
    project: Project,
    home: Path,
    address: str,
    certificate: Path | None,
    given: Mapping[str, Any],
    options: list[str],
) -> int:
    """``flwr run``, whose log is followed to the end."""
    make_folders(home)
    secure = f'root-certificates = "{certificate.resolve()}"' if certificate else "insecure = true"
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "fleet"\n\n[superlink.fleet]\naddress = "{address}"\n{secure}\n', encoding="utf-8"
    )
    words = [program("flwr"), "run", str(project.folder), "fleet", "--stream", *options]
    if given:
        words += ["--run-config", " ".join(f"{name}={_toml(value)}" for name, value in given.items())]
    done = subprocess.Popen(words, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.stdout
    for line in done.stdout:
        print(re.sub(r"\x1b\[[0-9;]*m", "", line), end="", flush=True)
    return done.wait()


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)
