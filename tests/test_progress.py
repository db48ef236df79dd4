"""What a person sees while a run goes on: memory and time left, in a log and on a terminal, and a bar that moves during evaluations."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from mesp.runtime.training import console_progress
from mesp.runtime.training.console_progress import Progress, in_words
from mesp.runtime.training.listener import Evaluation, Step

from .test_train import write_rows


class Rows:
    """A dataset, as far as progress looks at it."""

    examples = (1, 2, 3)
    notes = ()
    cut_rows = masked_rows = cut_tokens = 0


def step(number: int) -> Step:
    return Step(number, 3.5, 1e-4, 1.0, 16, 2.0, 358_100_000, 0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which is to be set."""
    now = [0.0]
    monkeypatch.setattr(console_progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_log_has_memory_and_the_time_that_is_left(clock: list[float]) -> None:
    log = io.StringIO()
    with Progress(Console(file=log, width=200)) as progress:
        progress.idle(300_000_000)
        progress.begin(10, 40, Rows())  # type: ignore[arg-type]
        clock[0] = 60.0  # for two steps and an evaluation
        progress.evaluated(Evaluation(10, 3.6, 20.0))
        progress.stepped(step(12))
    assert log.getvalue().splitlines()[1:] == [
        "held-out loss after step 10: 3.6000",
        "step 12/40  loss 3.5000  2.00 s  58.1 MB over idle  14 min left",
    ]


def test_the_bar_moves_during_an_evaluation() -> None:
    terminal = io.StringIO()
    with Progress(Console(file=terminal, force_terminal=True, width=120)) as progress:
        progress.begin(0, 40, Rows())  # type: ignore[arg-type]
        shown = []
        for done in (1, 2, 3):
            progress.evaluating(done, 3)
            progress._bar.refresh()
            shown.append("held-out rows" in terminal.getvalue() and f"{done}/3" in terminal.getvalue())
        progress.evaluated(Evaluation(0, 3.6, 1.0))
        terminal.truncate(0)
        progress._bar.refresh()
        assert shown == [True] * 3 and "held-out rows" not in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99.0, "99 s"), (100.0, "2 min"), (3599.0, "60 min"), (12000.0, "3 h 20 min")]
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_a_run_tells_of_its_evaluations(qwen2_fp32: Path, tmp_path: Path) -> None:
    import mesp

    heard: list[tuple[int, int]] = []

    class Hears(mesp.Listener):
        def idle(self, footprint_bytes: int) -> None:
            assert footprint_bytes > 50_000_000

        def evaluating(self, done: int, sequences: int) -> None:
            heard.append((done, sequences))

    write_rows(tmp_path / "rows.jsonl", 6)
    mesp.train(qwen2_fp32, tmp_path / "run", data=tmp_path / "rows.jsonl", eval_split=0.5, steps=1, listener=Hears())
    assert heard == [(1, 3), (2, 3), (3, 3)] * 2
