"""What a fleet's adapter is worth, and what its server takes.

    make fleet                                               # Flower, beside mesp
    python -m mesp.bench.questions.fleet quality FOLDER BUNDLE --part central|alone|fleet    # one after the other: each takes minutes
    python -m mesp.bench.questions.fleet scale FOLDER BUNDLE --clients 10
    python -m mesp.bench.questions.fleet privacy FOLDER BUNDLE --part none|secure-aggregation|central-0.1|…
    python -m mesp.bench.questions.fleet collect FOLDER -o benchmarks/results/fleet.json

quality: the first four acts of Hamlet are the data of four clients, an act each. Their common adapter against one run on all four acts with as
many steps as the clients did together, and against each client's own run with as many as it did; all on the beginning of the fifth act.
scale: simulated clients of a tiny model, a few rows each, ten rounds: time and the server's memory.
privacy: four clients of a tiny model, whose rows each follow a rule of their own, and their held-out loss with what hides an adapter: a mode,
and of noise its size as a multiple of the clipping norm, or epsilon. All by ``mesp fleet`` itself.
"""

import argparse
import json
import re
import shlex
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mesp.runtime.engine.bundle import open_bundle
from mesp.runtime.errors import MespError
from mesp.runtime.files import write_json
from mesp.runtime.fleet.launch import read_project, simulate
from mesp.runtime.fleet.project import new_project
from mesp.runtime.memory.environment import environment
from mesp.runtime.training.evaluation import evaluate
from mesp.runtime.training.loop import train
from mesp.runtime.training.settings import TrainSettings

from ..demo import HELD_OUT_CHARACTERS, PLAY, TEXT_PACKAGE, fetch

ACTS = ("I", "II", "III", "IV", "V")
ROUNDS, STEPS, LR = 5, 8, 2e-3
SCALE_ROUNDS, SCALE_STEPS = 10, 2
PRIVACY_ROUNDS, PRIVACY_STEPS, PRIVACY_LR, CLIP = 5, 40, 1.0, 1.0


def acts(folder: Path) -> list[Path]:
    """The acts of Hamlet, a file each; of the last one the beginning."""
    files = [folder / f"act{number}.txt" for number in range(1, len(ACTS) + 1)]
    if not files[-1].exists():
        with tarfile.open(fetch(TEXT_PACKAGE, folder, "--no-binary", ":all:")) as archive:
            member = archive.extractfile(PLAY)
            assert member is not None
            play = member.read().decode("latin-1")
        found = [re.search(rf"^ACT {act}\.", play, re.MULTILINE | re.IGNORECASE) for act in ACTS]
        starts = [match.start() for match in found if match] + [len(play)]
        for place, file in enumerate(files):
            text = play[starts[place] : starts[place + 1]]
            file.write_text(text[:HELD_OUT_CHARACTERS] if file == files[-1] else text, encoding="utf-8")
    return files


def quality(folder: Path, bundle: Path, part: str, given: Sequence[str]) -> None:
    """One part of it; what was done before is kept."""
    *own, held_out = acts(folder)
    together = folder / "acts.txt"
    together.write_text("".join(file.read_text(encoding="utf-8") for file in own), encoding="utf-8")
    if part == "central":
        _run(bundle, together, folder / "central", ROUNDS * STEPS * len(own))
    elif part == "alone":
        for file in own:
            _run(bundle, file, folder / f"alone-{file.stem}", ROUNDS * STEPS)
    else:
        settings = {"rounds": ROUNDS, "train.steps": STEPS, "train.lr": LR}
        _fleet(folder / part.replace("-", ""), bundle, own, settings, given, None)
    _losses(folder, bundle, held_out)


def _run(bundle: Path, data: Path, output: Path, steps: int) -> None:
    settings = TrainSettings(data=data, steps=steps, lr=LR, checkpoint_every=20)
    begun = (output / "run.json").exists()
    if not (output / "adapter").exists():
        train(bundle, output, settings, resume=begun)


def _fleet(
    project: Path,
    bundle: Path,
    data: Sequence[Path],
    settings: Mapping[str, Any],
    given: Sequence[str],
    eval_split: float | None,
) -> None:
    """``mesp fleet new`` and ``run``, a core a client; a fleet that was interrupted goes on."""
    if not project.exists():
        new_project(project, bundle, data, eval_split)
        file = project / "clients.toml"
        file.write_text(
            re.sub(r"(?m)^output", "threads = 1\noutput", file.read_text(encoding="utf-8")), encoding="utf-8"
        )
    chosen = {**settings, **dict(_pair(text) for text in given)}
    begun = (read_project(project, {}).settings.output / "fleet.json").exists()
    chosen |= {"resume": True} if begun else {}
    if simulate(read_project(project, chosen), chosen, 1.0):
        raise MespError("The fleet did not come to its end: what went wrong is said above.")


