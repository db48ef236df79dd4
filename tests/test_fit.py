"""Before a run: whether it fits into the memory that there is, and with how many threads it runs."""

import json
import os
from pathlib import Path

import pytest

from mesp.runtime.errors import UsageError
from mesp.runtime.training.fit import SystemMemory, memory_warnings
from mesp.runtime.training.listener import Listener
from mesp.runtime.training.loop import train
from mesp.runtime.training.settings import TrainSettings
from mesp.runtime.training.threads import default_threads

MB = 1_000_000
# The same numbers as FitTest.kt.
PLANNED = {"block_inputs": 22 * MB, "other_buffers": 3 * MB, "adapter": 35 * MB, "adamw.m": 35 * MB, "adamw.v": 35 * MB}


def warnings(available: int, total: int = 4000, weights: int = 400) -> list[str]:
    return memory_warnings(PLANNED, weights * MB, SystemMemory(available * MB, total * MB))


def test_nothing_is_said_where_there_is_enough() -> None:
    assert warnings(available=530) == []


def test_weights_that_do_not_stay_in_memory_are_told() -> None:
    (warning,) = warnings(available=529)
    assert warning.startswith("The weights have 400.0 MB, and 399.0 MB stay free beside the run: a step reads")


def test_less_free_memory_than_a_run_takes_is_told_with_what_saves_how_much() -> None:
    assert warnings(available=129) == [
        "The run takes at least 130.0 MB of memory, and 129.0 MB are free: it may be ended for that. To save: "
        "--optimizer sgd (70.0 MB); an export with --offload inputs (22.0 MB); "
        "an export with a smaller --seq-len, --rank or --layers."
    ]


def test_more_than_there_is_in_all_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 130.0 MB of memory, and there are 129.0 MB in all. To save: "):
        warnings(available=100, total=129)


class Hears(Listener):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warned(self, warning: str) -> None:
        self.warnings.append(warning)


def test_a_run_tells_its_warnings_and_the_fastest_number_of_threads(
    qwen2_fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}\n')
    plain = train(qwen2_fp32, tmp_path / "plain", TrainSettings(rows, steps=2))
    assert plain["threads"] == default_threads() and "threads_tried" not in plain and "warnings" not in plain
    monkeypatch.setattr(SystemMemory, "now", lambda: SystemMemory(1000, 2**40))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    listener = Hears()
    report = train(qwen2_fp32, tmp_path / "run", TrainSettings(rows, steps=2, find_threads=True), listener)
    assert [trial["threads"] for trial in report["threads_tried"]] == [1, 2]
    assert report["threads"] == min(report["threads_tried"], key=lambda trial: trial["seconds"])["threads"]
    assert len(listener.warnings) == 1 and report["warnings"] == listener.warnings
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / run / "steps.jsonl").read_text().splitlines()]
        for run in ("plain", "run")
    ]
    assert losses[0] == losses[1]
