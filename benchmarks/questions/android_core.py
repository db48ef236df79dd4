"""The Android core on this machine against the host's runtime: losses, memory and time of the same steps.

    make test-android                                        # builds what is run
    python -m mesp.bench.questions.android_core BUNDLE DATA -o benchmarks/results/android-NAME.json

The core runs on a JVM, with the x86-64 binary of Android's library. The heap of the JVM is touched before the run, so that Java's own
objects are in the idle footprint, as Python's are on the host. Times say nothing of a phone's speed. Steps are of SGD.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment

from ..child import command

BUILD = Path(__file__).resolve().parents[2] / "build" / "android"
HEAP = ("-Xms48m", "-Xmx48m", "-XX:+UseSerialGC", "-XX:+AlwaysPreTouch", "-XX:TieredStopAtLevel=1")
SECONDS = 1800


def host(bundle: Path, data: Path, steps: int, output: Path) -> None:
    """The host's runtime, in a process of its own."""
    settings = {"data": data, "steps": steps, "optimizer": "sgd", "lr": 0.1}
    line = command("train", bundle=bundle, output=output, settings=settings)
    subprocess.run(line, check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)


def android(bundle: Path, data: Path, steps: int, output: Path) -> None:
    """org.mesp.core's own command, on a JVM."""
    classes, libraries = BUILD / "maven" / "core", BUILD / "host" / "x86_64"
    class_path = f"{classes / 'classes'}:{(classes / 'test-classpath').read_text(encoding='utf-8').strip()}"
    settings = output.with_name("settings.json")
    settings.write_text(json.dumps({"data": str(data), "steps": steps, "optimizer": "sgd", "lr": 0.1}))
    java = ["java", *HEAP, f"-Djava.library.path={libraries}", "-cp", class_path, "org.mesp.core.MainKt"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    subprocess.run([*java, bundle, output, settings], check=True, timeout=SECONDS, env=environment)


def result(run: Path) -> dict[str, Any]:
    """Losses, the median step and the memory of a run folder."""
    lines = [json.loads(line) for line in (run / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "losses": [line["loss"] for line in lines],
        "step_seconds_median": median(line["seconds"] for line in lines),
        "memory": json.loads((run / "report.json").read_text(encoding="utf-8"))["memory"],
    }


def main() -> None:
    """The command line: measures, writes the results, and prints them in short."""
    parser = argparse.ArgumentParser(description="Compare the Android core with the host's runtime.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, run in (("host", host), ("android", android)):
            run(args.bundle.resolve(), args.data.resolve(), args.steps, Path(folder) / name)
            found[name] = result(Path(folder) / name)
    losses = zip(found["host"]["losses"], found["android"]["losses"], strict=True)
    over = [found[name]["memory"]["delta_footprint_bytes"] for name in ("host", "android")]
    results = {
        "command": "python -m mesp.bench.questions.android_core BUNDLE DATA -o FILE",
        "java": list(HEAP),
        "largest_loss_difference": max(abs(one - other) for one, other in losses),
        "memory_over_host": over[1] / over[0],
        **found,
        "environment": environment(),
    }
    write_json(args.output, results)
    print(f"losses differ by at most {results['largest_loss_difference']:.1e}")
    print(f"memory over idle: host {over[0] / 1e6:.1f} MB, Android core {over[1] / 1e6:.1f} MB")
    print(f"seconds a step: {found['host']['step_seconds_median']:.2f}, {found['android']['step_seconds_median']:.2f}")


if __name__ == "__main__":
    main()
