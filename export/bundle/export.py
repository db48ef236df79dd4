"""From a checkpoint to a bundle: plan, check, write the weights, lower the programs, write the manifest; the folder appears when it is whole."""

import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mesp.runtime.engine import bundle as files
from mesp.runtime.engine.arena import plan_arena
from mesp.runtime.engine.manifest import Manifest, Model, Schedule
from mesp.runtime.engine.schedule import ProgramSpec
from mesp.runtime.errors import UsageError
from mesp.runtime.files import check_absent, folder_that_appears_whole, sha256, write_json
from mesp.runtime.training.adapter import write_adapter

from ..export_settings import ExportSettings
from ..model.checkpoint import Checkpoint, open_checkpoint
from ..model.huggingface_folder import quiet
from ..programs.block_inputs import BEYOND_FLOAT16
from ..programs.plan import Plan
from ..programs.program import Program
from ..schedules.schedules import OPTIMIZER_STATES, Schedules, method_of
from .beside import beside
from .initial_adapter import initial_adapter, make_lora
from .lower import Lowered, lower
from .make_plan import make_plan
from .mobile import notes, write_mobile
from .weights_file import check_tiles, weight_tensors, write_weights

Tell = Callable[[str], None]
# Types of GGUF whose blocks are the bundle's own.
_TAKEN_OVER = {("int4", 32): ("Q4_0", "Q4_1")}


def export_bundle(
    source: str,
    output: Path,
    settings: ExportSettings,
    random_init: bool = False,
    progress: Tell = lambda _: None,
    note: Tell = lambda _: None,
    base_id: str | None = None,
) -> Manifest:
    """Exports a checkpoint to a new bundle and returns its manifest.

    Args:
        progress: is told what is being done
        note: is told what a person should know of the result
        base_id: what adapters are to name as their model; None for the source

    Raises:
        UsageError: settings, checkpoint or output that cannot be used; nothing is written.
        MespError: a program did not lower to one delegate.
    """
    check_absent(output)
    checkpoint = open_checkpoint(source, random_init, settings.seed)
    plan = make_plan(checkpoint.config, settings)
    check_tiles(plan)
    tokenizer = checkpoint.tokenizer()  # one that cannot be used is refused before anything is lowered
    if tokenizer is not None:
        _check_vocabulary(tokenizer, plan.architecture.V, checkpoint.origin)
    schedules = Schedules(plan)
    with folder_that_appears_whole(output) as folder:
        with beside(lambda: _write_model(folder, plan, checkpoint, tokenizer)):
            progress("weights and programs")
            lowered = lower(schedules.programs.values())
            _write_synced(folder / files.PROGRAM, lowered.buffer)
        manifest = _manifest(checkpoint, base_id or checkpoint.origin, schedules, lowered, folder)
        write_json(folder / files.MANIFEST, manifest.to_json())
        files.open_bundle(folder, verify_files=False)
    for text in (
        quantized_anew(checkpoint.quantized, settings),
        _unnamed(source, base_id),
        *notes(output / files.TOKENIZER),
    ):
        if text:
            note(text)
    return manifest


def _check_vocabulary(tokenizer: Any, vocabulary: int, origin: str) -> None:
    """Refuses a tokenizer whose tokens the model has no rows for. Added ones may be beyond, as Gemma 3's for images is: a row that has one is
    refused when it is read."""
    if tokenizer.vocab_size > vocabulary:
        raise UsageError(
            f"The tokenizer of {origin} has {tokenizer.vocab_size:,} tokens beside those that were added, and the model a vocabulary of "
            f"{vocabulary:,}: it is another model's. Put the model's own in its place."
        )


def quantized_anew(types: Mapping[str, int], settings: ExportSettings) -> str | None:
    """That weights were rounded twice, if they were: to the checkpoint's type, and again to the bundle's."""
    kept = _TAKEN_OVER.get((settings.weights, settings.group_size), ())
    anew = [f"{name} ({count})" for name, count in types.items() if name not in kept]
    if not anew or settings.weights == "fp32":
        return None
    return (
        f"The checkpoint's projections of {', '.join(anew)} were dequantized, and quantized to {settings.weights} anew."
    )


def _unnamed(source: str, base_id: str | None) -> str | None:
    """That adapters will name a file as their model, where the Hub has another name for it."""
    if base_id or not source.lower().endswith(".gguf"):
        return None
    return (
        "Adapters will name this file as their model. With --base-id OWNER/NAME they name it as the Hub does, "
        "so that PEFT finds it: mesp convert --to peft does it later."
    )


def _write_model(folder: Path, plan: Plan, checkpoint: Checkpoint, tokenizer: Any) -> None:
    """All files that hold numbers or words: weights, tokenizer, initial adapter."""
    write_weights(folder / files.WEIGHTS, plan, checkpoint)
    if tokenizer is not None:
        with quiet():
            tokenizer.save_pretrained(folder / files.TOKENIZER)
        write_mobile(folder / files.TOKENIZER, checkpoint.config.eos_token_id)
    lora = make_lora(plan)
    write_adapter(folder / files.ADAPTER, lora, initial_adapter(lora, plan.settings.seed))


def program_specs(programs: Mapping[str, Program], planned_bytes: Mapping[str, int]) -> dict[str, ProgramSpec]:
    """The programs' signatures as the manifest describes them."""
    return {
        name: ProgramSpec(
            {argument.name: argument.spec for argument in program.inputs},
            {argument.name: argument.spec for argument in program.outputs},
            planned_bytes[name],
        )
        for name, program in programs.items()
    }


def _manifest(checkpoint: Checkpoint, origin: str, schedules: Schedules, lowered: Lowered, folder: Path) -> Manifest:
    plan, tensors = schedules.plan, schedules.tensors()
    specs = weight_tensors(plan) | {name: tensor.spec for name, tensor in tensors.items()}
    kinds = {name: tensor.kind for name, tensor in tensors.items() if tensor.in_arena}
    arch = plan.architecture
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    return Manifest(
        model=Model(origin, arch.description(), checkpoint.config.to_dict(), arch.V, arch.max_tokens),
        plan=plan.settings.to_json(),
        lora=make_lora(plan),
        tensors=tensors,
        programs=program_specs(schedules.programs, lowered.planned_bytes),
        needs=lowered.needs,
        warm_up=schedules.warm_up(),
        schedules={
            name: Schedule(instructions, plan_arena(instructions, specs, kinds))
            for name, instructions in schedules.schedules().items()
        },
        checkpoint=OPTIMIZER_STATES,
        constants=method_of(plan).constants(),
        gradient_not_finite=BEYOND_FLOAT16 if plan.packs_block_inputs else None,
        versions={package: version(package) for package in ("torch", "executorch", "transformers")},
        files={
            str(path.relative_to(folder)): {"sha256": sha256(path), "bytes": path.stat().st_size} for path in written
        },
    )


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
