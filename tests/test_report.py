"""Reports: what is drawn of a run, finished or killed, of several at once, and of logs that are long or damaged."""

import json
from pathlib import Path
from typing import Any

import pytest

from mesp.runtime.errors import UsageError
from mesp.runtime.report.charts import MOST_POINTS, series, smooth, thin
from mesp.runtime.report.figures import comparison_figures, figures_of, first_step
from mesp.runtime.report.pages import summary, unique_names, write_comparison, write_report
from mesp.runtime.report.run_folder import read_run

IDLE = 400_000_000
BUNDLE = {
    "model": "models/<tiny>.gguf",
    "plan": {
        "seq_len": [16],
        "weights": "int4",
        "group_size": 32,
        "rank": 4,
        "alpha": 8.0,
        "targets": ["q_proj", "v_proj"],
    },
}
VERSIONS = {"python": "3.11", "torch": "2.13", "executorch": "1.5", "transformers": "5.0"}
MEMORY = {
    "baseline_footprint_bytes": IDLE,
    "peak_footprint_bytes": IDLE + 9_000_000,
    "delta_footprint_bytes": 9_000_000,
    "peak_phase": "update 0",
    "vm_hwm_bytes": 2 * IDLE,
    "samples": 100,
    "longest_gap_seconds": 0.01,
    "dirty_file_and_swap_bytes": 0,
}
PHASES = {"embed": 2, "forward 0": 3, "head": 5, "backward 0": 8, "update 0": 9, "between steps": 9}
REPORT = {
    "status": "done",
    "steps": 6,
    "loss_first": 3.9,
    "loss_last": 3.4,
    "eval_loss_before": 4.0,
    "eval_loss_after": 3.6,
    "best_step": 4,
    "best_eval_loss": 3.5,
    "step_seconds_median": 2.0,
    "tokens_per_second": 8.0,
    "cut_rows": 3,
    "cut_tokens": 70,
    "masked_rows": 0,
    "environment": {"processor": "CPU", "cores": 2, "memory_bytes": 8e9, **VERSIONS},
    "bundle": BUNDLE,
    "memory": MEMORY,
}


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_run(folder: Path, finished: bool = True, steps: int = 6, **changes: Any) -> Path:
    """A run folder as training leaves it: evaluations at steps 0, 2, 4 and 6, one sample before the first step."""
    folder.mkdir(parents=True)
    start = {"settings": {"steps": 6, "lr": 0.01, "adapter": None}, "bundle": BUNDLE, "versions": VERSIONS}
    (folder / "run.json").write_text(json.dumps(start))
    fields = {"lr": 0.01, "grad_norm": 0.5, "tokens": 16, "seconds": 2.0, "peak_footprint_bytes": IDLE + 9_000_000}
    write_lines(folder / "steps.jsonl", [{"step": i, "loss": 4 - i / 10, **fields} for i in range(1, steps + 1)])
    write_lines(
        folder / "eval.jsonl", [{"step": i, "loss": 4 - i / 9, "seconds": 1.0} for i in (0, 2, 4, 6) if i <= steps]
    )
    phases = [("load", 1), *[item for _ in range(steps) for item in PHASES.items()]]
    write_lines(
        folder / "memory.jsonl",
        [
            {"seconds": i / 4, "phase": phase, "footprint_bytes": IDLE + 1_000_000 * mb, "rss_bytes": 0}
            for i, (phase, mb) in enumerate(phases)
        ],
    )
    if finished:
        (folder / "report.json").write_text(json.dumps({**REPORT, **changes}))
    return folder


def titles(run: Path) -> list[str]:
    return [figure.title for figure in figures_of(read_run(run))]


def test_a_report_is_one_file_with_every_figure(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_report(run)
    page = (run / "report.html").read_text()
    assert titles(run) == [
        "Loss",
        "Learning rate",
        "Gradient norm",
        "Tokens a second",
        "Memory over the run",
        "Memory of the first step",
        "Peak by phase",
    ]
    assert page.count("<svg") == 7
    assert "src=" not in page and "<link" not in page and "<script" not in page
    assert "models/&lt;tiny&gt;.gguf" in page and "<tiny>" not in page
    for text in ("3.5000 at step 4", "3, 70 tokens of them lost", "9.0 MB, in update 0", ">held out<", ">0.01<"):
        assert text in page
    assert "nothing to predict" not in page and "None" not in page
    assert "#010203" not in page and "currentColor" in page  # axes take the page's colour, light or dark


def test_a_killed_run_is_reported_from_its_logs(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False, steps=5)
    with open(run / "steps.jsonl", "a") as file:
        file.write('{"step": 6, "loss": 3.')
    write_report(run)
    rows = dict(summary(read_run(run).report))
    assert rows["Status"] == "unfinished" and rows["Steps"] == "5 of 6"
    assert rows["Loss, first to last step"] == "3.9000 to 3.5000"
    assert rows["Best held-out loss"] == "3.5556 at step 4"
    assert rows["Tokens a second"] == "8.0"
    assert "not finished" in rows["Peak footprint over idle"]
    page = (run / "report.html").read_text()
    assert "footprint, MB" in page and "MB over idle" not in page
    assert "Peak by phase" not in titles(run)  # it would need the idle footprint


def test_a_killed_run_that_says_its_idle_footprint_is_drawn_over_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False)
    start = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**start, "baseline_footprint_bytes": IDLE}))
    write_report(run)
    assert titles(run)[-3:] == ["Memory over the run", "Memory of the first step", "Peak by phase"]
    assert "MB over idle" in (run / "report.html").read_text()


def test_a_run_that_was_killed_at_once_is_reported(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False)
    for log in ("steps", "eval", "memory"):
        (run / f"{log}.jsonl").unlink()
    write_report(run)
    page = (run / "report.html").read_text()
    assert "0 of 6" in page and "<svg" not in page


