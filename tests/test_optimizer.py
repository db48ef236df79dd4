"""Learning rates against transformers' schedules, and clipping against PyTorch's."""

import pytest
import torch

from mesp.runtime.training.optimizer import LearningRate, Shape, clip_scale


@pytest.mark.parametrize("shape", ["constant", "linear", "cosine"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (10, 0), (10, 3), (10, 10), (7, 1)])
def test_learning_rates_are_those_of_transformers(shape: Shape, steps: int, warmup: int) -> None:
    from transformers import get_scheduler

    name = "constant_with_warmup" if shape == "constant" else shape
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = get_scheduler(name, optimizer, warmup, steps)
    for step in range(1, steps + 1):
        ours = LearningRate(0.3, shape, steps, warmup).at(step)
        assert ours == pytest.approx(schedule.get_last_lr()[0], rel=1e-12, abs=1e-15)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_clipping_is_pytorchs(limit: float) -> None:
    parameter = torch.nn.Parameter(torch.zeros(9, dtype=torch.float64))
    gradient = torch.randn(9, dtype=torch.float64)
    parameter.grad = gradient.clone()
    norm = float(torch.nn.utils.clip_grad_norm_([parameter], limit))
    assert torch.allclose(gradient * clip_scale(norm, limit), parameter.grad, rtol=1e-12)
    assert clip_scale(norm, None) == 1.0
