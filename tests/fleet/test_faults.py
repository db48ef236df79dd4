"""What goes wrong in a fleet: the round goes on with the others, or the fleet ends with a message; nothing is lost."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from safetensors.numpy import load_file

import mesp
from mesp.runtime.errors import MespError, UsageError
from mesp.runtime.fleet.folder import FleetFolder, Round
from mesp.runtime.fleet.records import ARRAYS, CONFIG, METRICS, SETTINGS
from mesp.runtime.fleet.server import run_fleet
from mesp.runtime.fleet.settings import FleetSettings

from .desk import Desk, clients, config, fleet, rows

WEIGHTS = "adapter_model.safetensors"


def rounds_of(folder: Path) -> list[Round]:
    return [round_ for round_ in FleetFolder(folder).rounds() if round_.round]


def reason(folder: Path, name: str, number: int = 1) -> str:
    (part,) = [part for part in rounds_of(folder)[number - 1].clients if part.name in (name, f"node {name}")]
    assert part.training is None and part.reason
    return part.reason


def lost(message: Message, answered: Callable[[], Message]) -> Message | None:
    """A client that dies, or answers too late."""
    return None if message.metadata.message_type == "train" else answered()


def unavailable(message: Message, answered: Callable[[], Message]) -> Message | None:
    """What Flower answers for a node that is gone."""
    return Message(Error(5, "Node Unavailable"), reply_to=message) if is_train(message) else answered()


def is_train(message: Message) -> bool:
    return bool(message.metadata.message_type == "train")


def test_a_client_that_does_not_answer_is_left_out_and_back_in_the_next_round(tmp_path: Path, qwen2_fp32: Path) -> None:
    nodes, folder, sent = clients(tmp_path, [rows(1), rows(2)]), tmp_path / "fleet", []

    def once(message: Message, answered: Callable[[], Message]) -> Message | None:
        sent.append(message)
        return lost(message, answered) if len(sent) < 3 else answered()

    fleet(nodes, config(qwen2_fp32, folder, rounds=2), {1: once})
    assert reason(folder, "client-1") == "no answer within 3600 s"
    assert [sum(part.training is not None for part in round_.clients) for round_ in rounds_of(folder)] == [1, 2]
    # Alone, the other one's adapter is the common one.
    own = next((tmp_path / "out-0").glob("*/round-1/adapter")) / WEIGHTS
    assert own.read_bytes() == (folder / "round-1" / "adapter" / WEIGHTS).read_bytes()


def test_a_node_that_flower_takes_for_gone(tmp_path: Path, qwen2_fp32: Path) -> None:
    fleet(clients(tmp_path, [rows(1), rows(2)]), config(qwen2_fp32, tmp_path / "fleet"), {1: unavailable})
    assert reason(tmp_path / "fleet", "client-1") == "Node Unavailable"


def test_a_client_without_data_says_so(tmp_path: Path, qwen2_fp32: Path) -> None:
    nodes, folder = clients(tmp_path, [rows(1), rows(2), ""]), tmp_path / "fleet"
    Path(nodes[1]["data"]).unlink()
    fleet(nodes, config(qwen2_fp32, folder))
    reasons = {part.name: part.reason for part in rounds_of(folder)[0].clients}
    assert reasons.pop("client-0") is None
    assert all(any(node["data"] in (reason or "") for reason in reasons.values()) for node in nodes[1:]), reasons


def test_another_bundle_is_refused_by_its_hash(tmp_path: Path, qwen2_fp32: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(qwen2_fp32, other)
    manifest = other / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    nodes = clients(tmp_path, [rows(1), rows(2)])
    nodes[1]["bundle"] = str(other)
    fleet(nodes, config(qwen2_fp32, tmp_path / "fleet"))
    (why,) = [part.reason for part in rounds_of(tmp_path / "fleet")[0].clients if part.reason]
    assert f"{other} is another bundle (" in why and "copy the server's here" in why


def changed(change: Callable[[Message], None]) -> Callable[[Message, Callable[[], Message]], Message | None]:
    def trouble(message: Message, answered: Callable[[], Message]) -> Message | None:
        reply = answered()
        if is_train(message):
            change(reply)
        return reply

    return trouble


def with_array(make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Message], None]:
    def change(reply: Message) -> None:
        arrays: ArrayRecord = reply.content[ARRAYS]
        name = next(iter(arrays))
        arrays[name] = Array(make(arrays[name].numpy()))

    return change


def without_array(reply: Message) -> None:
    del reply.content[ARRAYS][next(iter(reply.content[ARRAYS]))]


def without_adapter(reply: Message) -> None:
    del reply.content[ARRAYS]


def figures(**values: Any) -> Callable[[Message], None]:
    return lambda reply: reply.content[METRICS].update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_array(lambda array: array * np.float32("nan")), "has a number that is not finite"),
        (with_array(lambda array: array[:, :-1]), "but must be float32 of"),
        (without_array, "is an adapter of another kind: 1 tensors differ"),
        (without_adapter, "sent no adapter"),
        (figures(targets=0), "trained on no target"),
        (figures(loss=float("nan")), "sent no figures, or one that is not finite"),
    ],
)
def test_an_adapter_that_cannot_be_is_left_out(
    tmp_path: Path, qwen2_fp32: Path, change: Callable[[Message], None], said: str
) -> None:
    nodes, folder = clients(tmp_path, [rows(1), rows(2)]), tmp_path / "fleet"
    fleet(nodes, config(qwen2_fp32, folder), {1: changed(change)})
    assert said in reason(folder, "client-1")
    own = next((tmp_path / "out-0").glob("*/round-1/adapter")) / WEIGHTS
    assert own.read_bytes() == (folder / "adapter" / WEIGHTS).read_bytes()


def test_a_client_whose_loss_diverges_says_so(tmp_path: Path, qwen2_fp32: Path) -> None:
    nodes, folder = clients(tmp_path, [rows(1), rows(2)]), tmp_path / "fleet"
    with pytest.raises(MespError, match="3 rounds in a row did not count.*the loss is nan"):
        fleet(nodes, config(qwen2_fp32, folder, rounds=9, **{"train.lr": 1e30, "train.steps": 3}))
    assert [round_.counted for round_ in rounds_of(folder)] == [False] * 3
    assert "the loss is nan" in (folder / "report.html").read_text()


def test_a_round_below_the_minimum_does_not_count_and_the_next_one_does(tmp_path: Path, qwen2_fp32: Path) -> None:
    nodes, folder, sent = clients(tmp_path, [rows(1), rows(2)]), tmp_path / "fleet", []

    def once(message: Message, answered: Callable[[], Message]) -> Message | None:
        sent.append(message)
        return lost(message, answered) if len(sent) < 3 else answered()

    fleet(nodes, config(qwen2_fp32, folder, rounds=2, **{"min-clients": 2}), {1: once})
    first, second = rounds_of(folder)
    assert not first.counted and first.reason == "1 adapters came, and 2 are needed"
    assert second.counted and not (folder / "round-1").exists()
    # The second round began where the first one did.
    initial, common = load_file(qwen2_fp32 / "adapter.safetensors"), next((tmp_path / "out-0").glob("*/common"))
    assert set(load_file(common / WEIGHTS)) == set(initial)


def test_too_few_clients_at_all_end_the_fleet_with_what_to_do(tmp_path: Path, qwen2_fp32: Path) -> None:
    folder = tmp_path / "fleet"
    with pytest.raises(MespError, match=r"1 clients are connected after 0.1 s, and a round needs 2. Start more"):
        fleet(clients(tmp_path, [rows(1)]), config(qwen2_fp32, folder, **{"min-clients": 2}))
    assert '"status": "failed"' in (folder / "report.json").read_text()


def test_a_round_has_only_so_much_time(tmp_path: Path, qwen2_fp32: Path) -> None:
    nodes, folder = clients(tmp_path, [rows(1)]), tmp_path / "fleet"
    with pytest.raises(MespError, match="steps were done when the round's time was over"):
        fleet(nodes, config(qwen2_fp32, folder, rounds=3, **{"round-seconds": 1e-3, "train.steps": 200}))


class _Killed(BaseException):
    """The server's process ends: nothing of it is written any more."""


