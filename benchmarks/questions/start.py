"""How long the command line takes to refuse, to start, and to train two steps: CPU time as a ratio to ``python -c "import torch"``, in turns.

    python -m mesp.bench.questions.start BUNDLE -o benchmarks/results/start.json [--before CHECKOUT]

BUNDLE is of a tiny model, so that what is measured is the command line. CPU time is that of the process and its children: on a busy machine it
varies less than the time on the clock. Every round runs each command once, and torch's import before it. ``--before`` runs a refusal and the
training of another checkout in the same rounds.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment

ROOT = Path(__file__).resolve().parents[2]
MESP = Path(sys.executable).with_name("mesp")
# {bundle}, {rows} and {run} are filled in; the first ones are refused.
REFUSED = {
    "train": "train missing --data missing.txt -o {run}",
    "export": "export missing -o {run}",
    "verify": "verify missing",
    "inspect": "inspect missing",
    "plan": "plan missing",
    "report": "report missing",
    "merge": "merge missing missing -o {run}",
    "generate": "generate missing --prompt x",
    "bench": "bench missing.toml -o {run}",
    "device run": "device run missing --send-only",
}
STARTED = {
    "inspect a bundle": "inspect {bundle}",
    "plan, the rate given": "plan {bundle} --gflops 100",
    "train two steps": "train {bundle} --data {rows} --steps 2 -o {run}",
}
TRAINING = "train two steps"
COMPARED = ("refuse: train", TRAINING)  # with another checkout


@dataclass
class Measured:
    """CPU seconds of a command, of torch's import just before it, and of a training its memory in bytes."""

    status: int
    seconds: list[float] = field(default_factory=list)
    torch_seconds: list[float] = field(default_factory=list)
    idle_bytes: list[int] = field(default_factory=list)
    peak_over_idle_bytes: list[int] = field(default_factory=list)

    def ratio(self) -> float:
        """The median of a command's time over that of the import before it."""
        return median(ours / torch for ours, torch in zip(self.seconds, self.torch_seconds, strict=True))


def cpu_seconds(command: list[str], checkout: Path) -> tuple[float, int]:
    """CPU time of a process with its children, and its exit status."""
    process = subprocess.Popen(
        command,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, process.returncode


def measure(bundle: Path, checkout: Path, measured: dict[str, Measured], chosen: Sequence[str]) -> None:
    """One round of the chosen commands, of all if there is none."""
    for names, status in ((REFUSED, 2), (STARTED, 0)):
        for name, text in names.items():
            key = f"refuse: {name}" if status else name
            if chosen and key not in chosen:
                continue
            with tempfile.TemporaryDirectory() as folder:
                rows, run = Path(folder) / "rows.jsonl", Path(folder) / "run"
                rows.write_text('{"input_ids": [1, 2, 3, 4, 5], "labels": [1, 2, 3, 4, 5]}\n' * 2)
                words = shlex.split(text.format(bundle=shlex.quote(str(bundle)), rows=rows, run=run))
                torch, _ = cpu_seconds([sys.executable, "-c", "import torch"], checkout)
                seconds, found = cpu_seconds([str(MESP), *words], checkout)
                if found != status:
                    raise SystemExit(f"mesp {shlex.join(words)} ended with {found}, not {status}.")
                of_command = measured.setdefault(key, Measured(status))
                of_command.seconds.append(round(seconds, 3))
                of_command.torch_seconds.append(round(torch, 3))
                if name == TRAINING:
                    memory = json.loads((run / "report.json").read_text(encoding="utf-8"))["memory"]
                    of_command.idle_bytes.append(memory["baseline_footprint_bytes"])
                    of_command.peak_over_idle_bytes.append(memory["delta_footprint_bytes"])


def summary(measured: Mapping[str, Measured]) -> dict[str, Any]:
    """As the results hold it."""
    return {
        name: {
            "ratio_to_torch": round(item.ratio(), 3),
            "cpu_seconds": item.seconds,
            "torch_cpu_seconds": item.torch_seconds,
            **({"idle_bytes": item.idle_bytes} if item.idle_bytes else {}),
            **({"peak_over_idle_bytes": item.peak_over_idle_bytes} if item.idle_bytes else {}),
        }
        for name, item in measured.items()
    }


def main() -> None:
    """The command line: measures, writes the results, and prints them in short."""
    parser = argparse.ArgumentParser(description="Measure what the command line takes to refuse and to start.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", type=Path, help="another checkout, measured in turns with this one")
    args = parser.parse_args()
    checkouts = {"now": ROOT} | ({"before": args.before.resolve()} if args.before else {})
    found: dict[str, dict[str, Measured]] = {name: {} for name in checkouts}
    for _ in range(args.rounds):
        for name, checkout in checkouts.items():
            measure(args.bundle.resolve(), checkout, found[name], COMPARED if name == "before" else ())
    results = {name: summary(measured) for name, measured in found.items()}
    for name, items in results.items():
        for command, item in items.items():
            print(f"{name:8} {command:24} {item['ratio_to_torch']:6.2f} times import torch")
    command = "python -m mesp.bench.questions.start BUNDLE -o FILE" + (" --before CHECKOUT" if args.before else "")
    write_json(args.output, {"command": command, **results, "environment": environment()})


if __name__ == "__main__":
    main()
