"""mesp bench: definitions, cells that are run, kept and failed, and what is written and drawn of them."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mesp.bench.cells import cell as cells
from mesp.bench.cells.bench import BenchOptions, bench
from mesp.bench.cells.definition import BASELINES, Table
from mesp.bench.cells.parts import step_samples, thinned
from mesp.bench.cells.plots import draw
from mesp.bench.cells.reader import read_table
from mesp.bench.process import ProcessFailed, Usage, run
from mesp.command_line.parser import main
from mesp.runtime.errors import MespError, UsageError

from .test_bad_input import refused

BENCHMARKS = Path(cells.__file__).parents[1]
DEFINITION = f"""
title = "A table"
[defaults]
rank = 4
methods = ["mesp", "offloaded"]
[models]
tiny = "{BENCHMARKS / "configurations" / "tiny-llama"}"
[methods]
offloaded = {{ method = "mesp", offload = "inputs" }}
adamw = {{ method = "mesp", optimizer = "adamw" }}
[[sweeps]]
model = "tiny"
tokens = [16, 32]
paper.mesp = [3, 4.5]
goals.offloaded = [1, 2]
[[sweeps]]
model = "tiny"
tokens = 16
rank = 8
methods = ["eager"]
"""
# A baseline that takes no time: as mesp.bench.baselines.eager, it writes a file of its figures, unless it is to fail.
BASELINE = """
import json, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if arguments["--rank"] == "13":
    sys.exit("13 is a bad rank")
memory = {"delta_footprint_bytes": 1000 * int(arguments["--tokens"])}
with open(arguments["-o"], "w") as file:
    json.dump({"memory": memory, "step_seconds": [9, 2, 4], "losses": [3, 2, 1], "weights_bytes": 5_000_000}, file)
