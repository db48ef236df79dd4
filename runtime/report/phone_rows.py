"""What a report says of a run on a phone: the phone, how the run ended there, and its memory inside and outside of the app."""

from collections.abc import Mapping
from typing import Any

MB = 1e6
# android.os.PowerManager's, 0 to 6.
_STATUSES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_SOURCES = {
    "smaps_rollup": "smaps_rollup, as inside: private and shared dirty pages, and swap",
    "status": "/proc/PID/status: anonymous and shared memory, and swap; without dirty pages of mapped files",
}


def phone_rows(device: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Labels and values of device.json; nothing for a run that was not on a phone."""
    if device is None:
        return []
    phone, end = device["phone"], device["end"]
    rows = [
        ("Phone", f"{phone['manufacturer']} {phone['model']}, Android {phone['android']} (API {phone['sdk']})"),
        ("Phone's memory", _gb(phone["memory_bytes"])),
        (
            "How it ended",
            f"{end['status'].replace('_', ' ')}: {end['reason']}"
            if end.get("reason")
            else end["status"].replace("_", " "),
        ),
        ("Lost connections", str(device["disconnections"]) if device.get("disconnections") else None),
        ("Not understood", "; ".join(device.get("notes", ())) or None),
        *_memory(device.get("memory", {})),
    ]
    return [(label, value) for label, value in rows if value is not None]


def _memory(memory: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    if "refused" in memory:
        return [("From outside", f"refused: {memory['refused']}")]
    if "outside_peak_footprint_bytes" not in memory:
        return []
    celsius, khz = memory["hottest_battery_celsius"], memory["slowest_fastest_core_khz"]
    return [
        ("Peak footprint, inside", _mb(memory["inside_peak_footprint_bytes"])),
        ("Peak footprint, outside", _mb(memory["outside_peak_footprint_bytes"])),
        ("Outside to inside", _verdict(memory)),
        ("Outside is read from", _SOURCES[memory["outside_source"]]),
        ("Resident, as top shows it, outside", _mb(memory["outside_vm_hwm_bytes"])),
        ("Samples from outside", f"{memory['samples']}, longest gap {memory['longest_gap_seconds']:.1f} s"),
        ("PSS, by dumpsys meminfo", _pss(memory)),
        ("Swapped or compressed, at most", _mb(memory["most_swapped_bytes"])),
        ("Phone's memory left, at least", _gb(memory["least_available_bytes"])),
        ("Phone's swap in use, at most", _mb(memory["most_swap_used_bytes"])),
        ("Battery, at its hottest", None if celsius is None else f"{celsius:.1f} °C"),
        ("Thermal status, at its highest", _thermal(memory["highest_thermal_status"])),
        ("Fastest core, at its slowest", None if khz is None else f"{khz / 1e6:.2f} GHz"),
    ]


def _pss(memory: Mapping[str, Any]) -> str | None:
    """The total, and the classes that are a megabyte or more."""
    if "pss_refused" in memory:
        return f"refused: {memory['pss_refused']}"
    total = memory["total_pss_bytes"]
    if total is None:
        return None
    large = sorted((item for item in memory["pss_by_class_bytes"].items() if item[1] >= MB), key=lambda item: -item[1])
    return f"{total / MB:.1f} MB" + (
        ": " + ", ".join(f"{name} {size / MB:.1f}" for name, size in large) if large else ""
    )


def _thermal(status: int | None) -> str | None:
    return None if status is None else _STATUSES[status]


def _verdict(memory: Mapping[str, Any]) -> str:
    if memory["agrees"] is None:
        return str(memory["explanation"])
    ratio = f"{memory['outside_over_inside']:.3f}"
    return f"{ratio}: they agree" if memory["agrees"] else f"{ratio}: {memory['explanation']}"


def _mb(size: float | None) -> str | None:
    return None if size is None else f"{size / MB:.1f} MB"


def _gb(size: float | None) -> str | None:
    return None if size is None else f"{size / 1e9:.2f} GB"
