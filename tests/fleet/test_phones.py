"""Phones as clients: what they train is what this machine would, their rows are sent once, and what happens to a phone happens to its client."""

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mesp.device import fleet as device_fleet
from mesp.device.fleet import worker
from mesp.runtime.fleet.client import client_app
from mesp.runtime.fleet.folder import FleetFolder, Round
from mesp.runtime.fleet.server import run_fleet
from mesp.runtime.fleet.settings import FleetSettings

from .desk import Desk, config
from .phones import BUNDLE, DATA, AdbServer, Phone

WEIGHTS = "adapter_model.safetensors"


def node(folder: Path, name: str, **more: Any) -> dict[str, Any]:
    """A client with every other row of the case's, so that phones differ."""
    lines = DATA.read_text().splitlines(keepends=True)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(lines[ord(name[-1]) % 2 :: 2]))
    return {"name": name, "data": str(data), "output": str(folder / f"out-{name}"), "eval-split": 0.25, **more}


def run(nodes: list[dict[str, Any]], output: Path, **more: Any) -> list[Round]:
    asked = config(BUNDLE, output, **{"train.steps": 3, "train.lr": 0.1, **more})
    desk = Desk(nodes, asked, app=client_app(worker), side_by_side=True)
    run_fleet(desk, FleetSettings.of(asked), desk.context)
    return FleetFolder(output).rounds()


def losses(rounds: list[Round], name: str) -> list[tuple[float, ...]]:
    """What a client came to in each round."""
    parts = [part for round_ in rounds for part in round_.clients if part.name == name]
    trained, keys = [part.training or {} for part in parts], ("targets", "steps", "loss-first", "loss-last")
    evaluated = [part.evaluation or {} for part in parts]
    return [
        (*(figures.get(key, 0.0) for key in keys), own["targets"], own["loss"])
        for figures, own in zip(trained, evaluated, strict=True)
    ]


def test_two_phones_and_this_machine_in_one_fleet(tmp_path: Path, first: Phone, second: Phone) -> None:
    nodes = [
        node(tmp_path, "a", phone=first.serial),
        node(tmp_path, "b", phone=second.serial),
        node(tmp_path, "c"),
    ]
    rounds = run(nodes, tmp_path / "fleet")
    assert not [part.reason for round_ in rounds for part in round_.clients if part.reason]
    here = [{key: value for key, value in item.items() if key != "phone"} for item in nodes]
    for item in here:
        item["output"] += "-here"
    expected = run(here, tmp_path / "here")
    for name in "abc":
        assert losses(rounds, name) == losses(expected, name)
    assert (tmp_path / "fleet" / "adapter" / WEIGHTS).read_bytes() == (
        tmp_path / "here" / "adapter" / WEIGHTS
    ).read_bytes()
    for phone in (first, second):
        assert len(list((phone.files / "data").iterdir())) == 1  # sent once, and still there
        assert not list((phone.files / "runs").iterdir()) and not list((phone.files / "adapters").iterdir())
    report = next((tmp_path / "out-a").glob("*/round-1/device.json"))
    assert json.loads(report.read_text())["end"]["status"] == "done"


def test_a_phone_that_is_unplugged_is_left_out_and_comes_back(
    tmp_path: Path, first: Phone, adb: AdbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [node(tmp_path, "a", phone=first.serial), node(tmp_path, "c")]
    for item in nodes:
        del item["eval-split"]
    monkeypatch.setattr(device_fleet, "_PATIENCE_SECONDS", 1.0)
    adb.run("disconnect", first.serial)
    rounds = run(nodes, tmp_path / "fleet")
    reasons = {part.name: part.reason for part in rounds[-1].clients}
    assert reasons["c"] is None
    assert "no device" in (reasons["a"] or "").lower() or first.serial in (reasons["a"] or "")
    adb.connect(first)
    rounds = run(nodes, tmp_path / "fleet", rounds=2, resume=True)
    assert [part.reason for part in rounds[-1].clients] == [None, None]


def test_a_hot_phone_waits_and_when_the_rounds_time_is_over_is_left_out(tmp_path: Path, first: Phone) -> None:
    nodes = [node(tmp_path, "a", phone=first.serial), node(tmp_path, "c")]
    for item in nodes:
        del item["eval-split"]
    first.heat()
    began = time.monotonic()
    rounds = run(nodes, tmp_path / "fleet", **{"round-seconds": 20.0})
    assert time.monotonic() - began < 90
    reasons = {part.name: part.reason for part in rounds[-1].clients}
    assert reasons["c"] is None and "did not come to the run's end in the round's time" in (reasons["a"] or "")
    # It cools: the same round, asked for again, goes on where it paused.
    first.cool()
    rounds = run(nodes, tmp_path / "fleet", rounds=2, resume=True)
    assert [part.reason for part in rounds[-1].clients] == [None, None]


def test_a_phone_goes_on_with_what_it_did_when_the_client_died(
    tmp_path: Path, first: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server asks for the same round again: the run is on the phone, and is only brought."""
    nodes, output = [node(tmp_path, "a", phone=first.serial)], tmp_path / "fleet"
    del nodes[0]["eval-split"]
    kept = threading.Event()
    clear = device_fleet.PhoneWorker._clear

    def dies(*arguments: Any) -> None:
        if not kept.is_set():
            kept.set()
            raise KeyboardInterrupt  # the client's process ends, before it has answered
        clear(*arguments)

    monkeypatch.setattr(device_fleet.PhoneWorker, "_clear", dies)
    with pytest.raises(KeyboardInterrupt):
        run(nodes, output)
    shutil.rmtree(tmp_path / "out-a")
    on_phone = next((first.files / "runs").iterdir()) / "report.json"
    before = on_phone.read_bytes()
    rounds = run(nodes, output, resume=True)
    assert [part.reason for part in rounds[-1].clients] == [None]
    assert next((tmp_path / "out-a").glob("*/round-1/report.json")).read_bytes() == before
