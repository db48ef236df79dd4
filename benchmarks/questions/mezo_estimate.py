"""How close MeZO's estimate is to the gradient: their cosine, over several draws of the noise.

    python -m mesp.bench.questions.mezo_estimate MESP_BUNDLE MEZO_BUNDLE -o benchmarks/results/mezo-NAME.json

The bundles are of one checkpoint and the same settings, and differ only in `--method`. Tokens are random, and so is the adapter's B: with its
initial zeros, A would have no gradient. The first bundle's gradient is exact. The second's is an estimate along random signs z, so their
cosine is that of z and the gradient, up to rounding. A random direction of n elements has a cosine of sqrt(2 / (pi n)) on average,
whatever the gradient is.
"""

import argparse
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from mesp.runtime.engine.bundle import ADAPTER, WEIGHTS, Bundle, open_bundle
from mesp.runtime.engine.session import Session
from mesp.runtime.errors import MespError, UsageError
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment
from mesp.runtime.report.words import weights_in_words
from mesp.runtime.training import adapter as peft
from mesp.runtime.training.stepper import noise


def open_pair(mesp: Path, mezo: Path) -> tuple[Bundle, Bundle]:
    """Both bundles.

    Raises:
        UsageError: they are not of these methods, or differ in more than the method.
    """
    exact, estimated = open_bundle(mesp), open_bundle(mezo)
    if exact.manifest.plan["method"] == "mezo" or estimated.manifest.plan["method"] != "mezo":
        methods = f"{exact.manifest.plan['method']} and {estimated.manifest.plan['method']}"
        raise UsageError(f"The bundles are of methods {methods}. Expected one with exact gradients, then one of mezo.")
    one, other = _settings(exact), _settings(estimated)
    if different := [name for name in one if one[name] != other[name]]:
        raise UsageError(f"{mesp} and {mezo} differ in {', '.join(different)}. Export both with the same settings.")
    return exact, estimated


def _settings(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    files = {name: manifest.files[name]["sha256"] for name in (WEIGHTS, ADAPTER)}
    return {"lora": manifest.lora, "lengths": manifest.lengths, **files}


def draw_step(bundle: Bundle, seed: int) -> tuple[Tensor, dict[str, Tensor | float]]:
    """An adapter whose B is random, and the inputs of a sequence of the bundle's longest length."""
    lora, tokens, generator = bundle.manifest.lora, bundle.manifest.tokens, torch.Generator().manual_seed(seed)
    adapter = torch.zeros(lora.elements)
    peft.read_adapter(bundle.path / ADAPTER, lora, adapter)
    for name, tensor in peft.named(lora, adapter).items():
        if "lora_B" in name:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.02)
    ids = torch.randint(bundle.manifest.model.vocabulary, (tokens + 1,), generator=generator)
    weight = torch.full((tokens, 1), 1 / tokens)
    scale = lora.alpha / lora.rank
    return adapter, {"input_ids": ids[:-1], "targets": ids[1:], "token_weight": weight, "lora_scale": scale}


def gradients(
    bundle: Bundle, adapter: Tensor, inputs: dict[str, Tensor | float]
) -> Callable[[int], tuple[float, Tensor]]:
    """A function from a seed of the noise to the loss and the gradient of all layers, flat, in double precision."""
    schedule = f"gradients.{bundle.manifest.tokens}"
    session = Session(bundle, [schedule])

    def run(seed: int) -> tuple[float, Tensor]:
        session.state["adapter"].copy_(adapter)  # which MeZO moves and moves back, up to rounding
        loss = float(session.run(schedule, {**inputs, **noise(seed, 1, 0)})["loss"])
        return loss, session.state["gradients"].double().flatten()

    return run


def compare(mesp: Path, mezo: Path, draws: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Draws the noise ``draws`` times and returns the results."""
    exact, estimated = open_pair(mesp, mezo)
    adapter, inputs = draw_step(exact, seed)
    loss, gradient = gradients(exact, adapter, inputs)(0)
    estimate, cosines = gradients(estimated, adapter, inputs), []
    for number in range(draws):
        _, direction = estimate(number)
        cosines.append(float(torch.nn.functional.cosine_similarity(gradient, direction, dim=0)))
        say(f"noise {number}: cosine {cosines[-1]:+.6f}")
    sizes = [abs(cosine) for cosine in cosines]
    return {
        "command": "python -m mesp.bench.questions.mezo_estimate MESP_BUNDLE MEZO_BUNDLE -o FILE",
        "model": exact.manifest.model.config["model_type"],
        "tokens": exact.manifest.tokens,
        "rank": exact.manifest.lora.rank,
        "weights": weights_in_words(exact.manifest.plan),
        "seed": seed,
        "loss": loss,
        "elements": gradient.numel(),
        "cosines": cosines,
        "mean_of_sizes": fmean(sizes),
        "standard_deviation_of_sizes": stdev(sizes),
        "mean_of_a_random_direction": math.sqrt(2 / (math.pi * gradient.numel())),
        "environment": environment(),
    }


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Compare MeZO's estimate with the exact gradient.")
    parser.add_argument("mesp", type=Path, metavar="MESP_BUNDLE")
    parser.add_argument("mezo", type=Path, metavar="MEZO_BUNDLE")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--draws", type=int, default=32, metavar="N", help="of the noise")
    parser.add_argument("--seed", type=int, default=0, help="of tokens and adapter")
    args = parser.parse_args(arguments)
    if args.draws < 2:
        parser.error(f"--draws {args.draws} must be at least 2, to have a spread")
    warnings.simplefilter("ignore", FutureWarning)
    try:
        results = compare(args.mesp, args.mezo, args.draws, args.seed, lambda text: print(text, flush=True))
    except MespError as error:
        print(f"mezo_estimate: {error}", file=sys.stderr)
        status: int = error.exit_status
        return status
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, results)
    mean, spread = results["mean_of_sizes"], results["standard_deviation_of_sizes"]
    print(f"|cosine| {mean:.6f} on average, standard deviation {spread:.6f}, over {args.draws} draws of the noise")
    print(
        f"a random direction of {results['elements']:,} elements: {results['mean_of_a_random_direction']:.6f} on average"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
