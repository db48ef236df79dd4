"""Methods side by side: memory and time of a step of bundles that differ in `--method` alone.

    python -m mesp.bench.questions.method_costs BUNDLE BUNDLE … -o benchmarks/results/methods-NAME.json

Memory is what `mesp train` reports of three steps of SGD, each bundle in a process of its own. For time, each has a process that is kept, and
the steps take turns, so that a machine that is slow for a while is slow for all.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from mesp.export.reference.verify import bundle_plan
from mesp.runtime.engine.bundle import Tensor, open_bundle
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment

from .steps import random_ids, step_seconds, trained_memory


def measure(path: Path) -> dict[str, Any]:
    """What a bundle is, and the memory of its training."""
    bundle = open_bundle(path)
    manifest, ids = bundle.manifest, random_ids(bundle_plan(bundle))
    return {
        "method": manifest.method,
        "model": manifest.model["config"]["model_type"],
        "tokens": manifest.tokens,
        "rank": manifest.lora.rank,
        "layers_with_adapters": manifest.lora.layers,
        "block_inputs": _block_inputs(manifest.tensors),
        "weights": dict(manifest.weights),
        "memory": trained_memory(path, ids),
    }


def _block_inputs(tensors: Mapping[str, Tensor]) -> str:
    """Where and in which dtype they are kept."""
    kept = tensors.get("block_inputs")
    return "none" if kept is None else f"{kept.spec.dtype}, in {'a file' if kept.kind == 'file' else 'memory'}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare methods: memory and time of a step.")
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    found = [measure(path) for path in args.bundles]
    for item, seconds in zip(found, step_seconds(args.bundles), strict=True):
        item["step_seconds"] = seconds
        peak = item["memory"]["delta_footprint_bytes"] / 1e6
        kept = f"{item['layers_with_adapters']} layers with adapters, block inputs {item['block_inputs']}"
        print(
            f"{item['method']:8} {item['tokens']:5} tokens  {kept}  {peak:7.1f} MB over idle  {median(seconds):.3f} s"
        )
    write_json(
        args.output,
        {
            "command": "python -m mesp.bench.questions.method_costs BUNDLE … -o FILE",
            "bundles": found,
            "environment": environment(),
        },
    )


if __name__ == "__main__":
    main()
