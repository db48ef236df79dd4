"""Options that are the same for runs here and on a phone: a run's settings, from contract/settings.schema.json, and what is reported."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesp.runtime.contract import schema
from mesp.runtime.contract.limits import types_of


def add_train_options(parser: argparse.ArgumentParser, data_required: bool = True) -> None:
    """Adds an option for each setting, by its name, under the heading of its group."""
    definitions = schema("settings")["properties"]
    headings = dict.fromkeys(definition["group"] for definition in definitions.values())
    groups = {heading: parser.add_argument_group(heading) for heading in headings}
    exclusive: dict[str, argparse._MutuallyExclusiveGroup] = {}
    for name, definition in definitions.items():
        place: argparse._ActionsContainer = groups[definition["group"]]
        if other := definition.get("alternative_to"):
            if other not in exclusive:
                exclusive[name] = groups[definition["group"]].add_mutually_exclusive_group()
            place = exclusive.get(other) or exclusive[name]
        _add_option(place, name, definition, required=name == "data" and data_required)


def add_memory_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a run that its memory depends on."""
    definitions = schema("settings")["properties"]
    for name in ("optimizer", "momentum", "grad_accumulation", "clip_norm"):
        _add_option(parser, name, definitions[name], required=False)


def _add_option(place: argparse._ActionsContainer, name: str, definition: Mapping[str, Any], required: bool) -> None:
    option, default, help_ = "--" + name.replace("_", "-"), definition.get("default"), definition["description"]
    types = types_of(definition)
    if "boolean" in types:
        # What is on by default needs a way to switch it off.
        action = argparse.BooleanOptionalAction if default else "store_true"
        place.add_argument(option, action=action, default=default, help=help_)
        return
    place.add_argument(
        option,
        type=_reader(types, definition),
        choices=definition.get("enum"),
        default=default,
        metavar=definition.get("metavar"),
        required=required,
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
        help="the page that compares several runs; report.html if not given",
    )
