"""``mesp plan``: memory and time of training before anything is exported, and what would take less."""

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesp.runtime.errors import UsageError

from .commands import console_of, export_settings, loading
from .next_steps import export_line, train_line
from .train_options import given_settings

if TYPE_CHECKING:
    from mesp.export.predict.prediction import Choices, Prediction

MB = 1e6


def run_plan(args: argparse.Namespace) -> int:
    """mesp plan"""
    from mesp.export.model.checkpoint import find_model
    from mesp.runtime.training.settings import TrainSettings

    export, training = export_settings(args), TrainSettings(data=Path(), **given_settings(args))
    if args.budget_mb is not None and not 0 < args.budget_mb < 1e9:
        raise UsageError(f"--budget-mb {args.budget_mb} must be a number of megabytes above 0.")
    if args.gflops is not None and not (math.isfinite(args.gflops) and args.gflops > 0):
        raise UsageError(f"--gflops {args.gflops} must be a number of GFLOP/s above 0.")
    bundle = _is_bundle(args)
    find_model(args.model)
    with loading("PyTorch and transformers"):
        from mesp.export.predict.prediction import Choices

        choices = Choices(export, training)
        prediction = _of_bundle(args, choices) if bundle else _of_checkpoint(args, choices)
    _show_memory(prediction)
    _show_time(args, prediction, training.grad_accumulation)
    if bundle:
        print(f"Train it with: {train_line(Path(args.model))}")
    else:
        print(f"Export it with: {export_line(args, prediction.plan.lengths)}")
    return 0


def _is_bundle(args: argparse.Namespace) -> bool:
    """Whether the model is a bundle.

    Raises:
        UsageError: it is, and other settings than its own are asked for.
    """
    from mesp.export.export_settings import ExportSettings
    from mesp.runtime.engine.bundle import MANIFEST

    if not (Path(args.model) / MANIFEST).is_file():
        return False
    if export_settings(args) != ExportSettings() or args.budget_mb is not None:
        raise UsageError(
            f"{args.model} is a bundle, whose lengths, adapter and weights are what they were exported with. "
            "Plan its checkpoint for other ones."
        )
    return True


def _of_bundle(args: argparse.Namespace, choices: "Choices") -> "Prediction":
    from mesp.export.bundle.make_plan import bundle_plan
    from mesp.export.predict.prediction import Prediction
    from mesp.runtime.engine.bundle import open_bundle

    plan = bundle_plan(open_bundle(Path(args.model), verify_files=False))
    return Prediction(plan, choices.memory(plan))


def _of_checkpoint(args: argparse.Namespace, choices: "Choices") -> "Prediction":
    """The prediction of what was chosen; within a budget, of the longest sequence.

    Raises:
        UsageError: the budget is too small for any length, or for the one that was asked for; says what would be enough.
    """
    from mesp.export.model.checkpoint import open_checkpoint
    from mesp.export.predict.footprint import SHORTEST
    from mesp.export.predict.prediction import of_length, predict, predict_longest

    config = open_checkpoint(args.model, random_init=Path(args.model).is_dir()).config
    if args.budget_mb is None:
        return predict(config, choices)
    budget = int(args.budget_mb * MB)
    longest = predict_longest(config, choices, budget)
    wanted = max(args.seq_len) if hasattr(args, "seq_len") else SHORTEST
    if longest is None or longest.plan.tokens < wanted - wanted % SHORTEST:
        chosen = choices if hasattr(args, "seq_len") else of_length(choices, SHORTEST)
        as_it_is = f" As it is, {longest.plan.tokens} tokens fit." if longest else ""
        raise UsageError(_too_small(config, chosen, predict(config, chosen), args.budget_mb) + as_it_is)
    print(f"The longest sequence within {args.budget_mb:g} MB is {longest.plan.tokens} tokens:")
    return longest


def _too_small(config: Any, choices: "Choices", prediction: "Prediction", budget_mb: float) -> str:
    from mesp.export.predict.prediction import savings

    found = [(saving.options, saving.nbytes / MB) for saving in savings(config, choices)]
    fitting = [f"{options} ({size:.1f} MB)" for options, size in found if size <= budget_mb]
    others = [f"{options} ({size:.1f} MB)" for options, size in found if size > budget_mb]
    enough = f" It would fit with {', or with '.join(fitting)}." if fitting else ""
    too_much = f" Not enough: {', '.join(others)}." if others else ""
    need = f"{prediction.plan.tokens} tokens, which take {prediction.nbytes / MB:.1f} MB"
    return f"{budget_mb:g} MB are not enough for {need}.{enough}{too_much}"


def _show_memory(prediction: "Prediction") -> None:
    plan = prediction.plan
    for name, nbytes in prediction.parts.items():
        print(f"{nbytes / MB:9.2f} MB  {name}")
    print(f"{prediction.nbytes / MB:9.2f} MB  over an idle process, {' or '.join(map(str, plan.lengths))} tokens")
    columns, rows = plan.tiling.ffn, plan.vocabulary().width
    tiles = f"{columns} columns of the feed-forward layer, {rows} rows of the vocabulary"
    print(f"In tiles of a key-value head, {tiles}.", flush=True)


def _show_time(args: argparse.Namespace, prediction: "Prediction", accumulated: int) -> None:
    from mesp.export.predict.duration import duration, measured_gflops

    plan, rate, whose = prediction.plan, args.gflops, "given"
    if rate is None:
        with console_of(sys.stderr).status("measuring the rate of products here"):
            rate, whose = measured_gflops(plan), "measured here"
    seconds = duration(plan, rate, accumulated)
    for name, value in seconds.items():
        print(f"{value:9.2f} s   {name}")
    sequences = f"{accumulated} times " if accumulated > 1 else ""
    print(f"{sum(seconds.values()):9.2f} s   a step of {sequences}{plan.tokens} tokens, at {rate:.3g} GFLOP/s, {whose}")
