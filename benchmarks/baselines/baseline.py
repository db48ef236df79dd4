"""What the baselines share: a model with random weights and PEFT's adapters, the row that it trains on, and how a run is measured.

A baseline is a module with a command line of its own, which a table's cells call. It writes, as JSON:

    memory          as in report.json of `mesp train`, by the same sampler. Idle is after imports, so weights read into memory count.
    weights_bytes   of the frozen weights, a tied head once
    step_seconds    of each step, the optimizer's part too
    losses          before each step's update
    settings        the options, and what all baselines have in common
    environment     the machine and the versions
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mesp.export.model.checkpoint import open_checkpoint
from mesp.export.model.families import read_architecture
from mesp.export.model.huggingface_folder import quiet
from mesp.runtime.errors import MespError
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment
from mesp.runtime.memory.sampler import Sampler

ALPHA = 16.0
LEARNING_RATE = 1e-3
SEED = 0

Step = Callable[[], float]  # takes a step and returns the loss before it


def build_parser(description: str) -> argparse.ArgumentParser:
    """The options that every baseline has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="with a config.json")
    parser.add_argument("--tokens", type=partial(_count, least=2), default=256, help="of the row")
    parser.add_argument("--rank", type=_count, default=8, help="of the adapters")
    parser.add_argument("--steps", type=_count, default=3)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    return parser


def _count(text: str, least: int = 1) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return int(text)


def run(
    parser: argparse.ArgumentParser,
    measure: Callable[[argparse.Namespace], dict[str, Any]],
    arguments: list[str] | None,
) -> int:
    """Parses the command line, measures, and writes the results. Returns the exit status, the same as that of ``mesp``."""
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        results = measure(args)
        write_json(args.output, {**results, "settings": _settings(args), "environment": environment()})
    except (MespError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return getattr(error, "exit_status", 1)
    over_idle, weights = results["memory"]["delta_footprint_bytes"] / 1e6, results["weights_bytes"] / 1e6
    print(
        f"{over_idle:.1f} MB over idle, with {weights:.1f} MB of weights, {min(results['step_seconds']):.2f} s a step"
    )
    return 0


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    asked = {name: value for name, value in vars(args).items() if name != "output"}
    targets = projections(read_config(args.model))
    common = {"alpha": ALPHA, "targets": list(targets), "optimizer": "sgd", "lr": LEARNING_RATE, "dtype": "float32"}
    return {**asked, "model": str(args.model), **common, "threads": cores(), "seed": SEED}


def cores() -> int:
    """How many cores this process may use. A baseline uses all of them, as `mesp train` does."""
    return len(os.sched_getaffinity(0))


def read_config(folder: Path) -> Any:
    """The folder's transformers configuration.

    Raises:
        UsageError: there is none, or not one of an architecture that mesp trains.
    """
    return open_checkpoint(str(folder), random_init=True).config


def random_model(config: Any, rank: int) -> Any:
    """A causal language model in fp32 and in training mode, with the same random weights and adapters each time."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(SEED)
    with quiet():
        base = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    base.config.use_cache = False
    return with_adapters(base, rank, ALPHA, projections(config))


def projections(config: Any) -> tuple[str, ...]:
    """The names of all projections, each of which gets an adapter."""
    return tuple(dict.fromkeys(projection.name for projection in read_architecture(config).projections))


def with_adapters(base: Any, rank: int, alpha: float, targets: tuple[str, ...]) -> Any:
    """PEFT's LoRA on a transformers model, in training mode."""
    from peft import LoraConfig, get_peft_model

    with quiet():
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]  # PEFT takes any number, and names whole ones
            target_modules=list(targets),
        )
        model = get_peft_model(base, config)
    return model.train()


def parameter_bytes(model: Any, trainable: bool) -> int:
    """The size of the adapters, or of the frozen weights."""
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad == trainable)


def random_row(config: Any, tokens: int) -> Tensor:
    """Token ids, [1, tokens], the same each time. They are their own labels: each token but the last predicts the next."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(config.vocab_size, (1, tokens), generator=generator)


def measure_steps(prepare: Callable[[], Step], steps: int, least_bytes: int) -> dict[str, Any]:
    """Prepares, takes the steps, and returns memory, seconds and losses.

    Args:
        prepare: makes everything that takes memory and is not an import, such as the weights
        least_bytes: the run surely holds as much; a smaller peak is implausible

    Raises:
        MespError: the samples are too few or implausible, so that the peak would be a guess.
    """
    seconds, losses = [], []
    with Sampler() as sampler:
        step = prepare()
        for _ in range(steps):
            sampler("step")
            began = time.perf_counter()
            losses.append(step())
            seconds.append(time.perf_counter() - began)
            sampler.end_of_step()
        return {"memory": asdict(sampler.report(least_bytes)), "step_seconds": seconds, "losses": losses}
