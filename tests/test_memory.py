"""The sampler: it sees memory that is held for a moment inside one call, says where, names gaps, and refuses what is implausible."""

import os
import signal
import time
from itertools import count

import pytest
import torch

from mesp.runtime.errors import MespError
from mesp.runtime.memory.sampler import Sampler, exact_footprint_bytes

pytestmark = pytest.mark.alone

MB = 1_000_000


def touch(megabytes: int) -> torch.Tensor:
    return torch.ones(megabytes * MB // 4)


def idle(sampler: Sampler, calls: int = 30) -> None:
    for _ in range(calls):
        sampler(None)


def test_memory_that_is_held_shows_as_footprint() -> None:
    before = exact_footprint_bytes()
    held = touch(40)
    assert 39 * MB < exact_footprint_bytes() - before < 45 * MB
    del held


def test_the_peak_is_found_while_the_interpreter_is_busy_elsewhere() -> None:
    """torch holds the memory for a few samples inside one call after another; no call of the sampler falls into that time."""
    with Sampler() as sampler:
        sampler("quiet")
        idle(sampler)
        sampler("busy")
        held = touch(60)
        time.sleep(0.1)
        del held
        sampler("quiet again")
        idle(sampler)
        sampler.end_of_step()
    report = sampler.report(least_bytes=MB)
    assert 59 * MB < report.delta_footprint_bytes < 75 * MB
    assert report.peak_phase == "busy"
    phases = {sample.phase: sample.footprint_bytes for sample in sampler.phases()}
    assert phases["busy"] - phases["quiet"] > 50 * MB
    assert phases["quiet again"] < phases["busy"]
    assert report.longest_gap_seconds < 0.1
    assert report.vm_hwm_bytes >= 60 * MB


def test_idle_that_is_not_at_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something else takes a megabyte at each reading."""
    with Sampler() as sampler:
        idle(sampler)
    assert sampler.report(0).baseline_is_stable
    readings = count(exact_footprint_bytes(), MB)
    monkeypatch.setattr("mesp.runtime.memory.sampler.exact_footprint_bytes", lambda: next(readings))
    with Sampler() as sampler:
        idle(sampler)
        assert not sampler.report(0).baseline_is_stable


def test_too_few_samples_are_refused() -> None:
    with Sampler() as sampler:
        sampler.samples = 0
        with pytest.raises(MespError, match="too few"):
            sampler.report(0)


def test_a_peak_below_what_the_run_held_is_refused() -> None:
    with Sampler() as sampler:
        idle(sampler)
        with pytest.raises(MespError, match="below the adapter's own"):
            sampler.report(least_bytes=500 * MB)


def test_what_is_skipped_is_in_no_peak() -> None:
    with Sampler() as sampler:
        held = touch(60)
        time.sleep(0.1)
        del held
        sampler.skip()
        idle(sampler)
        sampler.end_of_step()
    assert sampler.report(least_bytes=0).delta_footprint_bytes < 30 * MB


def test_a_gap_is_named() -> None:
    """The process that samples is stopped for a while, and no call of the sampler falls into that time."""
    with Sampler() as sampler:
        idle(sampler)
        sampler("busy")
        os.kill(sampler._process.pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(sampler._process.pid, signal.SIGCONT)
        sampler("quiet")
        idle(sampler)
        report = sampler.report(least_bytes=0)
    assert 0.25 < report.longest_gap_seconds < 0.6 and report.longest_gap_phase == "busy"
