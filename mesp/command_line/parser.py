"""The ``mesp`` command: what it takes, and its exit status. What each command does is in ``commands``."""

import argparse
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesp.export.export_settings import ExportSettings, option
from mesp.runtime.errors import MespError

from .commands import (
    run_bench,
    run_convert,
    run_export,
    run_generate,
    run_inspect,
    run_merge,
    run_report,
    run_verify,
)
from .device import add_device_commands, renamed
from .fleet import add_fleet_commands
from .plan import run_plan
from .streams import drop, ended_as_by_ctrl_c, is_broken, spell_what_cannot_be_written, tell
from .train import run_train
from .train_options import (
    RARE,
    add_bench_options,
    add_generate_options,
    add_memory_options,
    add_report_options,
    add_train_options,
)
from .try_out import run_try

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Names the defaults that say something; where there is none, the help says what happens without the option."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is None or action.default is False or action.default == []
        return action.help if silent else super()._get_help_string(action)


def build_parser() -> argparse.ArgumentParser:
    """The command line. A command's function is in its ``run``."""
    parser = argparse.ArgumentParser(
        prog="mesp", description="Fine-tune language models on a phone: LoRA with exact gradients in little memory."
    )
    parser.add_argument("--version", action="version", version=f"mesp {version('mesp')}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True)
    _try_parser(commands)
    _export_parser(commands)
    _plan_parser(commands)
    _verify_parser(commands)
    _inspect_parser(commands)
    _train_parser(commands)
    _report_parser(commands)
    _merge_parser(commands)
    _convert_parser(commands)
    _generate_parser(commands)
    _bench_parser(commands)
    add_device_commands(commands, _Help)
    add_fleet_commands(commands, _Help)
    return parser


def _try_parser(commands: "Commands") -> None:
    parser = commands.add_parser(
        "try",
        help="export a checkpoint, train it for a few steps and hear it before and after, in one go",
        formatter_class=_Help,
    )
    parser.add_argument("checkpoint", help="Hugging Face folder, .gguf file, or Hub id")
    parser.add_argument("data", type=Path, help="training rows, as --data of mesp train takes them")
    parser.add_argument("-o", "--output", type=Path, default=Path("try"), metavar="FOLDER", help="the folder to make")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="of training")
    parser.add_argument("--seq-len", type=int, default=128, metavar="N", help="tokens of a sequence")
    parser.set_defaults(run=run_try)


def _export_parser(commands: "Commands") -> None:
    parser = commands.add_parser("export", help="make a bundle from a checkpoint", formatter_class=_Help)
    parser.add_argument(
        "checkpoint", help="Hugging Face folder, .gguf file, or Hub id; with --random-init, a folder with a config.json"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="BUNDLE", help="the bundle to make")
    _export_options(parser)
    parser.add_argument(
        "--random-init", action="store_true", help="random weights for a config.json, to measure memory and speed"
    )
    parser.add_argument(
        "--base-id",
        metavar="OWNER/NAME",
        help="the model on the Hub, which adapters will name as their base; the checkpoint as it is given here if not given",
    )
    parser.set_defaults(run=run_export)


def _plan_parser(commands: "Commands") -> None:
    parser = commands.add_parser(
        "plan", help="predict memory and time of training, before anything is exported", formatter_class=_Help
    )
    parser.add_argument(
        "model", help="Hugging Face folder, of which config.json is enough, .gguf file, Hub id, or a bundle as it is"
    )
    _export_options(parser)
    add_memory_options(parser)
    parser.add_argument(
        "--budget-mb",
        type=float,
        metavar="MB",
        help="find the longest sequence within so much memory; no limit if not given",
    )
    parser.add_argument(
        "--gflops",
        type=float,
        metavar="N",
        help="the rate of products that times are predicted at, such as another device's; measured here if not given",
    )
    parser.set_defaults(run=run_plan)


def _export_options(parser: argparse.ArgumentParser) -> None:
    """An option for each field of ExportSettings that has a help text, by its name."""
    rare = parser.add_argument_group(RARE)
    for setting in fields(ExportSettings):
        if "help" not in setting.metadata:
            continue
        named = {name: setting.metadata[name] for name in ("help", "choices", "metavar") if name in setting.metadata}
        default = ",".join(map(str, setting.default)) if isinstance(setting.default, tuple) else setting.default
        if default not in ("", None):
            named["help"] += f" (default: {default})"
        reader = _READERS.get(setting.type, str)
        place = rare if setting.metadata.get("rare") else parser
        place.add_argument(option(setting.name), type=reader, default=argparse.SUPPRESS, **named)


