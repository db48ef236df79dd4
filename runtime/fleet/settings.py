"""What is chosen for a fleet: by its project for all of it, by a node for itself alone.

A project's choices are Flower's run configuration, ``[tool.flwr.app.config]`` of its pyproject.toml: flat names, a dot where TOML has a table.
A node's are Flower's node configuration or, in a simulation, an entry of the clients' file. What a run reads is chosen by the node
alone: nothing that comes from the server names a file there.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..account import Account, check_names, shown
from ..contract.limits import allows
from ..errors import UsageError
from ..training.settings import DEFINITIONS, PATHS, TrainSettings

# Settings of a run that are a node's own: its files, and what follows from them and from its machine.
OF_NODE = (*PATHS, "eval_split", "map", "threads", "find_threads", "allow_other_base")
# Of a round there is one adapter, its last, and the fleet evaluates it.
_OF_NO_FLEET = ("eval_every", "patience", "keep_checkpoints")
OF_FLEET = tuple(name for name in DEFINITIONS if name not in (*OF_NODE, *_OF_NO_FLEET))
_KEYS = ("num-supernodes", "partition-id", "num-partitions")  # Flower's own
PRIVACY = ("none", "secure-aggregation", "central", "central-clients", "local")


@dataclass(frozen=True)
class Privacy:
    """What hides one client's part.

    Args:
        mode: secure-aggregation: the server sees the mean alone. central: the server clips and adds noise. central-clients: the clients clip,
            the server adds noise. local: each client clips and adds noise before it sends
        clipping_norm: the largest norm of a client's change of the adapter; of secure aggregation, the largest number in an adapter
        noise_multiplier: central: standard deviation of the noise, as a multiple of clipping_norm, over the number of clients
        epsilon, delta: local: the guarantee of one round
    """

    mode: str = "none"
    clipping_norm: float = 1.0
    noise_multiplier: float = 1.0
    epsilon: float = 10.0
    delta: float = 1e-5


@dataclass(frozen=True)
class FleetSettings:
    """The choices of a fleet.

    Args:
        bundle: the server's copy; None on a client that has its own
        output: the fleet's folder, on the server
        rounds: how many
        clients: a simulation's clients: a file with a table for each
        resume: go on with the fleet in that folder, after its last round
        adapter: a PEFT adapter to start from, instead of the bundle's initial one
        round_seconds: how long a round waits for its clients
        start_clients: how many the first round waits for
        min_clients: how many a round needs to begin, and how many adapters to count
        wait_seconds: how long each of these is waited for
        strategy: name of Flower's class; strategy_options: its arguments
        train: the settings of each client's run in a round, by the names of ``mesp train``
        privacy: what hides a client's part
    """

    bundle: Path | None
    output: Path
    rounds: int = 3
    clients: Path | None = None
    resume: bool = False
    adapter: Path | None = None
    round_seconds: float = 3600.0
    start_clients: int = 1
    min_clients: int = 1
    wait_seconds: float = 300.0
    strategy: str = "FedAvg"
    strategy_options: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    privacy: Privacy = field(default_factory=Privacy)

    @staticmethod
    def of(config: Mapping[str, Any]) -> "FleetSettings":
        """The choices of a run configuration.

        Raises:
            UsageError: a name that is none, or a value that cannot be.
        """
        account = Account("The project's configuration", config)
        tables = {name: _table(account, config, name) for name in ("strategy", "train", "privacy")}
        settings = FleetSettings(
            bundle=_path(account, "bundle"),
            output=_path(account, "output") or Path("fleet"),
            rounds=account.integer("rounds", 1, 1 << 20, FleetSettings.rounds),
            clients=_path(account, "clients"),
            resume=account.flag("resume", False),
            adapter=_path(account, "adapter"),
            round_seconds=account.number("round-seconds", FleetSettings.round_seconds),
            wait_seconds=account.number("wait-seconds", FleetSettings.wait_seconds),
            start_clients=account.integer("start-clients", 1, 1 << 20, FleetSettings.start_clients),
            min_clients=account.integer("min-clients", 1, 1 << 20, FleetSettings.min_clients),
            strategy=str(tables["strategy"].pop("name", FleetSettings.strategy)),
            strategy_options={name.replace("-", "_"): value for name, value in tables["strategy"].items()},
            train=_train(tables["train"]),
            privacy=_privacy(tables["privacy"]),
        )
        account.finish("names that are none of a fleet's", "Take them out; mesp fleet new writes all that there are.")
        return settings


@dataclass(frozen=True)
class NodeSettings:
    """The choices of one client.

    Args:
        name: what it is called in the report
        data: its training rows
        eval_data: its held-out rows; or eval_split: the part of ``data`` that is held out
        map: what its rows call the keys of their kind
        bundle: its copy; None for the place that the project names
        output: the folder of its runs
        phone: the serial number of the phone that trains; None for this machine
        threads: of the programs; None for one a core
        keep_rounds: whole runs that are kept; of older ones the logs and the report
    """

    name: str
    data: Path
    eval_data: Path | None = None
    eval_split: float | None = None
    map: str | None = None
    bundle: Path | None = None
    output: Path = Path("fleet-client")
    phone: str | None = None
    threads: int | None = None
    keep_rounds: int = 2

    @staticmethod
    def of(config: Mapping[str, Any], where: str, name: str) -> "NodeSettings":
        """The choices of a node configuration.

        Args:
            where: it is from, for messages
            name: that it has if it gives itself none

        Raises:
            UsageError: a name that is none, or a value that cannot be; no data.
        """
        account = Account(where, config)
        account.ignore(*_KEYS)
        data = _path(account, "data")
        if data is None:
            raise UsageError(f'{where} names no data: give the client its rows, as data = "FILE".')
        split = account.number("eval-split") if "eval-split" in account else None
        settings = NodeSettings(
            name=account.text("name", name),
            data=data,
            eval_data=_path(account, "eval-data"),
            eval_split=split,
            map=account.text("map", "") or None,
            bundle=_path(account, "bundle"),
            output=_path(account, "output") or Path("fleet-client") / name,
            phone=account.text("phone", "") or None,
            threads=account.integer("threads", 1, 4096) if "threads" in account else None,
            keep_rounds=account.integer("keep-rounds", 1, 1 << 20, NodeSettings.keep_rounds),
        )
        account.finish("names that are none of a client's", "Take them out.")
        settings.run({})
        return settings

    def run(self, train: Mapping[str, Any], **more: Any) -> TrainSettings:
        """The settings of a run of this client, with the fleet's.

        Raises:
            UsageError: values that no run can have.
        """
        own = {"data": self.data, "map": self.map, "threads": self.threads, "eval_split": self.eval_split}
        return TrainSettings(**{**train, **own, **more})


def read_clients(path: Path) -> list[NodeSettings]:
    """A simulation's clients: TOML with a table ``[clients.NAME]`` for each, in the order of the file. Paths are from where the file is.

    Raises:
        UsageError: no file, no TOML, no client, or one that cannot be.
    """
    try:
        tables = tomllib.loads(path.read_bytes().decode()).get("clients", {})
    except OSError as error:
        raise UsageError(f"The clients' file {path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is not TOML ({error}).") from error
    if not isinstance(tables, dict) or not tables or not all(isinstance(table, dict) for table in tables.values()):
        raise UsageError(f'{path} has no client. One is such as:\n[clients.anna]\ndata = "anna.txt"')
    return [NodeSettings.of(_from(path.parent, table), f"{path}, {name}", name) for name, table in tables.items()]


def _from(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """A client's table with its paths from the file's folder."""
    paths = ("data", "eval-data", "bundle", "output")
    return {
        name: str(folder / value) if name in paths and isinstance(value, str) else value
        for name, value in table.items()
    }


def _table(account: Account, config: Mapping[str, Any], table: str) -> dict[str, Any]:
    """Flower's flat names of a table, without its own name."""
    names = [name for name in config if name.startswith(f"{table}.")]
    return {name.removeprefix(f"{table}."): account.take(name) for name in names}


