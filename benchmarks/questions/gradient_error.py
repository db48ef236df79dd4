"""What a bundle's options cost in exactness, and what they save: gradients against autograd's, memory and time of a step.

    python -m mesp.bench.questions.gradient_error BUNDLE BUNDLE … -o benchmarks/results/NAME.json

Gradients are those of ``mesp verify``, of the longest sequence, against autograd's in fp32. The whole gradient is all tensors as one vector.
Its relative error is |ours - autograd's| / |autograd's|; of its cosine, the distance to 1 is given. The stream is what the blocks take in:
a dtype of 16 bits must hold its largest element. Memory and time are those of ``method_costs``.
"""

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from mesp.export.bundle.make_plan import bundle_plan
from mesp.export.reference.transformers_model import reference_model
from mesp.export.reference.verify import both_ways
from mesp.runtime.engine.bundle import Bundle, open_bundle
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment
from mesp.runtime.report.words import weights_in_words

from .steps import random_ids, step_seconds, trained_memory


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """|ours - reference| / |reference|"""
    return float((ours - reference).norm() / reference.norm())


def exactness(bundle: Bundle) -> dict[str, Any]:
    """Losses, and the errors of the whole gradient and of the worst tensor."""
    *_, found = both_ways(bundle)  # the last is the longest
    ours = {name: tensor.double() for name, tensor in found.gradients.items()}
    reference = {name: tensor.double() for name, tensor in found.autograd.items()}
    errors = {name: relative_error(ours[name], tensor) for name, tensor in reference.items()}
    worst = max(errors, key=lambda name: errors[name])
    whole, exact = (torch.cat([values[name].flatten() for name in reference]) for values in (ours, reference))
    return {
        "loss": found.loss,
        "autograd_loss": found.autograd_loss,
        "relative_error": relative_error(whole, exact),
        "one_minus_cosine": 1 - float(whole @ exact / (whole.norm() * exact.norm())),
        "worst_tensor": worst,
        "worst_tensor_relative_error": errors[worst],
        "median_tensor_relative_error": median(errors.values()),
    }


def largest_of_stream(bundle: Bundle) -> float:
    """The largest absolute value of any block's input, of a row of random tokens."""
    ids = random_ids(bundle_plan(bundle))[None, :-1]
    with torch.no_grad():
        states = reference_model(bundle)(input_ids=ids, output_hidden_states=True).hidden_states
    return max(float(state.abs().max()) for state in states[:-1])


def measure(path: Path) -> dict[str, Any]:
    """What a bundle is, its memory and its errors."""
    bundle = open_bundle(path)
    manifest, plan = bundle.manifest, bundle_plan(bundle)
    ids = random_ids(plan)
    return {
        "block_inputs": manifest.tensors["block_inputs"].spec.dtype,
        "offload": plan.settings.offload,
        "method": manifest.plan["method"],
        "model": manifest.model.config["model_type"],
        "tokens": manifest.tokens,
        "rank": manifest.lora.rank,
        "weights": weights_in_words(manifest.plan),
        "memory": trained_memory(path, ids),
        "gradient": exactness(bundle),
        "largest_of_stream": largest_of_stream(bundle),
    }


def main() -> None:
    """The command line: measures, writes the results, and prints them in short."""
    parser = argparse.ArgumentParser(description="Measure what a bundle's options cost in exactness.")
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    found = [measure(path) for path in args.bundles]
    for item, seconds in zip(found, step_seconds(args.bundles), strict=True):
        item["step_seconds"] = seconds
        gradient, peak = item["gradient"], item["memory"]["delta_footprint_bytes"] / 1e6
        print(
            f"{item['block_inputs']:8} {item['tokens']:5} tokens  relative error {gradient['relative_error']:.1e}"
            f"  1 - cosine {gradient['one_minus_cosine']:.1e}  worst tensor {gradient['worst_tensor_relative_error']:.1e}"
            f"  {peak:6.1f} MB over idle  {median(seconds):.3f} s"
        )
    command = "python -m mesp.bench.questions.gradient_error BUNDLE … -o FILE"
    write_json(args.output, {"command": command, "bundles": found, "environment": environment()})


if __name__ == "__main__":
    main()