"""
QUIET = Console(quiet=True)


def define(folder: Path, text: str = DEFINITION) -> Path:
    """A definition in the folder."""
    (folder / "table.toml").write_text(text)
    return folder / "table.toml"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


# --- Definitions ------------------------------------------------------------------------------------------------------


def test_sweeps_become_cells(tmp_path: Path) -> None:
    table = read_table(define(tmp_path))
    assert [cell.name for cell in table.cells] == [
        "tiny-16-r4-mesp",
        "tiny-16-r4-offloaded",
        "tiny-32-r4-mesp",
        "tiny-32-r4-offloaded",
        "tiny-16-r8-eager",
    ]
    assert table.series == ["mesp", "offloaded", "eager"]
    mesp, offloaded = table.cells[2:4]
    assert (mesp.paper_mb, mesp.goal_mb, offloaded.paper_mb, offloaded.goal_mb) == (4.5, None, None, 2)
    sizes = {"seq_len": [32], "rank": 4, "layers": None, "weights": "int4", "group_size": 32, "method": "mesp"}
    assert mesp.export_settings() == sizes
    assert offloaded.export_settings() == {**sizes, "offload": "inputs"}


def test_a_definition_is_what_is_run_and_not_what_it_is_compared_with(tmp_path: Path) -> None:
    cell = read_table(define(tmp_path)).cells[0]
    other_figures = read_table(define(tmp_path, DEFINITION.replace("[3, 4.5]", "[5, 6]"))).cells[0]
    assert cell.definition() == other_figures.definition() and cell.paper_mb != other_figures.paper_mb
    assert read_table(define(tmp_path, DEFINITION.replace("rank = 4", "rank = 4\nsteps = 5"))).cells[
        0
    ].definition() != (cell.definition())


def test_a_column_may_have_another_optimizer_which_is_no_matter_of_the_export(tmp_path: Path) -> None:
    sgd, adamw = read_table(
        define(
            tmp_path,
            DEFINITION.replace('"mesp", "offloaded"]', '"mesp", "adamw"]').replace("goals.offloaded", "goals.adamw"),
        )
    ).cells[:2]
    assert (sgd.optimizer, adamw.optimizer) == ("sgd", "adamw") and adamw.row == sgd.row
    assert adamw.export_settings() == sgd.export_settings() and adamw.definition() != sgd.definition()


def test_the_papers_table_has_every_cell() -> None:
    table = read_table(BENCHMARKS / "tables" / "paper.toml")
    assert len(table.cells) == 9 * 5 + 3
    by_name = {cell.name: cell for cell in table.cells}
    assert by_name["0.5b-256-r8-mesp"].goal_mb == 58 and by_name["0.5b-256-r8-mebp"].paper_mb == 360.8
    assert by_name["3b-256-r8-mesp-offload"].options == {"offload": "inputs"}
    for cell in table.cells:
        values = cell.configuration_values()
        assert values["hidden_size"] % values["num_attention_heads"] == 0


def test_layers_with_adapters_are_an_axis(tmp_path: Path) -> None:
    text = DEFINITION.replace("tokens = [16, 32]", "tokens = 16\nlayers = [1, 2]")
    cells = read_table(define(tmp_path, text)).cells
    assert [(cell.name, cell.layers) for cell in cells[::2]] == [
        ("tiny-16-r4-l1-mesp", 1),
        ("tiny-16-r4-l2-mesp", 2),
        ("tiny-16-r8-eager", None),
    ]
    assert cells[0].paper_mb == 3 and cells[2].paper_mb == 4.5
    assert cells[2].export_settings()["layers"] == 2


def test_the_table_of_growth_has_every_cell() -> None:
    names = {cell.row.removeprefix("0.5b-") for cell in read_table(BENCHMARKS / "tables" / "growth.toml").cells}
    lengths = {f"{tokens}-r8" for tokens in (64, 128, 256, 512)}
    assert names == lengths | {f"256-r8-l{n}" for n in (6, 12, 18, 24)} | {f"256-r{rank}" for rank in (4, 16, 32)}


BAD = {
    "no TOML": ("title = ", "title ", "is no table"),
    "unknown key": ("rank = 4", "rang = 4", "[defaults] has rang, which is not known there"),
    "no sweeps": (DEFINITION[DEFINITION.index("[[sweeps]]") :], "", "there are no [[sweeps]]"),
    "sweeps": (DEFINITION[DEFINITION.index("[[sweeps]]") :], "[sweeps]", "there are no [[sweeps]]"),
    "no title": ('title = "A table"', "", "there is no title"),
    "no folder": ("tiny-llama", "huge-llama", "must be a folder with a config.json"),
    "model": ('model = "tiny"\ntokens = [', 'model = "big"\ntokens = [', "there is no model 'big'. [models] has: tiny"),
    "two axes": ("tokens = [16, 32]", "tokens = [16, 32]\nrank = [1, 2]", "tokens and rank are lists"),
    "empty axis": ("tokens = [16, 32]", "tokens = []", "tokens is an empty list"),
    "number": ("tokens = [16, 32]", 'tokens = [16, "32"]', "tokens is '32', and must be a whole number of at least 1"),
    "text": ("rank = 4", "rank = 4\nweights = 4", "weights is 4, and must be a text"),
    "no tokens": ("tokens = 16", "steps = 2", "sweep 2 has no tokens"),
    "figures": ("[3, 4.5]", "[3]", "sweep 1: paper.mesp is [3], and must be MB above 0, 2 of them"),
    "figure": ("[3, 4.5]", '[3, "4"]', "must be MB above 0"),
    "whose figures": ("paper.mesp", "paper.mebp", "paper.mebp is of no method of the sweep"),
    "no figures": ("paper.mesp = [3, 4.5]", "paper = 3", "must have a method's figures each, as paper.mesp = 45"),
    "method": ('{ method = "mesp", offload', "{ offload", "method offloaded is"),
    "optimizer": ('"adamw"', '"adam"', "method adamw: optimizer is 'adam', and must be one of: sgd, adamw"),
    "baseline": ('method = "mesp", offload', 'method = "eager", offload', "the baseline eager takes no options"),
    "layers": ("rank = 8", "rank = 8\nlayers = 1", "the baseline eager has adapters in all layers"),
    "name": ("\ntiny = ", '\n"ti/ny" = ', "model 'ti/ny' is no name"),
    "twice": ('rank = 8\nmethods = ["eager"]', "", "tiny-16-r4-mesp, tiny-16-r4-offloaded is there twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_definitions_that_cannot_be_used_are_refused(case: str, tmp_path: Path) -> None:
    old, new, message = BAD[case]
    assert old in DEFINITION
    with pytest.raises(UsageError) as error:
        read_table(define(tmp_path, DEFINITION.replace(old, new)))
    assert message in str(error.value) and "table.toml" in str(error.value)


def test_wrong_usage_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, folder = define(tmp_path), tmp_path / "out"
    refused(capsys, 2, "Give a table and -o FOLDER", "bench")
    refused(capsys, 2, "Give a table and -o FOLDER", "bench", table)
    refused(capsys, 2, "is no table", "bench", tmp_path / "none.toml", "-o", folder)
    refused(capsys, 2, "--repeats 0 must be at least 1", "bench", table, "-o", folder, "--repeats", "0")
    refused(
        capsys, 2, "no cell 'tiny-16-mesp'. Some that it has: tiny-16-r4-mesp", "bench", table, "-o", folder,
        "--cell", "tiny-16-mesp",
    )  # fmt: skip
    refused(capsys, 2, "--draw runs nothing", "bench", table, "--draw", folder)
    refused(capsys, 2, "cannot be read", "bench", "--draw", folder)
    (tmp_path / "results.json").write_text("[]")
    refused(capsys, 2, "is not what mesp bench writes", "bench", "--draw", tmp_path)
    assert not folder.exists()


# --- Cells ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """eager is the quick baseline."""
    (tmp_path / "quick_baseline.py").write_text(BASELINE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setitem(BASELINES, "eager", ("quick_baseline",))


ONLY_BASELINES = DEFINITION.split("[[sweeps]]")[0] + '[[sweeps]]\nmodel = "tiny"\ntokens = 8\nmethods = ["eager"]\n'


@pytest.mark.thorough
@pytest.mark.usefixtures("baseline")
def test_the_command_measures_resumes_and_records_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real cell of the tiny model with AdamW, a quick baseline, and one that fails until its definition is another one."""
    sweeps = ONLY_BASELINES.split("[[sweeps]]")[0] + (
        '[[sweeps]]\nmodel = "tiny"\ntokens = 16\nmethods = ["adamw", "eager"]\npaper.adamw = 3\n'
        '[[sweeps]]\nmodel = "tiny"\ntokens = 16\nrank = 13\nmethods = ["eager"]\n'
    )
    folder = tmp_path / "out"
    command = ["bench", str(define(tmp_path, sweeps)), "-o", str(folder)]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert (
        "[1/3] tiny-16-r4-adamw  exporting" in said
        and "MB over idle, " in said
        and " as top shows it, the paper's 3 × " in said
    )
    assert "[3/3] tiny-16-r13-eager  failed: python -m quick_baseline ended with status 1: 13 is a bad rank" in said
    assert sorted(path.name for path in folder.iterdir()) == ["cells", "logs", "plots", "results.json", "results.md"]

    results = read(folder / "results.json")
    cell, other, failed = results["cells"].values()
    (repeat,) = cell["repeats"]
    assert repeat["step_seconds"]["median"] >= repeat["step_seconds"]["min"] > 0
    assert repeat["losses"]["first"] > repeat["losses"]["last"]
    assert sum(cell["parts"].values()) == repeat["memory"]["delta_footprint_bytes"]
    assert cell["parts"]["block inputs"] == 2 * 16 * 64 * 4  # layers, tokens, width, bytes
    assert set(cell["plan"]) >= {"block inputs", "adapter", "interpreter", "adamw.m", "adamw.v"}
    assert cell["parts"]["adamw.m"] == cell["plan"]["adamw.m"] == cell["parts"]["adapter"]
    assert set(cell["bundle_bytes"]) >= {"weights.safetensors", "program.pte", "manifest.json"}
    assert cell["export"]["seconds"] > 0 and cell["export"]["peak_rss_bytes"] > 1e8
    assert {phase for _, phase, _ in cell["samples"]["last"]} >= {"embed", "forward 1", "head", "backward 0"}
    assert other["baseline"] == {"weights_bytes": 5_000_000} and other["export"] is None
    assert failed["status"] == "failed" and "13 is a bad rank" in (folder / "logs/tiny-16-r13-eager.log").read_text()

    before = (folder / "cells" / "tiny-16-r4-adamw.json").read_bytes()
    define(tmp_path, sweeps.replace("rank = 13", "rank = 12").replace("paper.adamw = 3", "paper.adamw = 30"))
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "exporting" not in said and said.count("measured before") == 2 and "the paper's 30 × " in said
    assert (folder / "cells" / "tiny-16-r4-adamw.json").read_bytes() == before
    assert list(read(folder / "results.json")["cells"]) == ["tiny-16-r4-adamw", "tiny-16-r4-eager", "tiny-16-r12-eager"]