def _path(account: Account, name: str) -> Path | None:
    text = account.text(name, "")
    return Path(text).expanduser() if text else None


def _train(table: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the clients' runs."""
    values = {name.replace("-", "_"): value for name, value in table.items()}
    for name in values:
        if name in DEFINITIONS and name not in OF_FLEET:
            what = "each client's own" if name in OF_NODE else "no setting of a round"
            raise UsageError(f"The project's configuration: train.{name.replace('_', '-')} is {what}. Take it out.")
    check_names(values, OF_FLEET, "The project's configuration, train")
    for name, value in values.items():
        if not allows(DEFINITIONS[name], value):
            expected = DEFINITIONS[name].get("expected", DEFINITIONS[name]["type"])
            raise UsageError(
                f"The project's configuration: train.{name.replace('_', '-')} is {shown(value)}, but must be {expected}."
            )
    return values


def _privacy(table: Mapping[str, Any]) -> Privacy:
    account = Account("The project's configuration, privacy", table)
    mode = account.text("mode", Privacy.mode)
    if mode not in PRIVACY:
        raise UsageError(
            f"The project's configuration: privacy.mode is {shown(mode)}, but must be one of {', '.join(PRIVACY)}."
        )
    numbers = ("clipping_norm", "noise_multiplier", "epsilon", "delta")
    values = {name: account.number(name.replace("_", "-"), getattr(Privacy, name)) for name in numbers}
    account.finish("names that are none of a fleet's", "Take them out.")
    return Privacy(mode, **values)
