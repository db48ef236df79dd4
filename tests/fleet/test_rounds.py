"""Rounds of a fleet: what the clients do is what ``mesp train`` does, and the folder tells it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import mesp
from mesp.runtime.errors import UsageError
from mesp.runtime.fleet.folder import FleetFolder
from mesp.runtime.fleet.settings import FleetSettings
from mesp.runtime.fleet.strategies import make_strategy

from .desk import clients, config, fleet, rows

WEIGHTS = "adapter_model.safetensors"
SHORT = '{"input_ids": [7, 8, 9], "labels": [-100, 8, 9]}\n'


@pytest.mark.parametrize("settings", [{}, {"train.optimizer": "adamw", "train.grad-accumulation": 2, "train.seed": 5}])
def test_one_client_and_one_round_are_mesp_train(tmp_path: Path, qwen2_fp32: Path, settings: dict[str, Any]) -> None:
    nodes = clients(tmp_path, [rows(1)])
    fleet(nodes, config(qwen2_fp32, tmp_path / "fleet", **{"train.steps": 3, **settings}))
    options: dict[str, Any] = {name.removeprefix("train.").replace("-", "_"): value for name, value in settings.items()}
    run = mesp.train(qwen2_fp32, tmp_path / "run", data=nodes[0]["data"], **{"steps": 3, "optimizer": "sgd", **options})
    assert run.adapter
    common = tmp_path / "fleet" / "adapter"
    assert (common / WEIGHTS).read_bytes() == (run.adapter / WEIGHTS).read_bytes()
    assert (common / "adapter_config.json").read_bytes() == (run.adapter / "adapter_config.json").read_bytes()


def test_an_adapter_is_the_mean_by_targets(tmp_path: Path, qwen2_fp32: Path) -> None:
    nodes = clients(tmp_path, [rows(1), SHORT])
    fleet(nodes, config(qwen2_fp32, tmp_path / "fleet"))
    (round_,) = [round_ for round_ in FleetFolder(tmp_path / "fleet").rounds() if round_.round]
    targets = [part.training["targets"] for part in round_.clients if part.training]
    assert targets[0] > targets[1] > 0
    parts = [load_file(next(Path(node["output"]).glob("*/round-1/adapter")) / WEIGHTS) for node in nodes]
    common = load_file(tmp_path / "fleet" / "adapter" / WEIGHTS)
    for name, array in common.items():
        expected = (parts[0][name] * targets[0] + parts[1][name] * targets[1]) / sum(targets)
        np.testing.assert_allclose(array, expected, rtol=1e-6, atol=1e-9)
    assert any(np.abs(parts[0][name] - parts[1][name]).max() > 1e-4 for name in common)


def test_rounds_go_on_from_the_common_adapter_and_learn(tmp_path: Path, qwen2_fp32: Path) -> None:
    nodes = clients(tmp_path, [rows(1), rows(2)], **{"eval-split": 0.3})
    desk = fleet(nodes, config(qwen2_fp32, tmp_path / "fleet", rounds=3, **{"train.steps": 8, "train.lr": 0.5}))
    rounds = FleetFolder(tmp_path / "fleet").rounds()
    assert [round_.round for round_ in rounds] == [0, 1, 2, 3]
    losses = [round_.loss for round_ in rounds if round_.loss is not None]
    assert len(losses) == 4 and losses[3] < losses[0]
    assert {part.name for part in rounds[3].clients} == {"client-0", "client-1"}
    for part in rounds[3].clients:
        assert part.training and part.evaluation
        assert (
            part.training["steps"] == 8 and part.training["peak-footprint-bytes"] > 0 and part.training["seconds"] > 0
        )
    assert sum(message.metadata.message_type == "train" for message in desk.sent) == 6
    page = (tmp_path / "fleet" / "report.html").read_text()
    assert "client-1" in page and "Held-out loss of the common adapter" in page
    # The evaluation of a round is what mesp train evaluates before it begins from that adapter.
    adapter = tmp_path / "fleet" / "round-3" / "adapter"
    run = mesp.train(qwen2_fp32, tmp_path / "run", data=nodes[0]["data"], eval_split=0.3, adapter=adapter, steps=1)
    (own,) = [part.evaluation for part in rounds[3].clients if part.name == "client-0"]
    assert own and own["loss"] == pytest.approx(run.eval_loss_before, rel=1e-6)


def test_nobody_is_asked_for_a_loss_that_nobody_has(tmp_path: Path, qwen2_fp32: Path) -> None:
    desk = fleet(clients(tmp_path, [rows(1)]), config(qwen2_fp32, tmp_path / "fleet", rounds=2))
    assert [message.metadata.message_type for message in desk.sent] == ["evaluate", "train", "train"]
    assert [round_.loss for round_ in FleetFolder(tmp_path / "fleet").rounds()] == [None] * 3


def test_each_round_takes_other_rows(tmp_path: Path, qwen2_fp32: Path) -> None:
    (node,) = clients(tmp_path, [rows(1)])
    fleet([node], config(qwen2_fp32, tmp_path / "fleet", rounds=2, **{"train.lr": 0.0}))
    rounds = [round_ for round_ in FleetFolder(tmp_path / "fleet").rounds() if round_.round]
    figures = [round_.clients[0].training for round_ in rounds]
    assert figures[0] and figures[1] and figures[0]["loss-first"] != figures[1]["loss-first"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("FedAvgM", {"server_momentum": 0.9}),
        ("FedAdam", {"eta": 0.01}),
        ("FedMedian", {}),
        ("FedTrimmedAvg", {}),
        ("Krum", {"num_malicious_nodes": 0}),
    ],
)
def test_strategies_by_name(tmp_path: Path, qwen2_fp32: Path, name: str, options: dict[str, float]) -> None:
    nodes = clients(tmp_path, [rows(1), rows(2), rows(3)])
    given = {f"strategy.{option.replace('_', '-')}": value for option, value in options.items()}
    fleet(nodes, config(qwen2_fp32, tmp_path / "fleet", rounds=2, **{"strategy.name": name, **given}))
    assert [round_.counted for round_ in FleetFolder(tmp_path / "fleet").rounds()] == [True, True, True]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("FedProx", {"proximal_mu": 0.1}, "FedProx cannot be had: its proximal term"),
        ("FedAvgs", {}, "There is no strategy FedAvgs. There are FedAvg,"),
        ("FedAvg", {"server_momentum": 0.9}, "The strategy FedAvg has no server-momentum. It has fraction-train,"),
    ],
)
def test_other_strategies_are_refused(name: str, options: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_strategy(name, options, FleetSettings.of({}).privacy)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"roundz": 3}, "names that are none of a fleet's: roundz = 3"),
        ({"rounds": 0}, "rounds is 0, but must be"),
        ({"train.data": "/etc/passwd"}, "train.data is each client's own"),
        ({"train.eval-every": 2}, "train.eval-every is no setting of a round"),
        ({"train.stepz": 2}, "stepz is no setting. Did you mean steps"),
        ({"train.steps": -1}, "train.steps is -1, but must be at least 1"),
        ({"privacy.mode": "total"}, "privacy.mode is 'total', but must be one of none,"),
    ],
)
def test_a_configuration_is_understood_or_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        FleetSettings.of(given)
