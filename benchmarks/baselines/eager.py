"""PyTorch's own training: transformers and PEFT in eager mode, fp32, SGD, with or without gradient checkpointing.

    python -m mesp.bench.baselines.eager --model benchmarks/configurations/NAME --tokens 256 --checkpointing -o FILE

The weights are in the process's memory, four bytes each, so they count. Subtract ``weights_bytes`` for what training adds.
"""

import argparse
import sys
from typing import Any

import torch
from torch import Tensor

from .baseline import (
    LEARNING_RATE,
    Step,
    build_parser,
    cores,
    measure_steps,
    parameter_bytes,
    random_model,
    random_row,
    read_config,
    run,
)


def sgd_step(model: Any, ids: Tensor, checkpointing: bool) -> Step:
    """A step of SGD on one row.

    Args:
        model: transformers' with PEFT's adapters, in training mode
        ids: [1, tokens]
        checkpointing: keep only each block's input, and compute the block again in the backward pass
    """
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE)

    def step() -> float:
        loss = model(input_ids=ids, labels=ids).loss
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The results, without what all baselines write."""
    config = read_config(args.model)
    torch.set_num_threads(cores())
    with torch.device("meta"):  # takes no memory, but imports the model's code
        shapes = random_model(config, args.rank)
    weights, adapters = parameter_bytes(shapes, trainable=False), parameter_bytes(shapes, trainable=True)
    ids = random_row(config, args.tokens)

    def prepare() -> Step:
        return sgd_step(random_model(config, args.rank), ids, args.checkpointing)

    return {**measure_steps(prepare, args.steps, weights + adapters), "weights_bytes": weights}


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = build_parser("Measure a few steps of eager PyTorch: transformers, PEFT, fp32, SGD.")
    parser.prog = "mesp.bench.baselines.eager"
    parser.add_argument(
        "--checkpointing", action=argparse.BooleanOptionalAction, required=True, help="of gradients, by block"
    )
    return run(parser, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