@pytest.mark.usefixtures("baseline")
def test_a_cell_is_run_again_if_it_is_another_one_or_too_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = define(tmp_path, ONLY_BASELINES), tmp_path / "out"

    def said(**options: Any) -> str:
        assert bench(path, folder, BenchOptions(**options), Console(file=sys.stdout, width=200))
        return capsys.readouterr().out

    assert "measured before" not in said(repeats=2)
    assert "measured before" in said() and len(read(folder / "cells/tiny-8-r4-eager.json")["repeats"]) == 2
    assert "was measured 2 of 3 times: it is run again" in said(repeats=3)
    define(tmp_path, ONLY_BASELINES.replace("rank = 4", "rank = 4\nsteps = 7"))
    assert "was measured with another steps: it is run again" in said()
    (folder / "cells/tiny-8-r4-eager.json").write_text("{}")
    with pytest.raises(UsageError, match="is damaged"):
        bench(path, folder, BenchOptions(), QUIET)


@pytest.mark.usefixtures("baseline")
def test_only_the_named_cells_are_run_and_the_others_results_stay(tmp_path: Path) -> None:
    text = ONLY_BASELINES.replace("tokens = 8", "tokens = [8, 9, 10]")
    path, folder = define(tmp_path, text), tmp_path / "out"
    bench(path, folder, BenchOptions(cells=("tiny-9-r4-eager",)), QUIET)
    assert list(read(folder / "results.json")["cells"]) == ["tiny-9-r4-eager"]
    bench(path, folder, BenchOptions(cells=("tiny-10-r4-eager",), repeats=2), QUIET)
    results = read(folder / "results.json")
    assert list(results["cells"]) == ["tiny-9-r4-eager", "tiny-10-r4-eager"]
    assert results["command"] == f"mesp bench {path} -o {folder} --cell tiny-10-r4-eager --repeats 2"


