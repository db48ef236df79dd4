"""The predicted time: the products against a count by hand, the rate, and its part of `mesp plan`."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mesp.command_line.parser import main
from mesp.export.bundle.make_plan import make_plan
from mesp.export.export_settings import ExportSettings, Tiling
from mesp.export.model.architecture import Attention
from mesp.export.model.checkpoint import open_checkpoint
from mesp.export.predict import duration as durations
from mesp.export.predict.duration import OVER_PRODUCTS, duration, measured_gflops
from mesp.export.predict.flops import Product, calls, frozen_products, gigaflop, step_products
from mesp.export.programs.plan import Plan
from mesp.runtime.engine.schedule import Call, For, Phase

from .models import LLAMA, PROJECTIONS

TOKENS, RANK = 16, 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    return tmp_path


def plan_of(folder: Path, **settings: Any) -> Plan:
    chosen: dict[str, Any] = {
        "seq_len": (TOKENS,),
        "rank": RANK,
        "tiling": Tiling(query_rows=8, ffn=64, vocabulary=50),
        **settings,
    }
    return make_plan(open_checkpoint(str(folder), random_init=True).config, ExportSettings(**chosen))


def flop(counted: Counter[Product], frozen: bool) -> int:
    return sum(product.flop * times for product, times in counted.items() if product.frozen == frozen)


def test_the_products_are_those_of_a_count_by_hand(folder: Path) -> None:
    plan = plan_of(folder)
    arch, phases = plan.architecture, step_products(plan)
    layers, attention = len(arch.layers), arch.sublayers[0].middle
    assert isinstance(attention, Attention)
    # Forward once; backward, each again where it is rebuilt (q, k and v twice, down's never), and its transpose once.
    backward = dict(zip(PROJECTIONS, (3, 3, 3, 2, 2, 2, 1), strict=True))
    sizes = {p.name: 2 * TOKENS * p.inputs * p.outputs for p in arch.projections}
    assert flop(phases["forward"], True) == layers * sum(sizes.values())
    assert flop(phases["backward"], True) == layers * sum(backward[p] * size for p, size in sizes.items())
    assert flop(phases["head"], True) == 2 * 2 * TOKENS * arch.D * 100  # 97 words in two tiles of 50
    # Two blocks of 8 query rows see 8 and 16 keys. Scores and values forward and once more; then both, and four gradients.
    block = 2 * attention.H * attention.C * (8 * 8 + 8 * 16)
    for phase, times in (("forward", 2), ("backward", 2 + 6)):
        others = Counter({p: n for p, n in phases[phase].items() if not p.frozen})
        thick = Counter({p: n for p, n in others.items() if min(p.rows, p.inner, p.columns) not in (1, RANK)})
        assert flop(thick, False) == layers * times * block


def test_adapters_in_the_upper_layers_alone_leave_the_lower_ones_out_of_the_backward_pass(folder: Path) -> None:
    all_layers, upper = (step_products(plan_of(folder, layers=layers)) for layers in (2, 1))
    assert gigaflop(upper["backward"]) == gigaflop(all_layers["backward"]) / 2
    assert flop(upper["forward"], True) == flop(all_layers["forward"], True)


def test_every_weight_format_has_the_same_products(folder: Path) -> None:
    assert frozen_products(plan_of(folder, weights="int4")) == frozen_products(plan_of(folder, weights="fp32"))


def test_calls_are_counted_through_loops_and_phases() -> None:
    call = Call("p", (), ())
    loop = For("layer", 1, 3, False, (Phase("forward", (For("tile", 0, 5, False, (call,)), call)), call))
    assert calls((loop, call)) == {"forward": Counter(p=18), "": Counter(p=4)}


def test_the_time_is_that_of_the_products_at_the_rate(folder: Path) -> None:
    plan = plan_of(folder)
    parts = duration(plan, gflops=0.5)
    assert list(parts) == ["forward", "head", "backward"]
    assert parts["head"] == pytest.approx(OVER_PRODUCTS * gigaflop(step_products(plan)["head"]) / 0.5)
    assert duration(plan, gflops=1.5, sequences=3) == pytest.approx(parts)
    assert "backward" not in duration(plan_of(folder, method="mezo"), gflops=1)


@pytest.mark.alone
def test_the_rate_is_measured(folder: Path) -> None:
    assert 0.001 < measured_gflops(plan_of(folder)) < 10_000


def test_plan_prints_it(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durations, "measured_gflops", lambda plan: 2.0)
    options = ["plan", str(folder), "--seq-len", "8,16", "--weights", "fp32", "--grad-accumulation", "2"]
    assert main(options) == 0
    assert "a step of 2 times 16 tokens, at 2 GFLOP/s, measured here" in capsys.readouterr().out


def test_a_rate_that_is_given_is_not_measured(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durations, "lower", lambda programs: pytest.fail("it was measured"))
    assert main(["plan", str(folder), "--seq-len", "16", "--weights", "fp32", "--gflops", "0.01"]) == 0
    *lines, onwards = capsys.readouterr().out.splitlines()
    assert onwards.startswith("Export it with: mesp export ")
    assert "a step of 16 tokens, at 0.01 GFLOP/s, given" in lines[-1]
    seconds = [float(line.split()[0]) for line in lines if line.split()[1] == "s"]
    assert sum(seconds[:-1]) == pytest.approx(seconds[-1], abs=0.02) and seconds[-1] > 0
