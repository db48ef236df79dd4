"""What hides a client's adapter: Flower's secure aggregation and its differential privacy, with adapters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message
from safetensors.numpy import load_file

from mesp.runtime.errors import MespError, UsageError
from mesp.runtime.fleet.folder import FleetFolder

from .desk import clients, config, fleet, rows

WEIGHTS = "adapter_model.safetensors"
SECURE = {"privacy.mode": "secure-aggregation", "privacy.clipping-norm": 2.0}


def adapter(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "adapter" / WEIGHTS)


def error(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference of two adapters."""
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def test_the_mean_of_masked_adapters_is_that_of_the_adapters(tmp_path: Path, qwen2_fp32: Path) -> None:
    nodes, seen = clients(tmp_path, [rows(1), rows(2), rows(3)]), []

    def watched(message: Message, answered: Callable[[], Message]) -> Message:
        reply = answered()
        seen.append(reply)
        return reply

    fleet(nodes, config(qwen2_fp32, tmp_path / "open"))
    fleet(nodes, config(qwen2_fp32, tmp_path / "secure", **SECURE), {0: watched})
    assert error(adapter(tmp_path / "secure"), adapter(tmp_path / "open")) < 1e-5
    # The adapter itself is nowhere in what the client sent.
    own = load_file(next(Path(nodes[0]["output"]).glob("secure-*/round-1/adapter")) / WEIGHTS)
    for reply in seen:
        for record in reply.content.values():
            if isinstance(record, ArrayRecord):
                assert not any(len(array.data) for array in record.values())
    values = [bytes(part) for reply in seen for part in _bytes(reply)]
    assert values and not any(array.tobytes()[:64] in part for array in own.values() for part in values)
    (_, round_) = FleetFolder(tmp_path / "secure").rounds()
    assert all(part.training and part.name.startswith("client-") for part in round_.clients)


def _bytes(reply: Message) -> list[bytes]:
    found: list[bytes] = []
    for record in reply.content.config_records.values():
        for value in record.values():
            found += [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, bytes)]
    return found


def test_a_client_that_is_lost_after_its_keys_does_not_spoil_the_mean(tmp_path: Path, qwen2_fp32: Path) -> None:
    nodes, folder = clients(tmp_path, [rows(1), rows(2), rows(3), rows(4)]), tmp_path / "secure"
    Path(nodes[3]["data"]).write_text("")  # it gives its keys, and then cannot train
    fleet(nodes, config(qwen2_fp32, folder, **SECURE))
    fleet(nodes[:3], config(qwen2_fp32, tmp_path / "open"))
    assert error(adapter(folder), adapter(tmp_path / "open")) < 1e-5
    (_, round_) = FleetFolder(folder).rounds()
    reasons = {part.name: part.reason for part in round_.clients}
    assert reasons.pop("client-3") and set(reasons.values()) == {None}


@pytest.mark.parametrize(
    ("more", "said", "kind"),
    [
        ({"strategy.name": "FedMedian"}, "FedMedian looks at each client's adapter", UsageError),
        ({}, "Secure aggregation needs 3 clients, and there are 2", MespError),
    ],
)
def test_what_would_hide_nothing_is_refused(
    tmp_path: Path, qwen2_fp32: Path, more: dict[str, Any], said: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=said):
        fleet(clients(tmp_path, [rows(1), rows(2)]), config(qwen2_fp32, tmp_path / "fleet", **SECURE, **more))


def change(bundle: Path, fleet_folder: Path) -> np.ndarray:
    """Of the adapter, all of its numbers."""
    before, after = load_file(bundle / "adapter.safetensors"), adapter(fleet_folder)
    return np.concatenate([(after[name] - before[name]).ravel() for name in before])


@pytest.mark.parametrize("mode", ["central", "central-clients"])
def test_central_noise_is_as_large_as_it_says(tmp_path: Path, qwen2_fp32: Path, mode: str) -> None:
    """A small learning rate changes next to nothing, so what is there is noise."""
    nodes = clients(tmp_path, [rows(1), rows(2)])
    asked = {"train.lr": 1e-7, "privacy.mode": mode, "privacy.noise-multiplier": 0.5, "privacy.clipping-norm": 0.2}
    fleet(nodes, config(qwen2_fp32, tmp_path / "fleet", **asked, **{"strategy.min-train-nodes": 2}))
    assert change(qwen2_fp32, tmp_path / "fleet").std() == pytest.approx(0.5 * 0.2 / 2, rel=0.05)


def test_local_noise_is_as_large_as_it_says(tmp_path: Path, qwen2_fp32: Path) -> None:
    asked = {"train.lr": 1e-7, "privacy.mode": "local", "privacy.epsilon": 50.0, "privacy.delta": 1e-5}
    fleet(
        clients(tmp_path, [rows(1)]), config(qwen2_fp32, tmp_path / "fleet", **asked, **{"privacy.clipping-norm": 0.2})
    )
    assert change(qwen2_fp32, tmp_path / "fleet").std() == pytest.approx(
        0.2 * np.sqrt(2 * np.log(1.25 / 1e-5)) / 50, rel=0.05
    )


def test_a_change_is_clipped(tmp_path: Path, qwen2_fp32: Path) -> None:
    asked = {"train.lr": 1.0, "privacy.mode": "central-clients", "privacy.noise-multiplier": 1e-9}
    fleet(
        clients(tmp_path, [rows(1)]), config(qwen2_fp32, tmp_path / "fleet", **asked, **{"privacy.clipping-norm": 0.01})
    )
    assert np.linalg.norm(change(qwen2_fp32, tmp_path / "fleet")) == pytest.approx(0.01, rel=1e-2)