def _pair(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, json.loads(value)


def _losses(folder: Path, bundle: Path, held_out: Path) -> None:
    """Every adapter that is there on the held-out act, and the bundle's first one."""
    opened, file = open_bundle(bundle), folder / "losses.json"
    known: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    adapters: dict[str, Path | None] = {path.parent.name: path for path in sorted(folder.glob("*/adapter"))}
    for name, adapter in {"before": None, **adapters}.items():
        if name not in known:
            settings = TrainSettings(data=held_out, eval_data=held_out, adapter=adapter)
            known[name] = evaluate(opened, settings)[1]
            print(f"{name:24} {known[name]:.4f}", flush=True)
    write_json(file, known)


def scale(folder: Path, bundle: Path, clients: int, rounds: int) -> None:
    """A fleet of so many clients of a tiny model, each with rows of its own."""
    files = _rules(folder / f"rows{clients}", clients, 8)
    settings = {"rounds": rounds, "train.steps": SCALE_STEPS, "train.optimizer": "sgd"}
    _fleet(folder / f"scale{clients}", bundle, files, settings, (), None)


def privacy(folder: Path, bundle: Path, part: str) -> None:
    """A fleet of four clients with one way to hide an adapter."""
    mode, number = re.fullmatch(r"([a-z-]+?)(?:-([0-9.]+))?", part).groups()  # type: ignore[union-attr]
    settings: dict[str, Any] = {"rounds": PRIVACY_ROUNDS, "train.steps": PRIVACY_STEPS, "train.lr": PRIVACY_LR}
    settings |= {"train.optimizer": "sgd", "privacy.mode": mode, "privacy.clipping-norm": CLIP}
    if number:
        settings["privacy.epsilon" if mode == "local" else "privacy.noise-multiplier"] = float(number)
    name = "privacy" + re.sub("[^a-z0-9]", "", part)
    _fleet(folder / name, bundle, _rules(folder / "rows", 4, 32), settings, (), 0.25)


def _rules(folder: Path, clients: int, rows: int) -> list[Path]:
    """Rows for each client: sequences that count up, each client's by a number of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"c{client:03}.jsonl" for client in range(clients)]
    for client, file in enumerate(files):
        sequences = [[(row + (client % 7 + 1) * place) % 97 for place in range(9)] for row in range(rows)]
        file.write_text(
            "".join(json.dumps({"input_ids": ids, "labels": ids}) + "\n" for ids in sequences), encoding="utf-8"
        )
    return files


def collect(folder: Path) -> dict[str, Any]:
    """What all of it came to."""
    found: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "mesp.bench.questions.fleet", "…"]),
        **environment(),
    }
    found |= {"rounds": ROUNDS, "steps_a_round": STEPS, "lr": LR}
    if (folder / "losses.json").is_file():
        found["held_out_loss"] = json.loads((folder / "losses.json").read_text(encoding="utf-8"))
    found["privacy"] = {path.name[7:-4]: _loss(path) for path in sorted(folder.glob("privacy*-run"))}
    found["scale"] = [_scale_row(path) for path in sorted(folder.glob("scale*-run"), key=lambda path: len(path.name))]
    return found


def _loss(path: Path) -> dict[str, float]:
    """Of all clients' held-out rows, before and after."""
    report = json.loads((path / "report.json").read_text(encoding="utf-8"))
    return {"before": report["loss_first"], "after": report["loss_last"]}


def _scale_row(path: Path) -> dict[str, Any]:
    report = json.loads((path / "report.json").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (path / "rounds.jsonl").read_text(encoding="utf-8").splitlines()]
    done = [line for line in lines if line["round"]]
    return {
        "clients": max(len(line["clients"]) for line in done),
        "rounds": len(done),
        "adapters": sum(part["training"] is not None for line in done for part in line["clients"]),
        "round_seconds": [line["seconds"] for line in done],
        "server_peak_bytes": report["server_peak_bytes"],
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="What a fleet's adapter is worth, and what its server takes.")
    parser.add_argument("what", choices=("quality", "scale", "privacy", "collect"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument(
        "--part",
        default="fleet",
        help="central, alone, fleet, or another name for a fleet with --set; or how an adapter is hidden",
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="over the fleet's settings")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=SCALE_ROUNDS, help="of scale")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.what == "collect":
        write_json(args.output, collect(args.folder))
    elif args.what == "scale":
        scale(args.folder.absolute(), args.bundle, args.clients, args.rounds)
    elif args.what == "privacy":
        privacy(args.folder.absolute(), args.bundle, args.part)
    else:
        quality(args.folder.absolute(), args.bundle, args.part, args.set)


if __name__ == "__main__":
    main()