def test_a_refused_measurement_is_told_and_not_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", memory={"refused": "12 samples are too few"})
    write_report(run)
    assert "12 samples are too few" in (run / "report.html").read_text()
    assert not [title for title in titles(run) if "emory" in title]


def test_losses_that_are_not_finite_are_left_out_of_the_figures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", status="failed", loss_last=float("nan"), eval_loss_after=None)
    log = run / "steps.jsonl"
    log.write_text(log.read_text().replace("3.4,", "NaN,").replace('"grad_norm": 0.5', '"grad_norm": 0.0'))
    assert series(read_run(run).steps, "step", "loss")[0] == [1, 2, 3, 4, 5]
    write_report(run)
    assert "3.9000 to nan" in (run / "report.html").read_text()


def test_a_run_from_before_there_was_an_evaluation_log_has_the_evaluations_of_its_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "eval.jsonl").unlink()
    assert read_run(run).evaluations == [{"step": 0, "loss": 4.0}, {"step": 6, "loss": 3.6}]


def test_only_a_last_line_may_be_cut_short(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    log = run / "steps.jsonl"
    whole = log.read_text()
    log.write_text(whole[:-1])
    assert len(read_run(run).steps) == 6
    log.write_text(whole[:-9])
    assert len(read_run(run).steps) == 5
    log.write_text(whole.replace('{"step": 3', '{"step" 3'))
    with pytest.raises(UsageError, match=r"steps\.jsonl, line 3, is damaged"):
        read_run(run)


def test_folders_and_files_that_are_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a run folder: it has no run\.json.*mesp train"):
        write_report(tmp_path)
    run = make_run(tmp_path / "run")
    (run / "report.json").write_text("[]")
    with pytest.raises(UsageError, match=r"report\.json is damaged: expected a JSON object"):
        write_report(run)


def test_runs_are_compared_in_one_page(tmp_path: Path) -> None:
    one, two = make_run(tmp_path / "a" / "run"), make_run(tmp_path / "b" / "run", best_step=2)
    killed = make_run(tmp_path / "killed", finished=False, steps=3)
    write_comparison([one, two, killed], tmp_path / "pages" / "compared.html")
    page = (tmp_path / "pages" / "compared.html").read_text()
    assert page.count("<svg") == 6 and "src=" not in page
    for name in ("a/run", "b/run", "killed"):
        assert page.count(f"</span>{name}<") >= 2
    assert page.count("models/&lt;tiny&gt;.gguf") == 1  # what all share is there once
    assert page.count("at step 4<") == 1 and "3 of 6" in page
    assert "Rows with nothing to predict" not in page  # none has it
    labels = [line.split('scope="row">')[1].split("<")[0] for line in page.splitlines() if 'scope="row"' in line]
    assert labels.index("Status") < labels.index("Rows cut to the sequence") < labels.index("Samples")


def test_a_run_without_a_figures_numbers_is_not_in_that_figure(tmp_path: Path) -> None:
    runs = {"whole": read_run(make_run(tmp_path / "whole"))}
    runs["killed"] = read_run(make_run(tmp_path / "killed", finished=False))
    legends = {figure.title: [name for name, _ in figure.legend] for figure in comparison_figures(runs)}
    assert legends["Loss"] == ["whole", "killed"] and legends["Memory over the run"] == ["whole"]


def test_names_of_runs_are_made_unique(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("x/a/run", "y/a/run", "y/b/run", "other")]
    assert unique_names(paths) == ["x/a/run", "y/a/run", "b/run", "other"]
    with pytest.raises(UsageError, match="is named twice"):
        unique_names([tmp_path / "run", tmp_path / "x" / ".." / "run"])


def test_comparisons_that_cannot_be_drawn_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"must be a file that ends in \.html"):
        write_comparison([run], run / "steps.jsonl")
    with pytest.raises(UsageError, match="9 runs cannot be compared: expected 1 to 8"):
        write_comparison([run] * 9, tmp_path / "page.html")
    with pytest.raises(UsageError, match="is not a run folder"):
        write_comparison([run, tmp_path], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_long_log_makes_a_file_of_sensible_size(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=4000)
    write_report(run)
    assert (run / "report.html").stat().st_size < 400_000


def test_thinning_keeps_the_ends_of_the_range_and_the_order() -> None:
    y = [float((i * 7919) % 1000) for i in range(12_345)]
    y[5000], y[5001] = 1e6, -1e6
    x, kept = thin(range(len(y)), y)
    assert len(kept) <= MOST_POINTS and list(x) == sorted(x)
    assert max(kept) == 1e6 and min(kept) == -1e6
    assert [y[int(i)] for i in x] == kept
    assert thin([1, 2], [3, 4]) == ([1, 2], [3, 4])


def test_smoothing_is_the_mean_of_the_last_tenth() -> None:
    values = [float(i**2 % 17) for i in range(40)]
    means = [sum(values[max(0, i - 3) : i + 1]) / min(i + 1, 4) for i in range(40)]
    assert smooth(values) == pytest.approx(means)
    assert smooth([]) == []


def test_the_first_step_is_the_first_with_a_backward_pass(tmp_path: Path) -> None:
    samples = read_run(make_run(tmp_path / "run", steps=2)).samples
    evaluation = [{**samples[0], "phase": phase} for phase in ("embed", "head", "between steps")]
    before, step = first_step(evaluation + samples)
    assert [sample["phase"] for sample in before] == ["embed", "head", "between steps", "load"]
    assert [sample["phase"] for sample in step] == ["embed", "forward 0", "head", "backward 0", "update 0"]
    assert first_step(evaluation) == (evaluation, [])