@pytest.mark.parametrize(
    ("strategy", "when"),
    [({"strategy.name": "FedAvgM", "strategy.server-momentum": 0.9}, 3), ({"strategy.name": "FedAdam"}, 4), ({}, 3)],
)
def test_a_server_that_is_killed_goes_on_at_its_last_round(
    tmp_path: Path, qwen2_fp32: Path, strategy: dict[str, object], when: int
) -> None:
    nodes, sent = clients(tmp_path, [rows(1)]), []

    def killed(message: Message, answered: Callable[[], Message]) -> Message | None:
        sent.append(message)
        reply = answered()
        if len(sent) == when:  # every round, from 0 on, is one message: in the middle of round 2 or 3
            raise _Killed
        return reply

    cut, whole = tmp_path / "cut", tmp_path / "whole"
    with pytest.raises(_Killed):
        fleet(nodes, config(qwen2_fp32, cut, rounds=3, **strategy), {0: killed})
    done = len(rounds_of(cut))
    assert 0 < done < 3 and not (cut / "report.json").exists()
    fleet(nodes, config(qwen2_fp32, cut, rounds=3, resume=True, **strategy))
    fleet(nodes, config(qwen2_fp32, whole, rounds=3, **strategy))
    assert [round_.round for round_ in rounds_of(cut)] == [1, 2, 3]
    assert (cut / "adapter" / WEIGHTS).read_bytes() == (whole / "adapter" / WEIGHTS).read_bytes()


