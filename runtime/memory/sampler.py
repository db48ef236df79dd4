"""The memory of a run, sampled while it runs.

    footprint  anonymous memory + what of it was swapped or compressed + dirty pages of mapped files.
               /proc/PID/smaps_rollup adds it up exactly (Private_Dirty + Shared_Dirty + Swap), but takes milliseconds. Between steps it is read
               there. At the rate of the samples that is too slow: they are anonymous memory of /proc/PID/statm, plus the swap and dirty file
               pages of the last exact reading.
               Pages of the mapped weights are clean: the kernel can drop them, and they do not count.
    baseline   the footprint after imports and reading the data, before the bundle is opened for training. So programs, arena, adapter,
               optimizer state and XNNPACK's workspace all count as the run's own. It is stable if two readings in a row agree.
    peak       the largest sample.
    VmHWM      the largest resident size ever, clean pages too: an upper bound with no gap between samples, and what `top` and most tools show.

On a busy machine the samples may have a gap. The report names the longest, and the phase that it was in: what was taken and given back
within it is not seen, but is in VmHWM.

ExecuTorch holds Python's lock while a program runs, so a thread could not sample then. A second process does (``watch``), and
leaves its samples in a ring of shared memory; the trainer's own process adds a sample at the end of every program call.
"""

import ctypes
import gc
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ..contract import BETWEEN_STEPS, LOAD
from ..errors import MespError
from . import watch

_PLATEAU_BYTES = 256 * 1024
_SETTLE_ROUNDS, _SETTLE_SECONDS, _SETTLED_BYTES = 12, 0.02, 512 * 1024


def exact_footprint_bytes() -> int:
    """Private_Dirty + Shared_Dirty + Swap of this process. Takes milliseconds."""
    return sum(_fields("/proc/self/smaps_rollup", ("Private_Dirty", "Shared_Dirty", "Swap")))


def high_water_mark_bytes() -> int:
    """VmHWM of this process."""
    return _fields("/proc/self/status", ("VmHWM",))[0]


def reset_high_water_mark() -> bool:
    """Starts VmHWM anew from now on, where the kernel allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        return True
    except OSError:
        return False


def major_faults() -> int:
    """Page faults of this process so far that had to wait for the disk."""
    return int(Path("/proc/self/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[9])


def settle() -> bool:
    """Gives freed memory back to the system, so that the baseline does not hold what training will then take from it unseen.

    Returns:
        whether two readings of the footprint in a row agree; where they do not, something else still takes or frees memory
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other C libraries keep less
    if trim:
        trim(0)
    before = exact_footprint_bytes()
    for _ in range(_SETTLE_ROUNDS):
        time.sleep(_SETTLE_SECONDS)
        now = exact_footprint_bytes()
        if abs(now - before) <= _SETTLED_BYTES:
            return True
        before = now
    return False


def _fields(path: str, names: tuple[str, ...]) -> list[int]:
    """Fields of a /proc file in bytes, 0 for one that is not there."""
    found = dict.fromkeys(names, 0)
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key in found:
            found[key] = int(value.split()[0]) * 1024
    return list(found.values())


@dataclass
class Sample:
    """One reading. For a phase, the largest of it."""

    seconds: float  # since the sampler started
    phase: str
    footprint_bytes: int
    rss_bytes: int


@dataclass(frozen=True)
class MemoryReport:
    """What a run's samples come to; the fields of ``memory`` in report.json."""

    baseline_footprint_bytes: int
    peak_footprint_bytes: int
    delta_footprint_bytes: int
    peak_phase: str
    vm_hwm_bytes: int
    vm_hwm_is_of_the_run: bool
    samples: int
    longest_gap_seconds: float
    longest_gap_phase: str
    major_faults: int
    dirty_file_and_swap_bytes: (
        int  # of the footprint over idle, at the end of the last step: dirty pages of mapped files, and swap
    )
    baseline_is_stable: bool = True  # runs of an earlier version do not say