def test_bundles_are_removed_or_kept_and_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports: list[dict[str, Any]] = []

    def export(command: Sequence[str], log: Path) -> tuple[Usage, str]:
        exports.append(json.loads(command[-1]))
        Path(exports[-1]["output"]).mkdir()
        return Usage(1.0, 2), ""

    monkeypatch.setattr(cells, "run", export)
    cell, other = read_table(define(tmp_path)).cells[:2]
    place = tmp_path / "bundle" / "name"
    for keep, made in ((False, 1), (True, 2), (True, 2), (False, 3)):
        with cells._bundle(cell, place, keep, tmp_path / "log", lambda _: None) as (bundle, took):
            assert bundle.is_dir() and took == {"seconds": 1.0, "peak_rss_bytes": 2}
        assert len(exports) == made and place.exists() == keep
    assert not place.parent.exists()
    for chosen in (cell, other):  # the same place, other settings
        with cells._bundle(chosen, place, True, tmp_path / "log", lambda _: None):
            pass
    assert len(exports) == 5 and exports[-1]["settings"]["offload"] == "inputs"


def test_a_process_says_why_it_failed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    usage, text = run([sys.executable, "-c", "import sys; print('out'); print('said', file=sys.stderr)"], log)
    assert text == "out\n" and log.read_text() == "said\n" and usage.peak_rss_bytes > 1e6
    with pytest.raises(ProcessFailed, match="ended with status 3: it said nothing"):
        run([sys.executable, "-c", "raise SystemExit(3)"], log)
    with pytest.raises(ProcessFailed, match="was ended by SIGKILL: was memory short"):
        run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], log)


