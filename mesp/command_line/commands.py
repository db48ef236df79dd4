"""What each command of ``mesp`` does: a function of the parsed arguments that returns the exit status.

Libraries are imported inside, so that ``mesp --help`` and a wrong option answer at once.
"""

import argparse
import json
import shlex
import sys
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .next_steps import train_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from mesp.export.export_settings import ExportSettings


def run_export(args: argparse.Namespace) -> int:
    """mesp export"""
    from mesp.export.model.checkpoint import check_hub_id, find_checkpoint
    from mesp.runtime.files import check_absent
    from mesp.runtime.report.words import weights_in_words

    settings = export_settings(args)
    check_absent(args.output)
    if args.base_id is not None:
        check_hub_id(args.base_id)
    find_checkpoint(args.checkpoint, args.random_init)
    with loading("PyTorch and ExecuTorch"):
        from mesp.export.bundle.export import export_bundle
    notes: list[str] = []
    with console_of(sys.stderr).status("reading the checkpoint") as status:
        manifest = export_bundle(
            args.checkpoint,
            args.output,
            settings,
            args.random_init,
            lambda what: status.update(f"writing {what}"),
            notes.append,
            args.base_id,
        )
    size, lora = sum(item["bytes"] for item in manifest.files.values()), manifest.lora
    lengths, weights = " or ".join(map(str, manifest.lengths)), weights_in_words(manifest.plan)
    print(f"{args.output}: {manifest.model.origin}")
    print(f"  {lengths} tokens, weights {weights}, adapter of rank {lora.rank} on {', '.join(lora.targets)}")
    print(f"  {len(manifest.programs)} programs, {size / 1e6:.0f} MB on disk, adapter {lora.nbytes / 1e6:.1f} MB")
    for note in notes:
        print(f"  {note}")
    print(f"Train it with: {train_line(args.output)}")
    return 0


def export_settings(args: argparse.Namespace) -> "ExportSettings":
    """The settings of an export: what is on the command line, over the defaults."""
    from mesp.export.export_settings import ExportSettings

    chosen = {field.name: getattr(args, field.name) for field in fields(ExportSettings) if hasattr(args, field.name)}
    return ExportSettings(**chosen)


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
    from mesp.runtime.report.inspect import describe, overview, to_json

    bundle = open_bundle(args.bundle)
    if args.json:
        print(json.dumps(to_json(bundle), indent=1))
        return 0
    for heading, lines in describe(bundle) if args.all else overview(bundle):
        print(heading)
        for line in lines:
            print(f"  {line}")
        if args.all:
            print()
    if not args.all:
        print(f"All of it: {shlex.join(['mesp', 'inspect', str(args.bundle), '--all'])}")
    return 0


def run_report(args: argparse.Namespace) -> int:
    """mesp report"""
    from mesp.runtime.report.pages import write_comparison, write_report

    if len(args.runs) == 1:
        print(write_report(args.runs[0], args.output))
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


def run_convert(args: argparse.Namespace) -> int:
    """mesp convert"""
    from mesp.export.model.checkpoint import check_hub_id, find_model
    from mesp.runtime.errors import UsageError
    from mesp.runtime.files import check_absent

    check_absent(args.output)
    for name, of in (("base", "gguf"), ("base_id", "peft")):
        if getattr(args, name) is not None and args.to != of:
            raise UsageError(f"--{name.replace('_', '-')} is for --to {of}: leave it out.")
    if args.base is not None:
        find_model(args.base)
    if args.base_id is not None:
        check_hub_id(args.base_id)
    with loading("PyTorch"):
        from mesp.export.convert.convert import convert
    convert(args.source, args.to, args.output, args.base, args.base_id)
    used = {"gguf": "llama-cli -m MODEL.gguf --lora", "mlx": "mlx_lm.generate --model MODEL --adapter-path"}
    takes = f"use it with: {used[args.to]} {args.output}" if args.to in used else "AutoPeftModelForCausalLM loads it"
    print(f"{args.output}: {takes}")
    return 0


def run_generate(args: argparse.Namespace) -> int:
    """mesp generate"""
    from mesp.export.model.checkpoint import find_model
    from mesp.export.reference.adapter_config import read_adapter_config
    from mesp.runtime.errors import UsageError
    from mesp.runtime.generation.options import GenerateOptions
    from mesp.runtime.report.run_folder import check_run_folder
    from mesp.runtime.report.texts import Text, add_text

    options = GenerateOptions(
        **{field.name: getattr(args, field.name) for field in fields(GenerateOptions) if hasattr(args, field.name)}
    )
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
