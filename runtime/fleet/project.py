"""What ``mesp fleet new`` writes: a Flower app with a fleet's settings, which ``mesp fleet run`` and ``flwr run`` take.

NAME/pyproject.toml     the app, and the settings of the fleet
NAME/clients.toml       the clients of a simulation, and what a node's own configuration looks like
NAME/NAME/              client_app.py, server_app.py
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..engine.bundle import open_bundle
from ..errors import UsageError
from ..files import check_absent, folder_that_appears_whole
from .settings import read_clients

_PYPROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.0.0"
description = "A fleet: one adapter from the data of many"
license = "Apache-2.0"
dependencies = []  # mesp and Flower are installed on every machine

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "mesp"
fab-include = ["{name}/**/*.py"]

[tool.flwr.app.components]
serverapp = "{name}.server_app:app"
clientapp = "{name}.client_app:app"

# What is chosen for the fleet. Whole paths: Flower runs the app from a folder of its own.
[tool.flwr.app.config]
bundle = {bundle}         # the server's copy; a client's, if it names none
output = {output}         # the fleet's folder, on the server
clients = {clients}       # of a simulation
adapter = ""              # a PEFT adapter to start from; the bundle's initial one if empty
rounds = 3
start-clients = {count}         # the first round waits for so many, wait-seconds at most
min-clients = {fewest}           # fewer clients are no round, and fewer adapters do not count
wait-seconds = 300
round-seconds = 3600      # a client that answers later is left out of the round
resume = false            # go on with the fleet in output, after its last round

# Flower's strategies: FedAvg, FedAvgM, FedAdam, FedAdagrad, FedYogi, FedMedian, FedTrimmedAvg, Krum, MultiKrum, Bulyan.
# What else stands here is an argument of that class, such as fraction-train = 0.5, or server-momentum = 0.9 of FedAvgM.
[tool.flwr.app.config.strategy]
name = "FedAvg"

# Each client's run in a round: the settings of mesp train, but those that are the client's own.
[tool.flwr.app.config.train]
steps = 20
optimizer = "adamw"
lr = 2e-4
seed = 0

# none, secure-aggregation, central, central-clients or local: docs in runtime/fleet/README.md.
[tool.flwr.app.config.privacy]
mode = "none"
clipping-norm = 1.0
noise-multiplier = 1.0
epsilon = 10.0
delta = 1e-5
"""
_CLIENT = '''"""The clients of the fleet: this machine, or the phone that a node's configuration names."""

from mesp.device.fleet import worker
from mesp.runtime.fleet.client import client_app

app = client_app(worker)
'''
_SERVER = '''"""The server of the fleet."""

from mesp.runtime.fleet.server import server_app

app = server_app()
'''
_HEAD = """# The clients of a simulation, each with its own rows. A node of a real fleet has the same names on its command line:
#   flower-supernode --node-config 'name="anna" data="/home/anna/chat.jsonl" bundle="/home/anna/bundle"'
# Also: eval-data or eval-split, map, output, threads, keep-rounds, and phone: the serial number of the phone that trains.
"""


def new_project(folder: Path, bundle: Path, data: Sequence[Path], eval_split: float | None) -> Path:
    """Writes a project.

    Args:
        folder: to make; its name is the app's
        bundle: what the fleet trains
        data: the rows of each of a simulation's clients
        eval_split: the part of each that is held out

    Raises:
        UsageError: a name that Flower does not take, a folder that is there, no bundle, a file that is not there or is there twice.
    """
    name = folder.resolve().name
    if not re.fullmatch(r"[a-z][a-z0-9]{0,31}", name):  # what Flower takes, and Python as a package
        raise UsageError(
            f"{name} cannot be an app's name: expected at most 32 small letters and digits, a letter first."
        )
    check_absent(folder)
    open_bundle(bundle)
    if missing := [file for file in data if not file.is_file()]:
        raise UsageError(f"There is no file {missing[0]}.")
    values = {
        "name": name,
        "bundle": _text(bundle),
        "output": _text(_beside(folder)),
        "clients": _text(folder / "clients.toml"),
        "count": max(1, len(data)),
        "fewest": min(2, max(1, len(data))),
    }
    with folder_that_appears_whole(folder) as new:
        (new / "pyproject.toml").write_text(_PYPROJECT.format(**values), encoding="utf-8")
        (new / "clients.toml").write_text(_clients(folder, data, eval_split), encoding="utf-8")
        package = new / name
        package.mkdir()
        (package / "__init__.py").write_text('"""The app of a fleet."""\n', encoding="utf-8")
        (package / "client_app.py").write_text(_CLIENT, encoding="utf-8")
        (package / "server_app.py").write_text(_SERVER, encoding="utf-8")
    if data:
        read_clients(folder / "clients.toml")
    return folder


def _clients(folder: Path, data: Sequence[Path], eval_split: float | None) -> str:
    tables = [_HEAD]
    for name, file in zip(_unique(data), data, strict=True):
        lines = [
            f"[clients.{json.dumps(name)}]",
            f"data = {_text(file)}",
            f"output = {_text(_beside(folder) / 'clients' / name)}",
        ]
        tables.append("\n".join([*lines, *([f"eval-split = {eval_split}"] if eval_split else [])]) + "\n")
    return "\n".join(tables)


def _beside(folder: Path) -> Path:
    """Where the fleet's folder goes: Flower reads all that is below the project."""
    return folder.with_name(f"{folder.resolve().name}-run")


def _unique(data: Sequence[Path]) -> list[str]:
    """A name for each client: its file's, with a number where that is not enough."""
    stems = [file.name.partition(".")[0] for file in data]
    return [stem if stems.count(stem) == 1 else f"{stem}-{place}" for place, stem in enumerate(stems, 1)]


def _text(path: Path) -> str:
    return json.dumps(os.path.abspath(path))
