"""What each command of ``mesp`` does: a function of the parsed arguments that returns the exit status.

Libraries are imported inside, so that ``mesp --help`` and a wrong option answer at once.
"""

import argparse
import json
import sys
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .next_steps import train_line
from .train_options import given_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from mesp.export.export_settings import ExportSettings
    from mesp.export.programs.plan import Plan


def run_export(args: argparse.Namespace) -> int:
    """mesp export"""
    from mesp.export.model.checkpoint import find_checkpoint
    from mesp.runtime.engine.bundle import TOKENIZER
    from mesp.runtime.files import check_absent
    from mesp.runtime.report.words import weights_in_words

    settings = _export_settings(args)
    check_absent(args.output)
    find_checkpoint(args.checkpoint, args.random_init)
    with loading("PyTorch and ExecuTorch"):
        from mesp.export.bundle.export import export_bundle
        from mesp.export.bundle.mobile import notes
    with console_of(sys.stderr).status("reading the checkpoint") as status:
        manifest = export_bundle(
            args.checkpoint, args.output, settings, args.random_init, lambda what: status.update(f"writing {what}")
        )
    size, lora = sum(item["bytes"] for item in manifest.files.values()), manifest.lora
    lengths, weights = " or ".join(map(str, manifest.lengths)), weights_in_words(manifest.plan)
    print(f"{args.output}: {manifest.model.origin}")
    print(f"  {lengths} tokens, weights {weights}, adapter of rank {lora.rank} on {', '.join(lora.targets)}")
    print(f"  {len(manifest.programs)} programs, {size / 1e6:.0f} MB on disk, adapter {lora.nbytes / 1e6:.1f} MB")
    for note in notes(args.output / TOKENIZER):
        print(f"  {note}")
    print(f"Train it with: {train_line(args.output)}")
    return 0


def _export_settings(args: argparse.Namespace) -> "ExportSettings":
    from mesp.export.export_settings import ExportSettings

    chosen = {field.name: getattr(args, field.name) for field in fields(ExportSettings) if hasattr(args, field.name)}
    return ExportSettings(**chosen)


def run_plan(args: argparse.Namespace) -> int:
    """mesp plan"""
    import math

    from mesp.export.model.checkpoint import find_model
    from mesp.runtime.errors import UsageError
    from mesp.runtime.training.settings import TrainSettings

    training = TrainSettings(data=Path(), **given_settings(args))
    if args.budget_mb is not None and not 0 < args.budget_mb < 1e9:
        raise UsageError(f"--budget-mb {args.budget_mb} must be a number of megabytes above 0.")
    if args.gflops is not None and not (math.isfinite(args.gflops) and args.gflops > 0):
        raise UsageError(f"--gflops {args.gflops} must be a number of GFLOP/s above 0.")
    optimizer = training.make_optimizer(steps=1).program
    find_model(args.model)
    with loading("PyTorch"):
        from mesp.export.predict.duration import duration, measured_gflops
        from mesp.export.predict.footprint import footprint

    def predict(plan: "Plan") -> dict[str, int]:
        return footprint(plan, optimizer, training.grad_accumulation > 1, training.clip_norm is not None)

    plan = _plan_of(args, predict)
    parts = predict(plan)
    for name, nbytes in parts.items():
        print(f"{nbytes / 1e6:9.2f} MB  {name}")
    print(f"{sum(parts.values()) / 1e6:9.2f} MB  over an idle process, {' or '.join(map(str, plan.lengths))} tokens")
    columns, rows = plan.tiling.ffn, plan.vocabulary().width
    print(f"In tiles of a key-value head, {columns} columns of the feed-forward layer, {rows} rows of the vocabulary.")
    rate, whose = args.gflops, "given"
    if rate is None:
        with console_of(sys.stderr).status("measuring the rate of products here"):
            rate, whose = measured_gflops(plan), "measured here"
    seconds = duration(plan, rate, training.grad_accumulation)
    for name, value in seconds.items():
        print(f"{value:9.2f} s   {name}")
    sequences = f"{training.grad_accumulation} times " if training.grad_accumulation > 1 else ""
    print(f"{sum(seconds.values()):9.2f} s   a step of {sequences}{plan.tokens} tokens, at {rate:.3g} GFLOP/s, {whose}")
    return 0


def _plan_of(args: argparse.Namespace, predict: "Callable[[Plan], dict[str, int]]") -> "Plan":
    """A bundle's plan, or that of a checkpoint with the settings, at the longest length within the budget if there is one."""
    from dataclasses import replace

    from mesp.export.bundle.make_plan import bundle_plan, make_plan
    from mesp.export.export_settings import ExportSettings
    from mesp.export.model.checkpoint import open_checkpoint
    from mesp.export.predict.footprint import longest_within
    from mesp.runtime.engine.bundle import MANIFEST, open_bundle
    from mesp.runtime.errors import UsageError

    settings = _export_settings(args)
    if (Path(args.model) / MANIFEST).is_file():
        if settings != ExportSettings() or args.budget_mb is not None:
            raise UsageError(
                f"{args.model} is a bundle, whose lengths, adapter and weights are what they were exported with. "
                "Plan its checkpoint for other ones."
            )
        return bundle_plan(open_bundle(Path(args.model), verify_files=False))
    checkpoint = open_checkpoint(args.model, random_init=Path(args.model).is_dir())
    plan = make_plan(checkpoint.config, settings)
    if args.budget_mb is None:
        return plan

    def make(tokens: int) -> "Plan":
        fewer = tuple(rows for rows in settings.head_rows if rows < tokens)
        return make_plan(checkpoint.config, replace(settings, seq_len=(tokens,), head_rows=fewer))

    found = longest_within(int(args.budget_mb * 1e6), plan.architecture.max_tokens, make, predict)
    print(f"The longest sequence within {args.budget_mb:g} MB is {found.tokens} tokens:")
    return found


