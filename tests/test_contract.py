"""What Python writes and reads is what runtime/contract says: settings, options, and the folders of runs."""

import argparse
import itertools
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from jsonschema import Draft202012Validator

from mesp.command_line.train_options import add_train_options, chosen_settings
from mesp.runtime import contract
from mesp.runtime.contract import run_files, schema
from mesp.runtime.contract.limits import allows
from mesp.runtime.errors import UsageError
from mesp.runtime.training.optimizer import Name, Shape
from mesp.runtime.training.settings import TrainSettings

from .contract import NAMES, check, problems, read_json, validator

SETTINGS = schema("settings")["properties"]


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_sound_and_strict(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))

    def objects(item: Any) -> Any:
        if isinstance(item, dict):
            if "properties" in item and item.get("type") == "object":
                yield item
            for value in item.values():
                yield from objects(value)
        elif isinstance(item, list):
            for value in item:
                yield from objects(value)

    for item in objects(schema(name)):
        assert item["additionalProperties"] is False


def test_the_names_of_phases_and_their_pattern_agree() -> None:
    phase = validator("names").evolve(schema=schema("names")["$defs"]["phase"])
    for kind in contract.PHASES:
        assert phase.is_valid(kind) or phase.is_valid(f"{kind} 12")
        assert contract.phase_kind(f"{kind} 12") == contract.phase_kind(kind) == kind
    assert not phase.is_valid("setup")
    assert (contract.LOAD, contract.BETWEEN_STEPS) == ("load", "between steps")


def test_fields_and_defaults_of_the_python_api() -> None:
    hints = get_type_hints(TrainSettings)
    assert [field.name for field in fields(TrainSettings)] == list(SETTINGS)
    for field in fields(TrainSettings):
        definition = SETTINGS[field.name]
        assert (definition.get("default", MISSING)) == field.default
        assert (type(None) in get_args(hints[field.name])) == ("null" in definition["type"])
    assert list(get_args(Name)) == SETTINGS["optimizer"]["enum"] == list(SETTINGS["lr"]["default_by_optimizer"])
    assert list(get_args(Shape)) == SETTINGS["schedule"]["enum"]


VALUES = (None, True, False, "sgd", "linear", "rows.txt", -1, 0, 1, 2, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)


@pytest.mark.parametrize("name", SETTINGS)
def test_limits_are_those_that_a_json_schema_validator_finds(name: str) -> None:
    found = [allows(SETTINGS[name], value) for value in VALUES]
    # A float without a fraction is an integer in JSON. In Python it is none, and no option reads one.
    whole = [isinstance(value, float) and "integer" in SETTINGS[name]["type"] for value in VALUES]
    expected = [Draft202012Validator(SETTINGS[name]).is_valid(value) for value in VALUES]
    assert [a for a, skip in zip(found, whole, strict=True) if not skip] == [
        a for a, skip in zip(expected, whole, strict=True) if not skip
    ]
    for value in (float("nan"), float("inf")):
        assert not allows(SETTINGS[name], value)


def test_settings_that_go_together() -> None:
    choices: dict[str, tuple[Any, ...]] = {
        "optimizer": ("sgd", "adamw"),
        "momentum": (0.0, 0.9),
        "eval_data": (None, "held-out.txt"),
        "eval_split": (None, 0.1),
        "eval_every": (None, 5),
        "patience": (None, 2),
    }
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        paths = {name: Path(value) for name, value in chosen.items() if name == "eval_data" and value}
        try:
            TrainSettings(data=Path("rows.txt"), **{**chosen, **paths})
            accepted = True
        except UsageError:
            accepted = False
        assert accepted == (not problems("settings", {"data": "rows.txt", **chosen})), chosen


def test_settings_are_written_as_the_schema_says() -> None:
    check("settings", TrainSettings(data=Path("rows.txt")).to_json())


def test_lists_of_the_settings_are_whole() -> None:
    names = list(schema("settings")["properties"])
    assert schema("run")["properties"]["settings"]["required"] == names
    given = schema("device")["properties"]["settings"]["propertyNames"]["enum"]
    assert given == [name for name in names if name != "data"]


def test_options_are_the_settings() -> None:
    parser = argparse.ArgumentParser()
    add_train_options(parser)
    actions = {action.dest: action for action in parser._actions}
    assert set(actions) - {"help", "config"} == set(SETTINGS)
    assert chosen_settings(parser.parse_args(["--data", "rows.txt"])) == TrainSettings(data=Path("rows.txt"))
    for name, definition in SETTINGS.items():
        if definition.get("default") not in (None, False):
            assert "(default: " in (actions[name].help or "")


def test_the_command_lines_help_imports_no_torch() -> None:
    code = "import sys, mesp.command_line.parser as p; p.build_parser(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_the_names_of_files_are_those_of_the_schema() -> None:
    names = [value for name, value in vars(run_files).items() if name.isupper() and isinstance(value, str)]
    assert sorted(names) == sorted(schema("run_folder")["properties"])
    assert list(schema("trainer_state")["properties"]["log_bytes"]["properties"]) == list(run_files.LOGS)


def test_what_the_contract_does_not_know_is_found() -> None:
    sample = {"seconds": 0.1, "phase": "load", "footprint_bytes": 1, "rss_bytes": 2}
    assert not problems("memory_sample", sample)
    assert problems("memory_sample", {**sample, "phase": "setup"})
    assert problems("memory_sample", {**sample, "pss_bytes": 3})
    assert problems("run_folder", {"memory.jsonl": [{**sample, "phase": "setup"}]})
    assert not problems("event", {"event": "low_memory", "run": "first"})
    assert problems("event", {"event": "low_memory"})
    assert problems("event", {"event": "short_of_memory", "run": "first"})
    with pytest.raises(ValueError, match="NaN is not JSON"):
        read_json('{"loss": NaN}')