class Sampler:
    """Samples this process from ``with`` to the end of it, and keeps the largest sample of each phase.

    Call it with a phase's name when one begins, and with None at the end of a program call (a session's observer does).
    """

    def __init__(self) -> None:
        if not Path("/proc/self/status").exists():
            raise MespError("Memory is read from /proc, which this system does not have. Train on Linux or Android.")
        self.samples = 0
        self.longest_gap_seconds, self.longest_gap_phase = 0.0, LOAD
        self._closed: list[Sample] = []
        self._phase = LOAD
        self._largest: Sample | None = None
        self._read = 0
        self._statm = watch.Statm(os.getpid())

    def __enter__(self) -> "Sampler":
        self._baseline_is_stable = settle()
        self._hwm_reset = reset_high_water_mark()
        self._faults = major_faults()
        self.baseline_footprint_bytes = exact_footprint_bytes()
        self._file_and_swap_bytes = self.baseline_footprint_bytes - self._statm.read()[0]
        self._file_and_swap_bytes_at_rest = self._file_and_swap_bytes
        self._start = self._last = time.monotonic_ns()
        self.since_epoch_seconds = time.time()  # when the samples' seconds begin
        self.peak_phase = self._phase
        self.peak = Sample(0.0, self._phase, self.baseline_footprint_bytes, 0)
        self._file = tempfile.NamedTemporaryFile(prefix="mesp-samples-")
        self._file.truncate(watch.RING_BYTES)
        self._ring = mmap.mmap(self._file.fileno(), watch.RING_BYTES, access=mmap.ACCESS_READ)
        command = [sys.executable, "-I", "-S", watch.__file__, str(os.getpid()), self._file.name]
        # In a session of its own: Ctrl-C, Ctrl-Z and the end of the terminal are meant for the trainer.
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        self._wait_for_the_first_sample()
        return self

    def _wait_for_the_first_sample(self) -> None:
        deadline = time.monotonic() + 30
        while not watch.written(self._ring):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise MespError("The process that samples memory did not start.")
            time.sleep(0.001)
        self._last = time.monotonic_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._file.close()

    def __call__(self, phase: str | None) -> None:
        now = time.monotonic_ns()
        if phase is not None or now - self._last > 1e9 * watch.INTERVAL_SECONDS:
            self._drain()
        self._take(now, *self._statm.read())
        if phase is not None:
            self._close_phase()
            self._phase = phase

    def skip(self) -> None:
        """Passes over what was sampled since the last call: it is no part of the run."""
        self._read, self._last = watch.written(self._ring), time.monotonic_ns()

    def end_of_step(self) -> int:
        """Reads the exact footprint once, and returns the largest of the samples since the last call, in bytes."""
        self._drain()
        self._close_phase()
        self._phase = BETWEEN_STEPS
        self._file_and_swap_bytes = exact_footprint_bytes() - self._statm.read()[0]
        self(None)
        return max((sample.footprint_bytes for sample in self._closed), default=0)

    def finish(self) -> None:
        """Ends the last phase, so that ``phases`` has every sample that ``report`` knows of."""
        self._drain()
        self._close_phase()

    def phases(self) -> Iterator[Sample]:
        """The largest sample of each phase that ended since the last call."""
        yield from self._closed
        self._closed = []

    def report(self, least_bytes: int) -> MemoryReport:
        """The summary.

        Args:
            least_bytes: what the run is known to have held, its adapter: less cannot be true

        Raises:
            MespError: the samples are too few or implausible, so that the peak would be a guess.
        """
        delta = self.peak.footprint_bytes - self.baseline_footprint_bytes
        if self.samples < 20:
            raise MespError(f"The memory report is refused: {self.samples} samples are too few to know a peak.")
        if delta < least_bytes:
            raise MespError(
                f"The memory report is refused: a peak of {delta} bytes over idle is below the adapter's own {least_bytes}."
            )
        return MemoryReport(
            baseline_footprint_bytes=self.baseline_footprint_bytes,
            baseline_is_stable=self._baseline_is_stable,
            peak_footprint_bytes=self.peak.footprint_bytes,
            delta_footprint_bytes=delta,
            peak_phase=self.peak_phase,
            vm_hwm_bytes=high_water_mark_bytes(),
            vm_hwm_is_of_the_run=self._hwm_reset,
            samples=self.samples,
            longest_gap_seconds=round(self.longest_gap_seconds, 4),
            longest_gap_phase=self.longest_gap_phase,
            major_faults=major_faults() - self._faults,
            dirty_file_and_swap_bytes=self._file_and_swap_bytes - self._file_and_swap_bytes_at_rest,
        )

    def _drain(self) -> None:
        """Takes over what the sampling process has written since."""
        written = watch.written(self._ring)
        for record in watch.records(self._ring, self._read, written):
            self._take(*record)
        self._read = written

    def _take(self, nanoseconds: int, footprint: int, resident: int) -> None:
        self.samples += 1
        if (gap := (nanoseconds - self._last) / 1e9) > self.longest_gap_seconds:
            self.longest_gap_seconds, self.longest_gap_phase = gap, self._phase
        self._last = max(self._last, nanoseconds)
        footprint += self._file_and_swap_bytes
        if self._largest is None or footprint > self._largest.footprint_bytes:
            self._largest = Sample((nanoseconds - self._start) / 1e9, self._phase, footprint, resident)
            if footprint > self.peak.footprint_bytes:
                # Freed memory stays with the process, so the peak is a plateau: it belongs to the phase that first reached it.
                if footprint > self.peak.footprint_bytes + _PLATEAU_BYTES:
                    self.peak_phase = self._phase
                self.peak = self._largest

    def _close_phase(self) -> None:
        if self._largest:
            self._closed.append(self._largest)
        self._largest = None
