"""What Python, Kotlin, the harness and the tests' stand-in for a phone share, written once, as JSON Schema (draft 2020-12).

    settings.schema.json          the choices of a run: types, defaults, limits, help; options, checks and run.json follow from it
    generation.schema.json        the choices of generation: types, defaults, limits
    names.schema.json             phases in their order, statuses, reasons for a pause
    run_folder.schema.json        the folder of a run: which files there are, and which schema each follows
      run, report                   what a run was started with, and what it came to
      step, evaluation, memory_sample   lines of its logs
      text                          a line of its texts before and after
      trainer_state, adapter_config     of its checkpoints and adapters
      device, outside_sample        what the harness adds for a run on a phone
      bundle, environment           parts of run and report
    plan.schema.json              what was chosen for an export: a part of bundle and manifest
    event.schema.json             the app's lines in logcat
    manifest.schema.json          manifest.json of a bundle
    rows.json                     no schema: which keys the rows of data may have, and what becomes of each
    adapters.json                 no schema: which options of a PEFT adapter can be trained on, and which names are one model's

Every field is named and nothing may be added, so a field that one side writes and another does not know fails a test. The tests of both
runtimes hold real output against these files. At run time only settings are checked, by ``limits``; the standard library is enough for that.
``run_files`` has the names of a run's files for Python.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@cache
def schema(name: str) -> dict[str, Any]:
    """A schema by its name, such as ``report`` for report.schema.json."""
    contents: dict[str, Any] = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    return contents


@cache
def rows_table() -> dict[str, Any]:
    """What the rows of a data file may have: rows.json."""
    contents: dict[str, Any] = json.loads((FOLDER / "rows.json").read_text(encoding="utf-8"))
    return contents


@cache
def adapters_table() -> dict[str, Any]:
    """Which options of adapters can be trained on: adapters.json."""
    contents: dict[str, Any] = json.loads((FOLDER / "adapters.json").read_text(encoding="utf-8"))
    return contents


def _constants(name: str) -> tuple[str, ...]:
    """The values of a definition in names.schema.json, in their order."""
    definition = schema("names")["$defs"][name]
    return tuple(definition["enum"] if "enum" in definition else [item["const"] for item in definition["oneOf"]])


PHASES = _constants("phase_kind")  # kinds of phases, in the order of a run
LOAD, BETWEEN_STEPS = PHASES[0], PHASES[-1]
STATUSES = _constants("status")
FINISHED = _constants("finished_status")  # of a run that there is no going on with


def phase_kind(phase: str) -> str:
    """A phase without its layer: ``forward`` of ``forward 12``."""
    return phase.rstrip("0123456789 ")
