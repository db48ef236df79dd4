"""What the tests of the maths share: errors in norm, and tensors to try."""

import torch
from torch import Tensor


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """|ours - reference| / |reference|; shapes must agree."""
    assert ours.shape == reference.shape, f"{tuple(ours.shape)} against {tuple(reference.shape)}"
    ours, reference = ours.double(), reference.double()
    return float((ours - reference).norm() / reference.norm().clamp_min(1e-300))


def assert_close(ours: Tensor, reference: Tensor, tolerance: float, name: str) -> None:
    """Fails with the worst element's place and values."""
    error = relative_error(ours, reference)
    if not error <= tolerance:
        worst = (ours.double() - reference.double()).abs().argmax()
        place = tuple(int(i) for i in torch.unravel_index(worst, ours.shape))
        raise AssertionError(
            f"{name}: relative error {error:.2e} > {tolerance:.0e}; worst at {place}: "
            f"{ours[place].item():.9g} against {reference[place].item():.9g}"
        )


class Draw:
    """Seeded random tensors in double precision."""

    def __init__(self, seed: int = 0):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)
