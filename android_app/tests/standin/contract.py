"""What the runtimes share, from runtime/contract: Python's own package of it is not there for the phone's commands."""

import json
from functools import cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parents[3] / "runtime" / "contract"


@cache
def schema(name: str) -> dict[str, Any]:
    """A schema by its name."""
    contents: dict[str, Any] = json.loads((_FOLDER / f"{name}.schema.json").read_text())
    return contents


EVAL_SEQUENCES = schema("settings")["properties"]["eval_sequences"]["default_on_phone"]


def all_settings(chosen: dict[str, Any]) -> dict[str, Any]:
    """The settings that were chosen, and for the others their defaults."""
    definitions = schema("settings")["properties"]
    found = {name: chosen.get(name, definition.get("default")) for name, definition in definitions.items()}
    if found["lr"] is None:
        found["lr"] = definitions["lr"]["default_by_optimizer"][found["optimizer"]]
    return found
