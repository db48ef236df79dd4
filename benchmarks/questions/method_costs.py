"""Methods side by side: memory and time of a step, of bundles that differ only in `--method`.

    python -m mesp.bench.questions.method_costs BUNDLE BUNDLE … -o benchmarks/results/methods-NAME.json

Memory is what training reports after three steps of SGD, each bundle in a process of its own. For time, each bundle has a process that
stays, and steps take turns, so that a machine that is slow for a while is slow for all.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from mesp.export.bundle.make_plan import bundle_plan
from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment
from mesp.runtime.report.words import weights_in_words

from .steps import random_ids, step_seconds, trained_memory


def measure(path: Path) -> dict[str, Any]:
    """What a bundle is, and the memory of its training."""
    bundle = open_bundle(path)
    manifest, ids = bundle.manifest, random_ids(bundle_plan(bundle))
    return {
        "method": manifest.plan["method"],
        "model": manifest.model.config["model_type"],
        "tokens": manifest.tokens,
        "rank": manifest.lora.rank,
        "layers_with_adapters": manifest.plan["layers"],
        "block_inputs": _block_inputs(manifest.plan),
        "weights": weights_in_words(manifest.plan),
        "memory": trained_memory(path, ids),
    }


def _block_inputs(plan: Mapping[str, Any]) -> str:
    """The dtype in which block inputs are kept, and where."""
    if plan["method"] == "mezo":
        return "none"
    return f"{plan['block_inputs']}, in {'a file' if plan['offload'] else 'memory'}"


def main() -> None:
    """The command line: measures, writes the results, and prints them in short."""
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
