"""What a run on a phone came to: inside beside outside, what is refused, and how a process ended."""

import json
from pathlib import Path
from typing import Any

import pytest

from mesp.device.dumpsys import Exit
from mesp.device.verdict import compare, end_of_process
from mesp.runtime.report.phone_rows import phone_rows

MB = 1_000_000


def sample(second: float, footprint: int, **other: Any) -> dict[str, Any]:
    return {
        "seconds": 1000.0 + second,
        "pid": 7,
        "footprint_bytes": footprint * MB,
        "footprint_source": "status",
        "rss_bytes": 200 * MB,
        "vm_hwm_bytes": 210 * MB,
        "swap_bytes": 0,
        "available_bytes": 900 * MB,
        "swap_used_bytes": None,
        "cpu_khz": [900_000, 2_000_000],
        **other,
    }


def run(folder: Path, samples: list[dict[str, Any]], peak: int | None = 100) -> Path:
    (folder / "outside.jsonl").write_text("".join(json.dumps(line) + "\n" for line in samples))
    if peak is not None:
        memory = {"peak_footprint_bytes": peak * MB, "vm_hwm_bytes": 205 * MB}
        (folder / "report.json").write_text(json.dumps({"memory": memory}))
    return folder


def plateau(height: int = 100, **other: Any) -> list[dict[str, Any]]:
    return [sample(second, height if second else 50, **other) for second in range(6)]


def test_inside_and_outside_agree(tmp_path: Path) -> None:
    found = compare(run(tmp_path, plateau(97)), 4000 * MB)
    assert found["agrees"] and found["outside_over_inside"] == 0.97 and found["samples"] == 6
    assert found["slowest_fastest_core_khz"] == 2_000_000 and found["least_available_bytes"] == 900 * MB


@pytest.mark.parametrize(
    ("height", "word"), [(60, "shorter peak is seen inside alone"), (130, "held more before or after the run")]
)
def test_a_difference_is_explained(tmp_path: Path, height: int, word: str) -> None:
    found = compare(run(tmp_path, plateau(height)), 4000 * MB)
    assert found["agrees"] is False and word in found["explanation"]


@pytest.mark.parametrize(
    ("samples", "memory", "word"),
    [
        (plateau()[:4], 4000, "too few"),
        (plateau(300), 4000, "above the kernel's own high-water mark"),
        (plateau(rss_bytes=5000 * MB, vm_hwm_bytes=5000 * MB), 4000, "more than the phone has"),
        ([sample(5 - second, 100) for second in range(6)], 4000, "clock went back"),
        ([], 4000, "0 samples"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, samples: list[dict[str, Any]], memory: int, word: str) -> None:
    found = compare(run(tmp_path, samples), memory * MB)
    assert word in found["refused"] and "agrees" not in found


def test_swapped_memory_is_not_held_against_the_high_water_mark(tmp_path: Path) -> None:
    assert "refused" not in compare(run(tmp_path, plateau(300, swap_bytes=150 * MB), peak=300), 4000 * MB)


def test_only_the_last_process_counts(tmp_path: Path) -> None:
    before = [sample(second - 20, 180, pid=6) for second in range(9)]
    assert compare(run(tmp_path, before + plateau()), 4000 * MB)["outside_peak_footprint_bytes"] == 100 * MB


def test_a_killed_run_is_compared_by_its_log(tmp_path: Path) -> None:
    (tmp_path / "memory.jsonl").write_text('{"footprint_bytes": 99000000}\n{"footprint_bytes": 101000000}\n{"footpr')
    assert compare(run(tmp_path, plateau(), peak=None), 4000 * MB)["outside_over_inside"] == pytest.approx(0.9901)
    (tmp_path / "memory.jsonl").unlink()
    assert "no samples of its own" in compare(tmp_path, None)["explanation"]


def test_pss_is_refused_where_more_is_counted_than_is_there(tmp_path: Path) -> None:
    counted: dict[str, Any] = {
        "total_pss_bytes": 240 * MB,
        "pss_by_class_bytes": {"Native Heap": 150 * MB, "EGL mtrack": 90 * MB},
    }
    found = compare(run(tmp_path, plateau(**counted)), 4000 * MB)
    assert found["total_pss_bytes"] == 240 * MB
    counted["pss_by_class_bytes"] = {"Native Heap": 240 * MB}
    assert "more than the 200.0 MB" in compare(run(tmp_path, plateau(**counted)), 4000 * MB)["pss_refused"]


def ended(code: int, reason: str, description: str | None = None) -> Exit:
    return Exit("2026-01-01 00:00:00.000", 7, reason, code, None, 9, description, 125, None, None, None)


@pytest.mark.parametrize(
    ("code", "reason", "status", "word"),
    [
        (3, "LOW_MEMORY", "killed", "memory was short (LOW_MEMORY)"),
        (2, "SIGNALED", "killed", "do not report low memory"),
        (4, "APP CRASH(EXCEPTION)", "crashed", "crash.txt"),
        (5, "APP CRASH(NATIVE)", "crashed", "tombstone"),
        (99, "NEW REASON", "killed", "(NEW REASON)"),
    ],
)
def test_androids_reason_is_told(code: int, reason: str, status: str, word: str) -> None:
    end = end_of_process(7, [ended(code, reason, "why"), ended(3, "LOW_MEMORY")], [])
    assert end.status == status and word in end.reason and end.reason.endswith(": why")
    assert end.exit_status == 1 and end.can_be_resumed


def test_without_androids_reason_the_log_may_have_one() -> None:
    assert "does not say why" in end_of_process(8, [ended(3, "LOW_MEMORY")], []).reason
    assert end_of_process(None, [], ["FATAL EXCEPTION: training"]).status == "crashed"


def test_the_report_has_a_row_for_each_figure(tmp_path: Path) -> None:
    phone = {"manufacturer": "Google", "model": "Pixel 8", "android": "14", "sdk": 34, "memory_bytes": 8e9}
    memory = compare(run(tmp_path, plateau(battery_celsius=31.5, thermal_status=1)), 4000 * MB)
    rows = dict(phone_rows({"phone": phone, "end": {"status": "done", "reason": ""}, "memory": memory}))
    assert rows["Outside to inside"] == "1.000: they agree" and rows["Fastest core, at its slowest"] == "2.00 GHz"
    assert rows["Thermal status, at its highest"] == "light" and rows["Phone's memory"] == "8.00 GB"
    refused = {"phone": phone, "end": {"status": "killed", "reason": "why"}, "memory": compare(run(tmp_path, []), None)}
    assert (
        "too few" in dict(phone_rows(refused))["From outside"]
        and dict(phone_rows(refused))["How it ended"] == "killed: why"
    )
    assert phone_rows(None) == []
