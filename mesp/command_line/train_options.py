"""Options that are the same for runs here and on a phone: a run's settings, from contract/settings.schema.json, and what is reported.

An option that is not given leaves nothing in the parsed arguments, so that a configuration file's value can take its place.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesp.runtime.contract import schema
from mesp.runtime.contract.limits import types_of
from mesp.runtime.training.settings import MEMORY

if TYPE_CHECKING:
    from mesp.runtime.training.settings import TrainSettings


RARE = "rarely needed"  # the heading of options that few people need


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each setting, by its name, under the heading of its group, and one for a file of them."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE.toml",
        help="settings by the names of the options; options given here win; none if not given",
    )
    definitions = schema("settings")["properties"]
    headings = dict.fromkeys(definition["group"] for definition in definitions.values() if definition["group"] != RARE)
    groups = {heading: parser.add_argument_group(heading) for heading in [*headings, RARE]}
    exclusive: dict[str, argparse._MutuallyExclusiveGroup] = {}
    for name, definition in definitions.items():
        place: argparse._ActionsContainer = groups[definition["group"]]
        if other := definition.get("alternative_to"):
            if other not in exclusive:
                exclusive[name] = groups[definition["group"]].add_mutually_exclusive_group()
            place = exclusive.get(other) or exclusive[name]
        _add_option(place, name, definition)


def add_memory_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a run that its memory depends on."""
    definitions = schema("settings")["properties"]
    for name in MEMORY:
        _add_option(parser, name, definitions[name])


def add_generate_options(parser: argparse.ArgumentParser) -> None:
    """Adds how text is made, by contract/generation.schema.json."""
    rare = parser.add_argument_group(RARE)
    for name, definition in schema("generation")["properties"].items():
        _add_option(rare if definition["group"] == RARE else parser, name, definition)


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that are on the command line, by name."""
    return {name: getattr(args, name) for name in schema("settings")["properties"] if hasattr(args, name)}


def chosen_settings(args: argparse.Namespace) -> "TrainSettings":
    """The settings of a run: the command line's over the configuration file's over the defaults.

    Raises:
        UsageError: there is no data, the file cannot be used, or a value that no run can have.
    """
    from mesp.runtime.training.config import merged, read_config

    return merged(given_settings(args), read_config(args.config) if args.config else {})


def _add_option(place: argparse._ActionsContainer, name: str, definition: Mapping[str, Any]) -> None:
    option, default, help_ = "--" + name.replace("_", "-"), definition.get("default"), definition["description"]
    types = types_of(definition)
    if default and "boolean" in types:
        help_ += f" (default: {option})"
    elif default is not None and "boolean" not in types:
        help_ += f" (default: {default})"
    if "boolean" in types:
        # What is on by default needs a way to switch it off.
        action = argparse.BooleanOptionalAction if default else "store_true"
        place.add_argument(option, action=action, default=argparse.SUPPRESS, help=help_)
        return
    place.add_argument(
        option,
        type=_reader(types, definition),
        choices=definition.get("enum"),
        default=argparse.SUPPRESS,
        metavar=definition.get("metavar"),
        help=help_,
    )


def _reader(types: list[str], definition: Mapping[str, Any]) -> type:
    """What makes a value of an option's text."""
    if definition.get("format") == "path":
        return Path
    return int if "integer" in types else float if "number" in types else str


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Adds the runs, and where their page goes."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the page to write; if not given, RUN/report.html, and for several runs report.html",
    )


def add_bench_options(parser: argparse.ArgumentParser) -> None:
    """What a bench takes, here and on a phone."""
    parser.add_argument(
        "--cell", action="append", default=[], metavar="NAME", help="run only this one; repeatable; all if not given"
    )
    parser.add_argument("--repeats", type=int, metavar="N", help="instead of the table's, which it is if not given")
    parser.add_argument(
        "--keep-bundles", action="store_true", help="keep every cell's bundle here, and use one that was kept before"
    )
