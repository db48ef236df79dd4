"""The app's memory, read from outside of it: what the kernel and Android's services say, beside what the app says of itself.

footprint   of /proc/PID/smaps_rollup, where the app may be debugged (run-as): Private_Dirty + Shared_Dirty + Swap, the definition of
            runtime/memory/sampler.py. Otherwise of /proc/PID/status, which adb's shell may read of any process: RssAnon + RssShmem + VmSwap,
            which is the same but for dirty pages of mapped files.
VmHWM       the kernel's own high-water mark of all that was resident, with no gap between samples.
PSS         of dumpsys meminfo by class. It makes the app itself count, so it is asked for rarely; its own cost is in the step's time.

The kernel's figures are read for each sample, the services' each ``SERVICES_EVERY`` samples. Times are the phone's.
"""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mesp.runtime.errors import MespError

from . import dumpsys, kernel_files
from .adb import Device, Disconnected, ShellFailed
from .app import CLOCK, PACKAGE, epoch_seconds
from .reading import Unreadable, known

SERVICES_EVERY = 15

# A fork costs a phone milliseconds, and pidof, which reads all of /proc, tens of them: so the shell's own words where there are some (cat is
# one in Android's shell), and the process that is known for as long as it is there.
_KERNEL = {
    "time": CLOCK,
    "pid": 'PID={pid}; [ -d "/proc/$PID" ] || PID=$(pidof {package}); PID=${PID%% *}; echo "$PID"',
    "status": 'cat "/proc/$PID/status"',
    "meminfo": "cat /proc/meminfo",
    "frequencies": "cat /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq",
}
_ROLLUP = {"rollup": 'run-as {package} cat "/proc/$PID/smaps_rollup"'}
_FOOTPRINT = ("Private_Dirty", "Shared_Dirty", "Swap")
_ROLLUP_HEAD = "Private_Dirty:"
_SERVICES = {
    "dump": 'dumpsys meminfo "$PID"',
    "thermal": "dumpsys thermalservice",
    "battery": "dumpsys battery",
}


def _kernel(output: dict[str, str]) -> dict[str, Any]:
    status, memory = kernel_files.fields(output["status"]), kernel_files.fields(output["meminfo"])
    # What is not allowed to run-as is told in the vendor's own words.
    rollup = kernel_files.fields(output["rollup"]) if _ROLLUP_HEAD in output.get("rollup", "") else {}
    if rollup.keys() >= set(_FOOTPRINT):
        source, parts = "smaps_rollup", [rollup[name] for name in _FOOTPRINT]
    elif "RssAnon" in status:
        source, parts = "status", [status.get(name, 0) for name in ("RssAnon", "RssShmem", "VmSwap")]
    else:  # a kernel before 4.5
        source, parts = None, []
    swap = memory.keys() >= {"SwapTotal", "SwapFree"}
    return {
        "footprint_bytes": sum(parts) if source else None,
        "footprint_source": source,
        "pss_bytes": rollup.get("Pss"),
        "rss_bytes": status["VmRSS"],
        "vm_hwm_bytes": status.get("VmHWM"),
        "swap_bytes": status.get("VmSwap"),
        "available_bytes": memory.get("MemAvailable"),
        "swap_used_bytes": known(memory["SwapTotal"] - memory["SwapFree"], 0, memory["SwapTotal"]) if swap else None,
        "cpu_khz": kernel_files.frequencies(output["frequencies"]),
    }


def _services(output: dict[str, str]) -> dict[str, Any]:
    dump, thermal, battery = (
        dumpsys.meminfo(output["dump"]),
        dumpsys.thermal(output["thermal"]),
        dumpsys.battery(output["battery"]),
    )
    return {
        "pss_by_class_bytes": dump.pss_bytes if dump else None,
        "summary_bytes": dump.summary_bytes if dump else None,
        "total_pss_bytes": dump.total_pss_bytes if dump else None,
        "thermal_status": thermal.status,
        "celsius": thermal.celsius,
        "battery_celsius": battery.celsius,
        "battery_percent": battery.level_percent,
    }


class Outside:
    """Samples from ``with`` to its end, on a thread of its own, into a file of JSON lines.

    Args:
        file: lines are appended
        seconds: between the beginnings of two samples; 0 for none at all
        gone: told once when the app's process, once seen, is not there any more
        refused: told of what there is no sampling with: output that was not understood, or a storage that is full here; where only a
            service's output was not understood, sampling goes on without it
    """

    def __init__(
        self,
        device: Device,
        file: Path,
        seconds: float,
        gone: Callable[[], None],
        refused: Callable[[MespError | OSError], None],
    ):
        self._device, self._file, self._gone, self._refused, self._seconds = device, file, gone, refused, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="outside", daemon=True)
        self._may_run_as = True
        self._has_run_as = False
        self._asks_services = True
        self._pid = 0  # 0 is no process's own
        self.last_pid: int | None = None  # the last one that was seen

    def __enter__(self) -> "Outside":
        if self._seconds:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._seconds:
            self._thread.join(timeout=10)

    def _watch(self) -> None:
        number = missed = 0
        with self._file.open("a", encoding="utf-8") as log:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    sample = self.sample(services=self._asks_services and number % SERVICES_EVERY == 0)
                    if sample:
                        print(json.dumps(sample), file=log, flush=True)
                except Disconnected:
                    pass  # whoever follows the log waits for the phone; memory is not sampled meanwhile
                except ShellFailed as error:
                    self._refused(Unreadable(error.command, error.output, "the phone's figures"))
                    return
                except (MespError, OSError) as error:
                    self._refused(error)
                    return
                else:
                    number, missed = (number + 1, 0) if sample else (number, missed + 1)
                    if number and missed == 2:
                        self._gone()
                self._over.wait(max(0.0, self._seconds - (time.monotonic() - began)))

    def sample(self, services: bool) -> dict[str, Any] | None:
        """One sample, None when the app does not run.

        Raises:
            Disconnected: the phone was lost.
        """
        commands = {**_KERNEL, **(_ROLLUP if self._may_run_as else {}), **(_SERVICES if services else {})}
        output = self._device.sections(
            {
                name: text.replace("{package}", PACKAGE).replace("{pid}", str(self._pid))
                for name, text in commands.items()
            },
            seconds=30,
        )
        pid = output["pid"].strip()
        if not pid.isdecimal() or "VmRSS" not in kernel_files.fields(output["status"]):
            self._pid = 0
            return None
        self._pid = self.last_pid = int(pid)
        if self._may_run_as and _ROLLUP_HEAD not in output["rollup"]:
            if self._has_run_as:
                return None  # the process went while it was read
            self._may_run_as = False  # the app is not debuggable, or the vendor's run-as is broken
        self._has_run_as = self._may_run_as
        sample = {"seconds": epoch_seconds(output["time"]), "pid": self._pid, **_kernel(output)}
        if services:
            try:
                sample |= _services(output)
            except Unreadable as error:
                self._asks_services = False
                self._refused(error)
        return sample
