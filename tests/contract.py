"""Checks real output against the schemas of runtime/contract, and says which field is wrong."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from mesp.runtime.contract import FOLDER, schema

NAMES = sorted(file.name.removesuffix(".schema.json") for file in FOLDER.glob("*.schema.json"))


@cache
def validator(name: str) -> Draft202012Validator:
    """The schema of this name, with all that it refers to."""
    resources = [(f"{other}.schema.json", Resource.from_contents(schema(other))) for other in NAMES]
    registry: Registry[Any] = Registry().with_resources(resources)
    return Draft202012Validator(schema(name), registry=registry)


def problems(name: str, value: Any) -> list[str]:
    """What in a value is not as the schema says: places and reasons, also those inside of alternatives."""
    found = []
    for error in validator(name).iter_errors(value):
        leaves = sorted(error.context or [], key=lambda leaf: -len(leaf.absolute_path))[:4] or [error]
        found += [f"{leaf.json_path}: {leaf.message[:300]}" for leaf in leaves]
    return found


def check(name: str, value: Any) -> None:
    assert not (found := problems(name, value)), f"not as {name}.schema.json says:\n" + "\n".join(found)


def read_json(text: str) -> Any:
    """Python also reads NaN and Infinity, which are not JSON."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def folder_value(path: Path) -> dict[str, Any]:
    """A folder as run_folder.schema.json describes it; files that a running process has not yet renamed are left out."""
    return {item.name: _value(item) for item in path.iterdir() if not item.name.startswith(".")}


def _value(path: Path) -> Any:
    if path.is_dir():
        return folder_value(path)
    if path.suffix == ".json":
        return read_json(path.read_text())
    if path.suffix == ".jsonl":
        # The last line of a process that was killed may be cut.
        return [read_json(line) for line in path.read_text().split("\n")[:-1]]
    return path.stat().st_size


def check_run(path: Path) -> dict[str, Any]:
    """Checks every file of a run's folder, and returns their contents."""
    value = folder_value(path)
    check("run_folder", value)
    return value


def field_names(value: Any) -> Any:
    """The fields of a value and of what it holds, without their values. Of a list, the fields of its first item."""
    if isinstance(value, dict):
        return {name: field_names(item) for name, item in value.items()}
    if isinstance(value, list):
        return [field_names(value[0])] if value and isinstance(value[0], dict) else []
    return None