def _numbers(text: str) -> tuple[int, ...]:
    """64,128,256 as numbers; nothing for none."""
    try:
        return tuple(int(part) for part in text.split(",") if text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or a list of numbers such as 64,128,256") from None


def _names(text: str) -> tuple[str, ...]:
    """q_proj,v_proj as names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


# How an option's text becomes a field's value, by the field's type.
_READERS: dict[Any, Callable[[str], Any]] = {
    tuple[int, ...]: _numbers,
    tuple[str, ...]: _names,
    int: int,
    int | None: int,
    float: float,
}


def _verify_parser(commands: "Commands") -> None:
    parser = commands.add_parser(
        "verify", help="check a bundle's gradients against autograd, tensor by tensor", formatter_class=_Help
    )
    parser.add_argument("bundle", type=Path, help="the folder that mesp export made")
    parser.add_argument("--seed", type=int, default=0, help="of the random tokens and adapter")
    parser.set_defaults(run=run_verify)


def _inspect_parser(commands: "Commands") -> None:
    parser = commands.add_parser("inspect", help="show what is in a bundle", formatter_class=_Help)
    parser.add_argument("bundle", type=Path, help="the folder that mesp export made")
    parser.add_argument(
        "--all", action="store_true", help="also the schedules as algorithms, the programs, each buffer's place"
    )
    parser.add_argument("--json", action="store_true", help="all of it, for a program")
    parser.set_defaults(run=run_inspect)


def _train_parser(commands: "Commands") -> None:
    parser = commands.add_parser("train", help="fine-tune a bundle's adapter here", formatter_class=_Help)
    parser.add_argument("bundle", type=Path, nargs="?", help="the folder that mesp export made")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="RUN", help="the run folder to make; needed without --resume"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="go on with the run in this folder, or in that of -o if not given: with the settings, bundle and data that it was started with, "
        "and with more --steps if they are given",
    )
    parser.add_argument("--tensorboard", action="store_true", help="write event files into RUN/tensorboard")
    add_train_options(parser)
    parser.set_defaults(run=run_train)


def _report_parser(commands: "Commands") -> None:
    parser = commands.add_parser(
        "report", help="draw report.html anew, or several runs side by side", formatter_class=_Help
    )
    add_report_options(parser)
    parser.set_defaults(run=run_report)


def _merge_parser(commands: "Commands") -> None:
    parser = commands.add_parser(
        "merge",
        help="add an adapter to its model's weights, as a Hugging Face folder",
        formatter_class=_Help,
    )
    _model_arguments(parser)
    parser.add_argument("adapter", type=Path, metavar="PEFT_DIR")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder to make")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="bfloat16",
        help="of the merged weights; auto is the checkpoint's, and float32 for a bundle or .gguf",
    )
    parser.set_defaults(run=run_merge)


def _convert_parser(commands: "Commands") -> None:
    parser = commands.add_parser(
        "convert", help="write an adapter as other programs take it: llama.cpp, mlx-lm, PEFT", formatter_class=_Help
    )
    parser.add_argument("source", type=Path, metavar="RUN", help="a run, or a PEFT adapter folder")
    parser.add_argument(
        "--to",
        choices=("gguf", "peft", "mlx"),
        required=True,
        help="gguf is a file for llama.cpp's --lora, mlx a folder for mlx-lm's --adapter-path, peft one that names its model as the Hub does",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PATH", help="the file or folder to make")
    parser.add_argument(
        "--base", metavar="MODEL", help="for gguf, the adapter's bundle or checkpoint; that of the run if not given"
    )
    parser.add_argument(
        "--base-id", metavar="OWNER/NAME", help="for peft, the model on the Hub; as the adapter says if not given"
    )
    parser.set_defaults(run=run_convert)


def _generate_parser(commands: "Commands") -> None:
    parser = commands.add_parser(
        "generate",
        help="complete a prompt, before and after fine-tuning",
        formatter_class=_Help,
    )
    _model_arguments(parser)
    parser.add_argument(
        "--adapter", type=Path, metavar="PEFT_DIR", help="the adapter to compare with; the model alone if not given"
    )
    parser.add_argument("--prompt", required=True, help="the text to go on from")
    parser.add_argument(
        "--into",
        type=Path,
        metavar="RUN",
        help="the run of the adapter: its report.html gets the texts before and after; none if not given",
    )
    add_generate_options(parser)
    parser.set_defaults(run=run_generate)


def _bench_parser(commands: "Commands") -> None:
    parser = commands.add_parser(
        "bench", help="measure a table of models, lengths, ranks and methods", formatter_class=_Help
    )
    parser.add_argument("table", type=Path, nargs="?", metavar="TABLE.toml", help="the table's definition")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="of the results, needed without --draw; a bench that was interrupted goes on there",
    )
    add_bench_options(parser)
    parser.add_argument(
        "--draw",
        type=Path,
        metavar="RESULTS",
        help="only draw a bench's folder or its results.json anew; measure if not given",
    )
    parser.set_defaults(run=run_bench)


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a bundle, or a checkpoint: Hugging Face folder, .gguf file, or Hub id")
    parser.add_argument(
        "--allow-other-base", action="store_true", help="take the adapter even if it names another base model"
    )


def _silence_libraries() -> None:
    """Keeps the libraries' notes to their own developers off the screen; --debug shows them."""
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)
    for name in ("torch.utils._pytree", "executorch", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0 done, 1 failed or a check missed, 2 wrong usage or bad input."""
    spell_what_cannot_be_written()
    words, said = renamed(sys.argv[1:] if arguments is None else arguments)
    if said:
        tell(said)
    args = build_parser().parse_args(words)
    if not args.debug:
        _silence_libraries()
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        with ended_as_by_ctrl_c():
            status = run(args)
            sys.stdout.flush()
            return status
    except (MespError, OSError) as error:
        if isinstance(error, BrokenPipeError) and is_broken(sys.stdout):
            drop(sys.stdout)  # whoever read it has enough, as head does
            return 0
        if args.debug:
            raise
        tell(f"mesp {args.command}: {error}")
        return error.exit_status if isinstance(error, MespError) else 1
    except KeyboardInterrupt:
        tell(f"mesp {args.command}: interrupted")
        return 130
