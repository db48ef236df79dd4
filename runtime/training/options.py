"""Options of the command line that are the same for runs here and on a phone: a run's settings, and what is reported."""

import argparse
from pathlib import Path


def add_train_options(parser: argparse.ArgumentParser, data_required: bool = True) -> None:
    """Adds an option for each field of TrainSettings, by its name."""
    parser.add_argument("--threads", type=int, help="of the programs; one a core if not given")
    _data_options(parser.add_argument_group("data"), data_required)
    _step_options(parser.add_argument_group("steps"))
    _keeping_options(parser.add_argument_group("evaluations and checkpoints"))


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Adds the runs, and where their page goes."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the page that compares several runs; report.html if not given",
    )


def _data_options(group: argparse._ArgumentGroup, required: bool) -> None:
    group.add_argument(
        "--data",
        type=Path,
        required=required,
        help='.txt, or JSON lines, .csv or .parquet of {"text"}, {"prompt", "completion"}, {"messages"} or {"input_ids", "labels"}; '
        "also .gz, .bz2, .xz",
    )
    group.add_argument("--eval-data", type=Path, metavar="FILE", help="held-out rows")
    group.add_argument("--eval-split", type=float, metavar="FRACTION", help="hold out this part of --data instead")
    group.add_argument(
        "--packing",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="join texts and cut them into windows; else each is a sequence",
    )
    group.add_argument("--shuffle", action=argparse.BooleanOptionalAction, default=True, help="the order of the rows")
    group.add_argument("--seed", type=int, default=0, help="of the order and of the split")
    group.add_argument("--adapter", type=Path, metavar="PEFT_DIR", help="start from this adapter")
    group.add_argument("--allow-other-base", action="store_true", help="even if it names another base model")


def _step_options(group: argparse._ArgumentGroup) -> None:
    length = group.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="how many steps")
    length.add_argument("--epochs", type=int, default=1, help="passes over the data")
    group.add_argument("--optimizer", choices=("sgd", "adamw"), default="adamw")
    group.add_argument("--momentum", type=float, default=0.0, help="of sgd")
    group.add_argument("--lr", type=float, help="learning rate; 2e-4 for adamw and 0.1 for sgd if not given")
    group.add_argument(
        "--schedule", choices=("constant", "linear", "cosine"), default="constant", help="of the learning rate"
    )
    group.add_argument("--warmup", type=float, default=0, help="steps, or below 1 a fraction of all steps")
    group.add_argument("--weight-decay", type=float, default=0.0)
    group.add_argument("--grad-accumulation", type=int, default=1, metavar="N", help="sequences of one step")
    group.add_argument("--clip-norm", type=float, metavar="NORM", help="the largest norm of a step's gradient")


def _keeping_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--eval-every",
        type=int,
        metavar="N",
        help="steps between evaluations, and keep the best adapter; if not given, evaluate before and after",
    )
    group.add_argument("--patience", type=int, metavar="N", help="stop after N evaluations without a better one")
    group.add_argument("--checkpoint-every", type=int, default=50, metavar="N", help="steps; 0 for the last one alone")
    group.add_argument("--keep-checkpoints", type=int, default=2, metavar="N", help="how many of the latest")
