"""Reports: what is drawn of a run, finished or killed, of several at once, and of logs that are long or damaged."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mesp.runtime.errors import UsageError
from mesp.runtime.report import comparison
from mesp.runtime.report.charts import MOST_POINTS, UNITS, Line, line_chart, round_numbers, series, smooth, thin
from mesp.runtime.report.figures import first_step, loss_chart, other_charts
from mesp.runtime.report.headline import cards
from mesp.runtime.report.memory_bar import bars
from mesp.runtime.report.pages import unique_names, write_comparison, write_report
from mesp.runtime.report.run_folder import read_run
from mesp.runtime.report.texts import Text, add_text
from mesp.runtime.report.words import WHY_TOP_IS_MORE, duration, summary

from .contract import check

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
        "method": "mesp",
        "seed": 0,
    },
}
PLANNED = {
    "block_inputs": 3_000_000,
    "other_buffers": 0,
    "adapter": 1_000_000,
    "adamw.m": 1_000_000,
    "adamw.v": 1_000_000,
    "program_results": 500_000,
}
VERSIONS = {"python": "3.11", "torch": "2.13", "executorch": "1.5", "transformers": "5.0"}
MEMORY = {
    "baseline_footprint_bytes": IDLE,
    "peak_footprint_bytes": IDLE + 9_000_000,
    "delta_footprint_bytes": 9_000_000,
    "peak_phase": "update 0",
    "vm_hwm_bytes": 2 * IDLE,
    "vm_hwm_is_of_the_run": True,
    "samples": 100,
    "longest_gap_seconds": 0.01,
    "longest_gap_phase": "load",
    "dirty_file_and_swap_bytes": 0,
    "baseline_is_stable": False,
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
    "step_major_faults_median": 1234.0,
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
    settings = {"steps": 6, "optimizer": "adamw", "lr": 0.01, "adapter": None}
    data = {"data": {"examples": 6, "sha256": "d" * 64}, "eval_data": {"examples": 2, "sha256": "e" * 64}}
    start = {"settings": settings, "bundle": BUNDLE, "versions": VERSIONS, "planned_bytes": PLANNED, **data}
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
            {
                "seconds": i / 4,
                "phase": phase,
                "footprint_bytes": IDLE + 1_000_000 * mb,
                "rss_bytes": IDLE + 1_000_000 * mb,
            }
            for i, (phase, mb) in enumerate(phases)
        ],
    )
    if finished:
        (folder / "report.json").write_text(json.dumps({**REPORT, **changes}))
    return folder


class Page(HTMLParser):
    """A page, read: each element closed where it was opened, and its text without markup."""

    VOID = frozenset({"meta", "path"})

    def __init__(self, path: Path):
        super().__init__()
        self._open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.source = path.read_text()
        self.feed(self.source)
        self.close()
        assert not self._open, f"not closed: {self._open}"
        self.text = " ".join(self.words)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not {name for name, _ in attributes} & {"src", "href", "onload", "onerror"}, attributes
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"] and data.strip():
            self.words.append(" ".join(data.split()))


def drawn(run: Path) -> Page:
    write_report(run)
    return Page(run / "report.html")


def titles(run: Path) -> list[str]:
    folder = read_run(run)
    loss = loss_chart(folder)
    return [chart.title for chart in [*([loss] if loss else []), *other_charts(folder)]]


def test_a_report_may_be_drawn_elsewhere(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert write_report(run) == run / "report.html"
    elsewhere = write_report(run, tmp_path / "pages" / "one.html")
    assert elsewhere.read_text() == (run / "report.html").read_text()
    with pytest.raises(UsageError, match=r"must be a file that ends in \.html"):
        write_report(run, run / "steps.jsonl")


def test_a_report_begins_with_the_four_numbers(tmp_path: Path) -> None:
    page = drawn(make_run(tmp_path / "run"))
    held_out, peak, time, status = cards(read_run(tmp_path / "run"))
    assert page.words[:2] == ["Fine-tuning of <tiny>.gguf"] * 2
    about = "run · 16 tokens · weights int4 32 · mesp, rank 4 · adamw, learning rate 0.01"
    assert page.words[2] == f"{tmp_path.name}/{about}"
    assert held_out.value == "4.000 → 3.600" and held_out.notes[0] == "perplexity 54.6 → 36.6"
    assert (
        peak.value == "9.0 MB"
        and "in update 0" in peak.notes
        and any("top shows 800 MB" in note for note in peak.notes)
    )
    assert time.value == "16 s" and time.notes == (
        "2 s a step, median",
        "8 tokens a second",
    )  # six steps, four evaluations
    assert (status.value, status.tone, status.notes) == ("done", "good", ("6 steps",))
    order = [
        page.text.index(text)
        for text in (held_out.value, peak.value, time.value, "loss, nats a token", "Where the memory is")
    ]
    assert order == sorted(order)


def test_a_report_is_one_file_with_every_chart_and_its_labels(tmp_path: Path) -> None:
    page = drawn(make_run(tmp_path / "run"))
    assert titles(tmp_path / "run") == [
        "Loss",
        "Gradient norm",
        "Speed",
        "Memory of the first step",
        "Memory over the run",
    ]
    assert page.tags.count("svg") == 5
    assert not {"script", "link", "img", "iframe"} & set(page.tags) and "@import" not in page.source
    for text in (
        "loss, nats a token",
        "step",
        "seconds",
        "tokens a second",
        "norm",
        "MB over idle",
        "held out",
        "training",
    ):
        assert text in page.words, text
    assert "None" not in page.words and "nothing to predict" not in page.text
    assert "prefers-color-scheme: dark" in page.source and "currentColor" in page.source


def test_the_tables_have_the_numbers_of_report_json(tmp_path: Path) -> None:
    page = drawn(make_run(tmp_path / "run"))
    for text in (
        "3.9000 to 3.4000",
        "4.0000 to 3.6000",
        "3.5000 at step 4",
        "3, 70 tokens of them lost",
        "9.0 MB, in update 0",
        "0.01",
    ):
        assert text in page.words, text
    assert f"800.0 MB: {WHY_TOP_IS_MORE}" in page.words and "100, longest gap 10 ms, in load" in page.words


def test_names_and_texts_of_others_are_no_markup(tmp_path: Path) -> None:
    hostile = "</title><script>alert('&amp;')</script><b a=\"x"
    run = make_run(tmp_path / "run", status="failed", reason=hostile)
    start = json.loads((run / "run.json").read_text())
    start["settings"]["data"] = hostile
    (run / "run.json").write_text(json.dumps(start))
    add_text(run, Text(prompt=hostile, before=hostile, after="line\n  line", settings={"seed": 1}))
    other = run.rename(tmp_path / "<i>'run'&amp;\"")
    page = drawn(other)
    assert "script" not in page.tags and "b" not in page.tags and "i" not in page.tags
    assert page.words.count(hostile) >= 4  # the reason, the setting, the prompt, the text
    write_comparison([other, make_run(tmp_path / "<i>two")], tmp_path / "both.html")
    assert "i" not in Page(tmp_path / "both.html").tags


def test_texts_before_and_after_are_in_the_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert "Before and after" not in drawn(run).words
    text = Text("To be,", before="a choice", after="a question", settings={"temperature": 0.7})
    add_text(run, text)
    page = Page(run / "report.html")
    assert [page.words.index(word) for word in ("To be,", "a choice", "a question")] == sorted(
        page.words.index(word) for word in ("To be,", "a choice", "a question")
    )
    check("text", json.loads((run / "texts.jsonl").read_text()))
    add_text(run, Text("To be,", before="a choice", after="the question", settings={"temperature": 0.7}))
    add_text(run, Text("To be,", before="a choice", after="a rub", settings={"temperature": 0.0}))
    assert [line["after"] for line in read_run(run).texts] == ["the question", "a rub"]  # the first is replaced
    with pytest.raises(UsageError, match="is not a run folder"):
        add_text(tmp_path, text)


def test_the_bar_of_memory_is_the_plan_up_to_the_peak(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    bar = bars({"run": read_run(run)})[0]["run"]
    parts = {part.name: (part.megabytes, part.width) for part in bar.parts}
    expected: dict[str, Any] = {
        "inputs of the blocks": ("3.0 MB", pytest.approx(100 * 3 / 9, abs=0.01)),
        "adapter": ("1.0 MB", pytest.approx(100 / 9, abs=0.01)),
        "AdamW's moments": ("2.0 MB", pytest.approx(200 / 9, abs=0.01)),
        "results of the programs": ("0.5 MB", pytest.approx(50 / 9, abs=0.01)),
        "workspace and interpreter": ("2.5 MB", pytest.approx(250 / 9, abs=0.01)),
    }
    assert parts == expected
    assert bar.peak and (bar.peak.place, bar.peak.text) == (100.0, "9.0 MB")
    page = drawn(run)
    assert "measured peak 9.0 MB" in page.words and "MB over the idle process" in page.words


def test_a_plan_of_more_than_the_peak_is_not_cut(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", memory={**MEMORY, "delta_footprint_bytes": 5_000_000})
    bar = bars({"run": read_run(run)})[0]["run"]
    assert sum(part.width for part in bar.parts) == pytest.approx(100, abs=0.01)
    assert bar.peak and bar.peak.place == pytest.approx(100 * 5 / 6.5, abs=0.01)


def test_a_long_gap_is_named_beside_the_peak(tmp_path: Path) -> None:
    gap = {"longest_gap_seconds": 2.34, "longest_gap_phase": "backward 0", "vm_hwm_bytes": IDLE + 20_000_000}
    run = make_run(tmp_path / "run", memory={**MEMORY, **gap})
    page = drawn(run)
    assert "longest gap 2.3 s, in backward 0, without a sample, at most 11.0 MB was missed" in page.words
    assert "9.0 MB" in page.words  # the peak is not refused for it


def test_a_killed_run_is_reported_from_its_logs(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False, steps=5)
    with open(run / "steps.jsonl", "a") as file:
        file.write('{"step": 6, "loss": 3.')
    page = drawn(run)
    rows = dict(summary(read_run(run).report))
    assert rows["Status"] == "unfinished" and rows["Steps"] == "5 of 6"
    assert rows["Loss, first to last step"] == "3.9000 to 3.5000"
    assert rows["Best held-out loss"] == "3.5556 at step 4"
    assert rows["Tokens a second"] == "8.0"
    assert "not finished" in rows["Peak footprint over idle"]
    assert "footprint, MB" in page.words and "MB over idle" not in page.words
    held_out, peak, _, status = cards(read_run(run))
    assert held_out.value == "4.000 → 3.556" and "as far as step 4" in held_out.notes
    assert peak.value == "not known"  # it would need the idle footprint
    assert status.tone == "half" and any("--resume" in note for note in status.notes)


def test_a_killed_run_that_says_its_idle_footprint_is_drawn_over_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False)
    start = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**start, "baseline_footprint_bytes": IDLE}))
    page = drawn(run)
    assert titles(run)[-2:] == ["Memory of the first step", "Memory over the run"]
    assert "MB over idle" in page.words and cards(read_run(run))[1].value == "9.0 MB"


def test_a_run_that_was_killed_at_once_is_reported(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False)
    for log in ("steps", "eval", "memory"):
        (run / f"{log}.jsonl").unlink()
    page = drawn(run)
    assert "0 of 6 steps" in page.words and "svg" not in page.tags


def test_a_refused_measurement_is_told_and_not_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", memory={"refused": "12 samples are too few"})
    assert drawn(run).words.count("12 samples are too few") == 2  # beside the other numbers, and in the table
    assert not [title for title in titles(run) if "emory" in title]


def test_losses_that_are_not_finite_are_left_out_of_the_figures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", status="failed", loss_last=float("nan"), eval_loss_after=None)
    log = run / "steps.jsonl"
    log.write_text(log.read_text().replace("3.4,", "NaN,").replace('"grad_norm": 0.5', '"grad_norm": 0.0'))
    assert series(read_run(run).steps, "step", "loss")[0] == [1, 2, 3, 4, 5]
    assert "3.9000 to nan" in drawn(run).words


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


def changed(run: Path, **settings: Any) -> Path:
    """A run with other settings; ``sha256`` is of its rows."""
    start = json.loads((run / "run.json").read_text())
    if digest := settings.pop("sha256", None):
        start["data"]["sha256"] = start["eval_data"]["sha256"] = digest
    start["settings"] |= settings
    (run / "run.json").write_text(json.dumps(start))
    return run


def test_a_comparison_begins_with_what_differs(tmp_path: Path) -> None:
    one, two = make_run(tmp_path / "a" / "run"), changed(make_run(tmp_path / "b" / "run", best_step=2), lr=0.02)
    killed = make_run(tmp_path / "killed", finished=False, steps=3)
    write_comparison([one, two, killed], tmp_path / "pages" / "compared.html")
    page = Page(tmp_path / "pages" / "compared.html")
    runs = {"a/run": read_run(one), "b/run": read_run(two), "killed": read_run(killed)}
    different = comparison.differences(runs)
    assert different.pop("lr") == ["0.01", "0.02", "0.01"] and set(different) == {
        "Machine"
    }  # the killed run has not told its own
    assert comparison.same(runs)["model"] == ["<tiny>.gguf"] and "<tiny>.gguf" in page.words
    results = comparison.results(runs)
    assert results["Held-out loss"] == ["4.000 → 3.600", "4.000 → 3.600", "4.000 → 3.778"]
    assert results["Peak footprint over idle"] == ["9.0 MB", "9.0 MB", "not known"]
    assert results["Resident, as top shows it"] == ["800 MB", "800 MB", "–"]
    for values in (*different.values(), *results.values()):
        assert all(value in page.words for value in values)
    order = [
        page.words.index(text)
        for text in ("What differs", "What came of it", "Held-out loss", "Where the memory is", "All figures")
    ]
    assert order == sorted(order)
    assert "Rows with nothing to predict" not in page.words  # none has it


def test_runs_that_differ_in_nothing_say_so(tmp_path: Path) -> None:
    write_comparison([make_run(tmp_path / "one"), make_run(tmp_path / "two")], tmp_path / "both.html")
    assert any(word.startswith("Nothing that was chosen") for word in Page(tmp_path / "both.html").words)


def test_files_are_compared_by_their_contents(tmp_path: Path) -> None:
    paths = [changed(make_run(tmp_path / name), data=f"{name}/rows.txt") for name in ("one", "moved", "other")]
    changed(paths[2], sha256="f" * 64)
    runs = {path.name: read_run(path) for path in paths}
    different = comparison.differences(runs)
    assert set(different) == {"data, sha256 of its tokens", "eval data, sha256 of its tokens"}
    assert different["data, sha256 of its tokens"] == ["dddddddddddd…", "dddddddddddd…", "ffffffffffff…"]


def test_losses_of_other_rows_have_a_chart_of_their_own(tmp_path: Path) -> None:
    paths = {name: make_run(tmp_path / name) for name in ("one", "two", "other")}
    changed(paths["other"], sha256="f" * 64)
    runs = {name: read_run(path) for name, path in paths.items()}
    charts = {chart.title: [line.label for line in chart.lines] for chart in comparison.loss_charts(runs)}
    assert charts == {
        "Held-out loss of one, two": ["one", "two"],
        "Held-out loss of other": ["other"],
        "Training loss of one, two": ["one", "two"],
        "Training loss of other": ["other"],
    }


def test_steps_of_other_lengths_are_drawn_over_tokens(tmp_path: Path) -> None:
    one, long = make_run(tmp_path / "one"), make_run(tmp_path / "long")
    log = long / "steps.jsonl"
    log.write_text(log.read_text().replace('"tokens": 16', '"tokens": 64'))
    (chart,) = [
        c for c in comparison.loss_charts({"one": read_run(one), "long": read_run(long)}) if c.title == "Training loss"
    ]
    assert chart.x_label == "thousand tokens trained on" and chart.x_ticks[-1].text == "0.3"  # of 0.384


def test_a_run_without_a_charts_numbers_is_not_in_that_chart(tmp_path: Path) -> None:
    runs = {"whole": read_run(make_run(tmp_path / "whole"))}
    runs["killed"] = read_run(make_run(tmp_path / "killed", finished=False))
    labels = {chart.title: [line.label for line in chart.lines] for chart in comparison.other_charts(runs)}
    assert labels["Speed"] == ["whole", "killed"] and labels["Memory over the run"] == ["whole"]


def test_names_of_runs_are_made_unique(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("x/a/run", "y/a/run", "y/b/run", "other")]
    assert unique_names(paths) == ["x/a/run", "y/a/run", "b/run", "other"]
    with pytest.raises(UsageError, match="is named twice"):
        unique_names([tmp_path / "run", tmp_path / "x" / ".." / "run"])


def test_comparisons_that_cannot_be_drawn_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"must be a file that ends in \.html"):
        write_comparison([run], run / "steps.jsonl")
    with pytest.raises(UsageError, match="9 runs cannot be compared: expected 2 to 8"):
        write_comparison([run] * 9, tmp_path / "page.html")
    with pytest.raises(UsageError, match="is not a run folder"):
        write_comparison([run, tmp_path], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_long_log_makes_a_file_of_sensible_size(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=1500)
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


def test_lines_that_lie_on_each_other_are_all_seen() -> None:
    x, y = [1.0, 2.0, 3.0], [5.0, 4.0, 3.0]
    lines = [Line(x, y, "c0", "one"), Line(x, [4.0, 4.0, 5.0], "c1", "two"), Line(x[:2], y[:2], "c2", "shorter")]
    chart = line_chart("Loss", "step", "loss", lines)
    assert [line.dash for line in chart.lines] == [("7 7", 0), None, ("7 7", -7)]
    chart = line_chart(
        "Loss", "step", "loss", [Line(line.x, line.y, line.colour, line.label, "points") for line in lines]
    )
    assert [line.under for line in chart.lines] == [2, 1, 0]  # all have a point at the second step


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0.0, 60.0, True, [0, 10, 20, 30, 40, 50, 60]),
        (1.0, 4.0, True, [1, 2, 3, 4]),
        (1.0, 1.1, True, [1]),
        (2.4, 4.6, False, [2.5, 3, 3.5, 4, 4.5]),
        (0.0, 0.002, False, [0, 0.0005, 0.001, 0.0015, 0.002]),
        (-1.0, 1.0, False, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, whole: bool, expected: list[float]) -> None:
    assert round_numbers(low, high, 6, whole) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[0.0], [3.0, 3.0], [1e-9, 1e9], [-5.0, 5.0], [1.0] * 3000, []])
@pytest.mark.parametrize("log", [False, True])
def test_every_chart_has_labels_inside_of_its_plot(values: list[float], log: bool) -> None:
    chart = line_chart(
        "t", "step", "y", [Line(range(len(values)), values, "c0", "line")], log=log, level=1.0, level_text="peak"
    )
    assert chart.x_ticks and chart.y_ticks
    for tick in (*chart.x_ticks, *chart.y_ticks, chart.level):
        assert tick and tick.text and -0.01 <= tick.place <= 100.01
    numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", chart.lines[0].path)]
    assert all(-0.1 <= number <= UNITS + 0.1 for number in numbers)
    assert bool(numbers) == any(value > 0 or not log for value in values)


def test_durations_are_as_short_as_they_can_be() -> None:
    assert [duration(seconds) for seconds in (0.0349, 4.256, 59.9, 80.2, 7512)] == [
        "0.0349 s",
        "4.26 s",
        "1 min 0 s",
        "1 min 20 s",
        "2 h 5 min",
    ]


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