def test_what_a_client_did_for_a_server_that_was_killed_is_not_done_again(tmp_path: Path, qwen2_fp32: Path) -> None:
    nodes, folder = clients(tmp_path, [rows(1)]), tmp_path / "fleet"

    def killed(message: Message, answered: Callable[[], Message]) -> Message | None:
        answered()
        if is_train(message):
            raise _Killed
        return None

    with pytest.raises(_Killed):
        fleet(nodes, config(qwen2_fp32, folder), {0: killed})
    run = next((tmp_path / "out-0").glob("*/round-1"))
    before = (run / "report.json").stat().st_mtime_ns
    fleet(nodes, config(qwen2_fp32, folder, resume=True))
    assert (run / "report.json").stat().st_mtime_ns == before
    assert (run / "adapter" / WEIGHTS).read_bytes() == (folder / "adapter" / WEIGHTS).read_bytes()


def test_a_client_that_died_goes_on_from_its_checkpoint(tmp_path: Path, qwen2_fp32: Path) -> None:
    nodes, folder = clients(tmp_path, [rows(1)]), tmp_path / "fleet"
    steps = {"train.steps": 6, "train.checkpoint-every": 2}

    def dies(message: Message, answered: Callable[[], Message]) -> Message | None:
        answered()
        run = next((tmp_path / "out-0").glob("*/round-1"))
        for name in ("report.json", "report.html"):
            (run / name).unlink()
        shutil.rmtree(run / "adapter")
        shutil.rmtree(run / "checkpoints" / "step-6")
        raise _Killed

    with pytest.raises(_Killed):
        fleet(nodes, config(qwen2_fp32, folder, **steps), {0: lambda m, a: dies(m, a) if is_train(m) else a()})
    fleet(nodes, config(qwen2_fp32, folder, resume=True, **steps))
    run = mesp.train(qwen2_fp32, tmp_path / "run", data=nodes[0]["data"], steps=6, optimizer="sgd")
    assert run.adapter and (run.adapter / WEIGHTS).read_bytes() == (folder / "adapter" / WEIGHTS).read_bytes()


def test_only_its_own_fleet_is_gone_on_with(tmp_path: Path, qwen2_fp32: Path) -> None:
    nodes, folder = clients(tmp_path, [rows(1)]), tmp_path / "fleet"
    fleet(nodes, config(qwen2_fp32, folder))
    with pytest.raises(UsageError, match="has a fleet already"):
        fleet(nodes, config(qwen2_fp32, folder))
    with pytest.raises(UsageError, match="is a fleet of another strategy: FedAvg, and not FedMedian"):
        fleet(nodes, config(qwen2_fp32, folder, resume=True, **{"strategy.name": "FedMedian"}))
    with pytest.raises(UsageError, match="There is no fleet to go on with"):
        fleet(nodes, config(qwen2_fp32, tmp_path / "none", resume=True))


def test_two_servers_do_not_write_to_one_folder(tmp_path: Path, qwen2_fp32: Path) -> None:
    nodes, folder = clients(tmp_path, [rows(1)]), tmp_path / "fleet"
    asked = config(qwen2_fp32, folder)

    def second(message: Message, answered: Callable[[], Message]) -> Message | None:
        desk = Desk(nodes, asked)
        with pytest.raises(UsageError, match="Another server writes to"):
            run_fleet(desk, FleetSettings.of({**asked, "resume": True}), desk.context)
        return answered()

    fleet(nodes, asked, {0: second})


@pytest.mark.parametrize("name", ["data", "eval_data", "adapter", "threads"])
def test_the_server_names_no_file_of_a_client(tmp_path: Path, qwen2_fp32: Path, name: str) -> None:
    nodes, folder = clients(tmp_path, [rows(1), rows(2)]), tmp_path / "fleet"

    def other(message: Message, answered: Callable[[], Message]) -> Message | None:
        message.content = RecordDict(dict(message.content))
        message.content[CONFIG] = ConfigRecord(
            {**message.content[CONFIG], SETTINGS: f'{{"steps": 1, "{name}": "/etc/passwd"}}'}
        )
        return answered()

    fleet(nodes, config(qwen2_fp32, folder), {1: other})
    assert f"asks for {name}, which is the client's own" in reason(folder, "client-1")
