"""What core's and the app's tests have left is what runtime/contract says: runs, and lines of logcat. Run by `make test-android`, after them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from common import BUILD

from tests.contract import check, check_run, read_json

RUNS = BUILD / "runs"
# How a run ended that is not done.
STATUSES = {
    "interrupted": "interrupted",
    "killed": None,
    "diverged": "failed",
    "diverged-held-out": "failed",
    "broken": "failed",
    "refused": "failed",
}
# Of core's own tests, done.
KEPT = {"threads", "short"}


def test_there_are_runs_of_every_kind() -> None:
    cases = {folder.name for folder in (BUILD / "cases" / "runs").iterdir()}
    assert {folder.name for folder in RUNS.iterdir()} == cases | STATUSES.keys() | KEPT


@pytest.mark.parametrize("run", sorted(RUNS.iterdir()) if RUNS.is_dir() else [], ids=lambda run: run.name)
def test_a_run_is_what_the_contract_says(run: Path) -> None:
    files = check_run(run)
    assert files.get("report.json", {}).get("status") == STATUSES.get(run.name, "done")
    if run.name != "refused":
        assert files["memory.jsonl"][0]["phase"] == "load" and files["steps.jsonl"]


def test_the_apps_events_are_what_the_contract_says() -> None:
    events = [read_json(line) for line in (BUILD / "events.jsonl").read_text().splitlines()]
    for event in events:
        check("event", event)
    assert {"start", "begin", "step", "end", "refused"} <= {event["event"] for event in events}
