"""Which samples of memory are logged. The same cases as ThinningTest.kt."""

import json
from dataclasses import asdict

import pytest

from mesp.runtime.memory.sampler import Sample
from mesp.runtime.memory.thinning import Thinning


def samples(step: int, largest: int = 1) -> list[Sample]:
    phases = ("forward 0", "backward 0", "between steps")
    return [Sample(step + i / 10, phase, largest + i % 2, 0) for i, phase in enumerate(phases)]


def run(steps: int, peak: int = 0) -> list[Sample]:
    thinning = Thinning()
    made = (
        sample
        for step in range(1, steps + 1)
        for sample in thinning.step(step, samples(step, 1000 if step == peak else 1))
    )
    return [*made, *thinning.rest()]


@pytest.mark.parametrize(
    ("steps", "lines"),
    [
        (1, 3),
        (32, 96),
        (33, 97),
        (100, 3 * 33 + 67),
        (1000, 3 * 36 + 964),
        (2000, 3 * 37 + 964 + 100 + 1),
        (20_000, 2092),
    ],
)
def test_the_first_steps_are_logged_whole_and_later_ones_less(steps: int, lines: int) -> None:
    log = run(steps)
    assert len(log) == lines
    assert [sample.seconds for sample in log] == sorted(sample.seconds for sample in log)
    assert sum(len(json.dumps(asdict(sample))) + 1 for sample in log) < 250_000


@pytest.mark.parametrize("peak", [1, 33, 1001, 1009, 12_345, 19_999, 20_000])
def test_the_largest_sample_is_always_logged(peak: int) -> None:
    assert max(sample.footprint_bytes for sample in run(20_000, peak)) == 1001


def test_of_an_evaluation_one_line_is_logged_and_the_first_sequence_whole() -> None:
    thinning = Thinning()

    def evaluation(step: int) -> list[int]:
        made = [thinning.sequence(step, done, 64, samples(done, done)) for done in range(1, 65)]
        return [sample.footprint_bytes for part in made for sample in part]

    assert evaluation(0) == [1, 2, 1, 65]
    assert evaluation(10) == [65]
    assert evaluation(1001) == []
    assert [sample.footprint_bytes for sample in thinning.rest()] == [65]
