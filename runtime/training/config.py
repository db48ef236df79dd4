"""A configuration file: settings over the defaults and under the command line, by the names of contract/settings.schema.json.

    data = "chat.jsonl"
    steps = 200
    lr = 1e-4

It is TOML. A path in it is from where the command is started, as on the command line.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..account import check_names
from ..errors import UsageError
from .settings import DEFINITIONS, TrainSettings


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a file, by name.

    Raises:
        UsageError: no file, no TOML, two settings of which a run takes one, or a key that is no setting, with the one that comes nearest.
    """
    try:
        values = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise UsageError(f"The configuration file {path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(
            f'{path} is not TOML ({error}). A line of it is such as: steps = 200, or data = "chat.jsonl"'
        ) from error
    check_names(values, DEFINITIONS, str(path))
    for name in values:
        if (other := DEFINITIONS[name].get("alternative_to")) in values:
            raise UsageError(f"{path}: {name} and {other} are two ways to say the same. Keep one of them.")
    return values


def merged(given: Mapping[str, Any], config: Mapping[str, Any]) -> TrainSettings:
    """The settings of a run: what is given over a file's over the defaults. One that is given also replaces its alternative.

    Args:
        given: by name, such as those of the command line
        config: by name, of ``read_config``; paths are text

    Raises:
        UsageError: there is no data, or a value that no run can have.
    """
    return settings_of(over(given, config))


def over(given: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, and of the other values those that it does not replace."""
    replaced = {DEFINITIONS[name].get("alternative_to") for name in given}
    return {name: value for name, value in config.items() if name not in replaced} | dict(given)


def settings_of(values: Mapping[str, Any]) -> TrainSettings:
    """Settings from their values as JSON or TOML has them, by name.

    Raises:
        UsageError: there is no data, or a value that no run can have.
    """
    if values.get("data") is None:
        raise UsageError('Give the rows to train on: --data FILE, or data = "FILE" in a configuration file.')
    return TrainSettings(**values)
