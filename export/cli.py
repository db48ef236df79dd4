"""The ``mesp`` command: build_parser, a run function a command, main."""

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from mesp.runtime.errors import MespError

from .architecture import PROJECTIONS

if TYPE_CHECKING:
    from rich.console import Console

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def build_parser() -> argparse.ArgumentParser:
    """The command line. A command's function is in its ``run``."""
    parser = argparse.ArgumentParser(
        prog="mesp", description="Fine-tune language models on a phone: LoRA with exact gradients in little memory."
    )
    parser.add_argument("--version", action="version", version=f"mesp {version('mesp')}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True)
    _export_parser(commands)
    _verify_parser(commands)
    _inspect_parser(commands)
    _train_parser(commands)
    return parser


def _export_parser(commands: "Commands") -> None:
    parser = commands.add_parser(
        "export", help="make a bundle from a checkpoint", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "checkpoint", help="Hugging Face folder, .gguf file, or Hub id; with --random-init, a folder with a config.json"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="BUNDLE", help="the bundle to make")
    parser.add_argument("--seq-len", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--rank", type=int, default=8, help="rank of the adapters")
    parser.add_argument("--alpha", type=float, default=16.0, help="adapters are scaled by alpha / rank")
    parser.add_argument(
        "--targets", default="all", help=f"projections that get an adapter: all, or some of {','.join(PROJECTIONS)}"
    )
    parser.add_argument(
        "--weights", choices=("int4", "int8", "fp32"), default="int4", help="format of the frozen projections"
    )
    parser.add_argument("--group-size", type=int, choices=(32, 64), default=32, help="inputs that share an int4 scale")
    parser.add_argument(
        "--random-init", action="store_true", help="random weights for a config.json, to measure memory and speed"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the adapter's initial values, and of random weights")
    parser.set_defaults(run=run_export)


def _verify_parser(commands: "Commands") -> None:
    parser = commands.add_parser("verify", help="check a bundle's gradients against autograd, tensor by tensor")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the random tokens and adapter")
    parser.set_defaults(run=run_verify)


def _inspect_parser(commands: "Commands") -> None:
    parser = commands.add_parser("inspect", help="show what is in a bundle: contents, schedules, memory plan")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--json", action="store_true", help="the same for a program")
    parser.set_defaults(run=run_inspect)


def _train_parser(commands: "Commands") -> None:
    parser = commands.add_parser(
        "train", help="fine-tune a bundle's adapter here", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--data", type=Path, required=True, help='.txt, or JSON lines of {"text"} or {"input_ids", "labels"}'
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RUN", help="the run folder to make")
    parser.add_argument("--eval-data", type=Path, help="held-out rows, evaluated before and after")
    parser.add_argument("--adapter", type=Path, metavar="PEFT_DIR", help="start from this PEFT adapter")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="how many steps, one sequence each")
    length.add_argument("--epochs", type=int, default=1, help="passes over the data")
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="adamw")
    parser.add_argument("--lr", type=float, help="learning rate; 2e-4 for adamw and 0.1 for sgd if not given")
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--shuffle", action=argparse.BooleanOptionalAction, default=True, help="the order of the rows")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--threads", type=int, help="of the programs; one a core if not given")
    parser.set_defaults(run=run_train)


def run_export(args: argparse.Namespace) -> int:
    """mesp export"""
    from .bundle import ExportSettings, export_bundle

    targets = (
        PROJECTIONS
        if args.targets == "all"
        else tuple(name.strip() for name in args.targets.split(",") if name.strip())
    )
    settings = ExportSettings(args.seq_len, args.rank, args.alpha, targets, args.weights, args.group_size, args.seed)
    with _console(stderr=True).status("reading the checkpoint") as status:
        manifest = export_bundle(
            args.checkpoint, args.output, settings, args.random_init, lambda what: status.update(f"writing {what}")
        )
    size, lora = sum(item["bytes"] for item in manifest.files.values()), manifest.lora
    weights = " ".join(str(value) for value in manifest.weights.values())
    print(f"{args.output}: {manifest.model['origin']}")
    print(f"  {manifest.tokens} tokens, weights {weights}, adapter of rank {lora.rank} on {', '.join(lora.targets)}")
    print(f"  {len(manifest.programs)} programs, {size / 1e6:.0f} MB on disk, adapter {lora.nbytes / 1e6:.1f} MB")
    print(f"Train it with: mesp train {args.output} --data FILE -o RUN")
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """mesp verify"""
    from rich.table import Table

    from .verify import TOLERANCE, verify

    result = verify(args.bundle, args.seed)
    table = Table("tensor", "norm", "relative error", "")
    for check in result.checks:
        name = check.name.removeprefix("base_model.model.model.").removesuffix(".weight")
        table.add_row(name, f"{check.norm:.3e}", f"{check.relative_error:.1e}", "ok" if check.passed else "MISS")
    _console().print(table)
    worst = max(result.checks, key=lambda check: check.relative_error)
    missed = sum(not check.passed for check in result.checks)
    print(f"loss {result.loss:.6f}, by autograd {result.reference_loss:.6f}")
    print(f"{len(result.checks)} gradients, {missed} missed, tolerance {TOLERANCE:.0e}")
    print(f"worst relative error {worst.relative_error:.1e}: {worst.name}")
    return 0 if result.passed else 1


def run_inspect(args: argparse.Namespace) -> int:
    """mesp inspect"""
    from mesp.runtime.bundle import open_bundle
    from mesp.runtime.inspect import describe, to_json

    bundle = open_bundle(args.bundle)
    if args.json:
        print(json.dumps(to_json(bundle), indent=1))
        return 0
    for heading, lines in describe(bundle):
        print(heading)
        for line in lines:
            print(f"  {line}")
        print()
    return 0


def run_train(args: argparse.Namespace) -> int:
    """mesp train"""
    from mesp.runtime.progress import Progress
    from mesp.runtime.report import summary
    from mesp.runtime.train import TrainSettings, train

    settings = TrainSettings(
        data=args.data,
        eval_data=args.eval_data,
        adapter=args.adapter,
        steps=args.steps,
        epochs=args.epochs,
        optimizer=args.optimizer,
        lr=args.lr,
        weight_decay=args.weight_decay,
        shuffle=args.shuffle,
        seed=args.seed,
        threads=args.threads,
    )
    with Progress(_console()) as progress:
        report = train(args.bundle, args.output, settings, progress)
    for name, value in summary(report):
        print(f"{name:30} {value}")
    print(f"{'Report':30} {args.output / 'report.html'}")
    print(f"{'Adapter':30} {args.output / 'adapter'}")
    return 0


def _console(stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr)


def _silence_libraries() -> None:
    """Keeps the libraries' notes to their own developers off the screen; --debug shows them."""
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)
    for name in ("torch.utils._pytree", "executorch", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0 done, 1 failed or a check missed, 2 wrong usage or bad input."""
    args = build_parser().parse_args(arguments)
    if not args.debug:
        _silence_libraries()
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        return run(args)
    except MespError as error:
        if args.debug:
            raise
        print(f"mesp {args.command}: {error}", file=sys.stderr)
        status: int = error.exit_status
        return status
    except OSError as error:
        if args.debug:
            raise
        print(f"mesp {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"mesp {args.command}: interrupted", file=sys.stderr)
        return 130