def test_a_memory_report_that_was_refused_is_a_failure() -> None:
    with pytest.raises(MespError, match="3 samples are too few"):
        cells._repeat({"refused": "3 samples are too few"}, [1.0], [2.0], 3.0)


def test_samples_are_those_of_the_first_and_the_last_step() -> None:
    phases = ["load", "embed", "head", "between steps", "embed", "head", "between steps", "embed", "between steps"]
    samples = [{"seconds": i, "phase": phase, "footprint_bytes": 100 + i} for i, phase in enumerate(phases)]
    steps = step_samples(samples, 100)
    assert steps == {"first": [[0, "embed", 1], [1, "head", 2]], "last": [[0, "embed", 7]]}


def test_of_each_kind_of_phase_the_ends_and_the_extremes_are_kept() -> None:
    sizes = (3, 4, 9, 5, 1, 6, 7)
    step = [[0, "embed", 2], *[[1 + i, f"forward {i}", size] for i, size in enumerate(sizes)], [8, "head", 8]]
    assert [sample[2] for sample in thinned(step)] == [2, 3, 9, 1, 7, 8]


# --- What is drawn ----------------------------------------------------------------------------------------------------


def made_up(table: Table) -> dict[str, Any]:
    """A results.json of a table with figures that are easy to know: the peak is 0.1 MB a token."""
    found = {}
    for cell in table.cells:
        peak, own = 100_000 * cell.tokens, cell.baseline is None
        found[cell.name] = {
            "definition": cell.definition(),
            "status": "done",
            "reason": None,
            "row": cell.row,
            "paper_mb": cell.paper_mb,
            "goal_mb": cell.goal_mb,
            "repeats": [
                {
                    "memory": {"delta_footprint_bytes": peak + more, "vm_hwm_bytes": 800_000_000 + more},
                    "step_seconds": {"first": 9, "median": 2.5, "min": 2},
                }
                for more in (0, 300_000)
            ],
            "export": {"seconds": 30, "peak_rss_bytes": 2_000_000_000} if own else None,
            "bundle_bytes": {"weights.safetensors": 7_000_000, "program.pte": 1_000_000} if own else None,
            "plan": {"adapter": peak // 2} if own and cell.series == "mesp" else None,
            "parts": {"adapter": peak // 4, "workspace and interpreter": peak - peak // 4} if own else None,
            "samples": {"first": [[0, "embed", 1], [1, "head", peak]], "last": [[0, "embed", peak]]} if own else None,
            "baseline": None if own else {"weights_bytes": 5_000_000},
        }
    machine = {"processor": "CPU", "cores": 2, "memory_bytes": 8e9, "system": "Linux"}
    versions = dict.fromkeys(("executorch", "torch", "transformers", "python"), "1")
    return {
        "title": table.title,
        "command": "mesp bench table.toml -o out",
        "environment": {**machine, **versions},
        "series": table.series,
        "cells": found,
    }


def test_results_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = read_table(define(tmp_path, DEFINITION.replace("tokens = 16\nrank = 8", "tokens = 16\nrank = 4")))
    results = made_up(table)
    results["cells"]["tiny-32-r4-mesp"]["repeats"][1]["memory"] |= {
        "longest_gap_seconds": 2.5,
        "longest_gap_phase": "head",
    }
    results["cells"]["tiny-32-r4-offloaded"] |= {"status": "failed", "reason": "memory | disk"}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "of-another-table.svg").touch()
    assert main(["bench", "--draw", str(tmp_path / "results.json")]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    names = [
        "tokens-tiny-r4",
        "method-tiny-16-r4",
        "parts-mesp",
        "parts-offloaded",
        "step-tiny-16-r4",
        "step-tiny-32-r4",
    ]
    assert [path.stem for path in written] == ["results", *names]
    assert sorted(path.stem for path in (tmp_path / "plots").iterdir()) == sorted(names)
    page = written[0].read_text()
    for line in (
        "| tiny-32-r4-offloaded | memory \\| disk |",
        "| tiny | 16 | 4 | 1.8 | 1.8 | 1.8 |",
        "| tiny | 32 | 4 | 3.4 |  |  |",
        "| tiny | 16 | 4 | 800 | 800 | 800 |",
        "| tiny-32-r4-mesp | 2.5 | head |",
        "| tiny-16-r4-mesp | 1.8 (1.6 to 1.9) | 3 | 0.58 |  |  |",
        "| tiny-16-r4-offloaded | 1.8 (1.6 to 1.9) |  |  | 1 | 0.8 too much |",
        "| tiny | 16 | 4 | 2.50 | 2.50 | 2.50 |",
        "| tiny-16-r4-mesp | 0.4 | 1.2 | 1.8 |",
        "| tiny-16-r4-mesp | 0.8 | 1.8 | -54.3% |",
        "| tiny-16-r4-offloaded |  | 1.8 |  |",
        "| tiny-16-r4-mesp | 30 | 2,000.0 | 8.0 | 7.0 |",
        "| tiny-16-r4-eager | 1.8 | 5.0 |",
        "![Memory by sequence length: tiny, rank 4](plots/tokens-tiny-r4.svg)",
    ):
        assert line in page, line
    lines = (tmp_path / "plots" / "tokens-tiny-r4.svg").read_text()
    assert "the paper's, dashed" in lines and ">mesp<" in lines
    assert ">offloaded<" not in lines and ">eager<" not in lines  # a single length is no line


@pytest.mark.thorough
def test_every_series_keeps_its_colour(tmp_path: Path) -> None:
    """In the plots by length, by rank and by model, though each has other series."""
    table = read_table(BENCHMARKS / "tables" / "paper.toml")
    (tmp_path / "results.json").write_text(json.dumps(made_up(table)))
    drawn = {path.stem: path.read_text() for path in draw(tmp_path)[1:]}
    assert {"tokens-0.5b-r8", "rank-0.5b-256", "model-256-r8", "method-0.5b-256-r8"} <= drawn.keys()
    for colour in ("#2b7de9", "#e8710a", "#1e9e4a", "#d6249f", "#8e63ce"):
        for name in ("tokens-0.5b-r8", "rank-0.5b-256", "model-256-r8", "method-0.5b-256-r8"):
            assert colour in drawn[name], (name, colour)


def test_results_without_a_measured_cell_are_a_page_of_failures(tmp_path: Path) -> None:
    results = made_up(read_table(define(tmp_path)))
    for cell in results["cells"].values():
        cell |= {"status": "failed", "reason": "no memory"}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (page,) = draw(tmp_path)
    assert page.read_text().count("no memory") == 5 and "## Peak" not in page.read_text()
