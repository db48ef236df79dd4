"""What sampling from outside costs a run on a phone: steps with it and without it in turns, in one run.

    make test-android                                                           # builds the app's core for the stand-in
    python android_app/tools/sampling_cost.py BUNDLE DATA -o benchmarks/results/outside.json [--serial SERIAL]

Without a serial the phone is the stand-in of the tests, android_app/core on this machine's JVM: the adb client, its server and the
stand-in's shell then take from the same cores as the training, which on a phone they do not, so this is an upper bound. Windows of sampling
and of none follow each other; a step counts if it lies within one of them, by the phone's clock.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from mesp.device import app
from mesp.device.adb import Adb, Device
from mesp.device.follow import phone_seconds
from mesp.device.logcat import since_forever
from mesp.device.outside import Outside
from mesp.device.transfer import bundle_items, data_item, missing, send
from mesp.runtime.files import write_json
from mesp.runtime.memory.environment import environment

TESTS = Path(__file__).resolve().parents[1] / "tests"
RUN = "outside-bench"
SETTINGS = {"optimizer": "sgd", "lr": 1e-3, "checkpoint_every": 0}


@contextlib.contextmanager
def stand_in() -> Iterator[None]:
    """A phone of the tests, as the only device of an adb server of its own."""
    sys.path.insert(0, str(TESTS))
    from standin.adb_server import AdbServer
    from standin.phone import Phone
    from standin.trainers import core

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        home.mkdir()
        with AdbServer(home) as server, Phone(Path(folder, "phone"), trainer=core()) as phone:
            server.connect(phone)
            phone.install()
            before = dict(os.environ)
            os.environ.update(server.environment)
            try:
                yield
            finally:
                os.environ.clear()
                os.environ.update(before)


def start(device: Device, bundle: Path, data: Path, steps: int) -> float:
    """Sends what is missing and starts the run; returns when it was, by the phone's clock."""
    items = [*bundle_items(bundle, bundle.resolve().name), data_item(data)]
    send(device, missing(device, items), None, lambda count: None)
    device.shell(f"am force-stop {app.PACKAGE}; rm -rf {app.RUNS}/{RUN}")
    since, _ = phone_seconds(device)
    names = bundle.resolve().name, Path(items[-1].target).name
    app.start(device, RUN, *names, {**SETTINGS, "steps": steps}, resume=False)
    return since


def steps_since(device: Device, since: float) -> list[tuple[float, float]]:
    """Of each step after the first two, when it began and ended by the phone's clock."""
    lines = [line for line in since_forever(device) if line.seconds >= since and line.name == "step" and line.event]
    return [
        (line.seconds - line.event["seconds"], line.seconds) for line in lines if line.event and line.event["step"] > 2
    ]


def measure(device: Device, since: float, every: float, window: float, pairs: int) -> dict[str, list[float]]:
    """Seconds of the steps with sampling and without."""
    windows: list[tuple[str, float, float]] = []
    while not steps_since(device, since):
        time.sleep(1)
    for kind in ("without", "with") * pairs:
        began, _ = phone_seconds(device)
        sampling = Outside(device, Path(os.devnull), every if kind == "with" else 0, lambda: None, print)
        with sampling:
            time.sleep(window)
        windows.append((kind, began, phone_seconds(device)[0]))
        print(f"{len(windows)} of {2 * pairs} windows", flush=True)
    found: dict[str, list[float]] = {"without": [], "with": []}
    for first, last in steps_since(device, since):
        for kind, began, ended in windows:
            if began <= first and last <= ended:
                found[kind].append(last - first)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure what sampling from outside costs a step.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--serial", help="of a phone with the app; the stand-in if not given")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between samples")
    parser.add_argument("--window", type=float, default=20.0, help="seconds with sampling, and then without")
    parser.add_argument("--pairs", type=int, default=6, help="of windows")
    args = parser.parse_args()
    with contextlib.nullcontext() if args.serial else stand_in():
        device = Adb.find().choose(args.serial)
        since = start(device, args.bundle, args.data, steps=100_000)
        try:
            found = measure(device, since, args.every, args.window, args.pairs)
        finally:
            device.shell(f"am force-stop {app.PACKAGE}")
    medians = {kind: median(seconds) for kind, seconds in found.items()}
    results = {
        "command": "python android_app/tools/sampling_cost.py BUNDLE DATA -o FILE",
        "phone": args.serial or "the stand-in: training, adb and the stand-in's shell on the same cores",
        "seconds_between_samples": args.every,
        "step_seconds": found,
        "step_seconds_median": medians,
        "median_ratio": medians["with"] / medians["without"],
        "fastest_ratio": min(found["with"]) / min(found["without"]),
        "environment": environment(),
    }
    write_json(args.output, results)
    print(f"{len(found['with'])} steps with sampling, {len(found['without'])} without: medians {medians}")
    print(f"ratio of the medians {results['median_ratio']:.3f}, of the fastest {results['fastest_ratio']:.3f}")


if __name__ == "__main__":
    main()
