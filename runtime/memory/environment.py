"""The machine and the versions that a run's figures were measured with."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil


def versions() -> dict[str, str]:
    """Of Python and of the packages that a run's numbers depend on."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "executorch", "transformers", "numpy")},
    }


def environment() -> dict[str, Any]:
    """The machine and the versions, for the report."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        **versions(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith(("model name", "Hardware")):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