def run_verify(args: argparse.Namespace) -> int:
    """mesp verify"""
    from rich.table import Table

    from mesp.runtime.engine.bundle import open_bundle

    bundle = open_bundle(args.bundle)
    with loading("PyTorch and transformers"):
        from mesp.export.reference.verify import verify

    result = verify(bundle, args.seed)
    table = Table("size", "tensor", "norm", "relative error", "")
    for check in result.checks:
        name = check.name.removeprefix("base_model.model.model.").removesuffix(".weight")
        verdict = "ok" if check.passed else "MISS"
        table.add_row(check.size.name, name, f"{check.norm:.3e}", f"{check.relative_error:.1e}", verdict)
    console_of(sys.stdout).print(table)
    worst = max(result.checks, key=lambda check: check.relative_error)
    missed = sum(not check.passed for check in result.checks)
    for size, (loss, reference) in result.losses.items():
        print(f"{size}: loss {loss:.6f}, by autograd {reference:.6f}")
    kept = "" if result.block_inputs == "float32" else f" for block inputs kept in {result.block_inputs}"
    print(f"{len(result.checks)} gradients, {missed} missed, tolerance {worst.tolerance:.0e}{kept}")
    print(f"worst relative error {worst.relative_error:.1e}: {worst.name}")
    return 0 if result.passed else 1


def run_inspect(args: argparse.Namespace) -> int:
    """mesp inspect"""
    from mesp.runtime.engine.bundle import open_bundle
    from mesp.runtime.report.inspect import describe, to_json

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


def run_report(args: argparse.Namespace) -> int:
    """mesp report"""
    from mesp.runtime.report.pages import write_comparison, write_report

    if len(args.runs) == 1 and args.output is None:
        write_report(args.runs[0])
        print(args.runs[0] / "report.html")
        return 0
    output = args.output or Path("report.html")
    write_comparison(args.runs, output)
    print(output)
    return 0


def run_merge(args: argparse.Namespace) -> int:
    """mesp merge"""
    from mesp.export.model.checkpoint import find_model
    from mesp.export.reference.adapter_config import read_adapter_config
    from mesp.runtime.files import check_absent

    check_absent(args.output)
    read_adapter_config(args.adapter)
    find_model(args.model)
    with loading("PyTorch and transformers"):
        from mesp.export.reference.merge import merge
    with console_of(sys.stderr).status("merging"):
        merge(args.model, args.adapter, args.output, args.dtype, args.allow_other_base)
    print(f"{args.output}: the merged model, as transformers loads it")
    return 0


def run_generate(args: argparse.Namespace) -> int:
    """mesp generate"""
    from mesp.export.model.checkpoint import find_model
    from mesp.export.reference.adapter_config import read_adapter_config
    from mesp.export.reference.generate_options import GenerateOptions
    from mesp.runtime.errors import UsageError
    from mesp.runtime.report.run_folder import check_run_folder
    from mesp.runtime.report.texts import Text, add_text

    options = GenerateOptions(**{field.name: getattr(args, field.name) for field in fields(GenerateOptions)})
    if args.adapter:
        read_adapter_config(args.adapter)
    if args.into:
        if not args.adapter:
            raise UsageError(
                "--into takes the texts before and after: give the run's adapter too, as --adapter RUN/adapter."
            )
        check_run_folder(args.into)
    find_model(args.model)
    with loading("PyTorch and transformers"):
        from mesp.export.reference.generate import generate, show
    with console_of(sys.stderr).status("generating"):
        completions = generate(args.model, args.adapter, args.prompt, options, args.allow_other_base)
    show(console_of(sys.stdout), completions)
    if args.into and completions.after is not None:
        add_text(args.into, Text(args.prompt, completions.before, completions.after, vars(options)))
    return 0


def run_bench(args: argparse.Namespace) -> int:
    """mesp bench"""
    from mesp.runtime.errors import UsageError

    if args.draw is not None:
        if args.table or args.output or args.cell or args.repeats is not None or args.keep_bundles:
            raise UsageError("--draw runs nothing: give it the results alone, without a table and other options.")
        from mesp.bench.cells.plots import draw

        for path in draw(args.draw):
            print(path)
        return 0
    if not args.table or not args.output:
        raise UsageError("Give a table and -o FOLDER to measure it, or --draw RESULTS to draw one that was measured.")
    from mesp.bench.cells.bench import BenchOptions, bench

    options = BenchOptions(tuple(args.cell), args.repeats, args.keep_bundles)
    done = bench(args.table, args.output, options, console_of(sys.stdout))
    return 0 if done else 1


@contextmanager
def loading(what: str) -> "Iterator[None]":
    """Says what is being imported: it takes seconds. What can be refused is to be refused before."""
    with console_of(sys.stderr).status(f"loading {what}"):
        yield


def console_of(file: TextIO) -> "Console":
    """rich's console on a stream."""
    from rich.console import Console

    return Console(file=file)
