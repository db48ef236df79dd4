"""From a checkpoint to a bundle: plan, check, write the weights, lower the programs, write the manifest; the folder appears when it is whole."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from mesp.runtime.engine import bundle as format_
from mesp.runtime.engine.arena import plan_arena
from mesp.runtime.engine.bundle import Lora, Manifest, Schedule
from mesp.runtime.engine.schedule import ProgramSpec
from mesp.runtime.errors import UsageError
from mesp.runtime.files import folder_that_appears_whole, write_json
from mesp.runtime.training.adapter import write_adapter

from ..model.architecture import PROJECTIONS, read_architecture
from ..model.checkpoint import Checkpoint, open_checkpoint
from ..model.quantize import weight_format
from ..predict.workspace import with_chosen_tiles
from ..programs.plan import Plan, Program, Tiling
from ..schedules.method import spec_of
from ..schedules.methods import METHODS
from ..schedules.schedules import Schedules
from .beside import beside
from .lower import Lowered, lower
from .mobile import write_mobile
from .weights_file import check_checkpoint, weight_tensors, write_weights

# In which block inputs can be kept. ExecuTorch's programs take and give bfloat16 too, but its Java API has no tensor of it.
BLOCK_INPUTS = {"float32": torch.float32, "float16": torch.float16}


@dataclass(frozen=True)
class ExportSettings:
    """What a person chooses.

    Args:
        lengths: sequence lengths that get programs; a row runs in the smallest that holds it
        rank, alpha: of the adapters; they are scaled by alpha / rank
        targets: projections that get an adapter
        layers: how many of the topmost blocks get adapters; None for all
        method: how gradients are computed, of ``methods.METHODS``
        weights, group_size: format of the frozen projections: int4, int8 or fp32
        seed: of the adapter's initial A, and of random weights
        tiling: None to choose tiles from the shapes
        offload: keep block inputs in a file while a step runs
        head_rows: numbers of targets that get programs of the head, beside the lengths; a row runs the head on the fewest that hold its targets
        block_inputs: the dtype in which block inputs are kept, of ``BLOCK_INPUTS``
    """

    lengths: tuple[int, ...] = (256,)
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = PROJECTIONS
    layers: int | None = None
    method: str = "mesp"
    weights: str = "int4"
    group_size: int = 32
    seed: int = 0
    tiling: Tiling | None = None
    offload: bool = False
    head_rows: tuple[int, ...] = ()
    block_inputs: str = "float32"


Progress = Callable[[str], None]


def export_bundle(
    source: str, output: Path, settings: ExportSettings, random_init: bool = False, progress: Progress = lambda _: None
) -> Manifest:
    """Exports a checkpoint to a new bundle and returns its manifest.

    Raises:
        UsageError: settings, checkpoint or output that cannot be used; nothing is written.
        MespError: a program did not lower to one delegate.
    """
    if output.exists():
        raise UsageError(f"{output} exists already. Choose another output, or remove it first.")
    checkpoint = open_checkpoint(source, random_init, settings.seed)
    plan = make_plan(checkpoint, settings)
    check_checkpoint(plan, checkpoint)
    schedules = Schedules(plan)
    with folder_that_appears_whole(output) as folder:
        with beside(lambda: _write_model(folder, plan, checkpoint, settings)):
            progress("weights and programs")
            lowered = lower(schedules.programs.values())
            _write_synced(folder / format_.PROGRAM, lowered.buffer)
        manifest = _manifest(checkpoint, plan, settings, schedules, lowered, folder)
        write_json(folder / format_.MANIFEST, manifest.to_json())
        format_.open_bundle(folder, verify_files=False)
    return manifest


def _write_model(folder: Path, plan: Plan, checkpoint: Checkpoint, settings: ExportSettings) -> None:
    """All files that hold numbers or words: weights, tokenizer, initial adapter."""
    write_weights(folder / format_.WEIGHTS, plan, checkpoint)
    if checkpoint.save_tokenizer(folder / format_.TOKENIZER):
        write_mobile(folder / format_.TOKENIZER)
    lora = make_lora(plan, settings.alpha)
    write_adapter(folder / format_.ADAPTER, lora, initial_adapter(lora, settings.seed))


def make_plan(checkpoint: Checkpoint, settings: ExportSettings) -> Plan:
    """Checks the settings against the model.

    Raises:
        UsageError: a setting that this model, or any, cannot have.
    """
    architecture = read_architecture(checkpoint.config)
    if unknown := [target for target in settings.targets if target not in PROJECTIONS]:
        raise UsageError(f"There is no projection {', '.join(unknown)}. Targets are: {', '.join(PROJECTIONS)}.")
    if not settings.targets:
        raise UsageError(f"No targets: at least one of {', '.join(PROJECTIONS)} needs an adapter.")
    if settings.rank < 1:
        raise UsageError(f"Rank {settings.rank} is no rank: it must be at least 1.")
    if not (math.isfinite(settings.alpha) and settings.alpha > 0):
        raise UsageError(f"Alpha {settings.alpha} is no scale: it must be a positive number.")
    for tokens in settings.lengths:
        if not 2 <= tokens <= architecture.max_tokens:
            raise UsageError(
                f"Sequence length {tokens} is not between 2 and {architecture.max_tokens}, the longest that the model takes."
            )
    for rows in settings.head_rows:
        if not 1 <= rows < max(settings.lengths):
            raise UsageError(
                f"{rows} rows of the head are not between 1 and {max(settings.lengths) - 1}: the longest sequence has all of its own."
            )
    if not settings.lengths:
        raise UsageError("No sequence length: at least one is needed, such as 256.")
    if settings.method not in METHODS:
        raise UsageError(f"There is no method {settings.method!r}. Methods are: {', '.join(METHODS)}.")
    layers = architecture.layers if settings.layers is None else settings.layers
    if not 1 <= layers <= architecture.layers:
        raise UsageError(
            f"{layers} layers with adapters are not between 1 and {architecture.layers}, all of the model's."
        )
    targets = tuple(projection for projection in PROJECTIONS if projection in settings.targets)
    fmt = weight_format(settings.weights, settings.group_size)
    if settings.offload and settings.method == "mezo":
        raise UsageError("mezo keeps no block inputs, so there is nothing to offload. Leave --offload out.")
    if settings.block_inputs not in BLOCK_INPUTS:
        raise UsageError(
            f"Block inputs cannot be kept in {settings.block_inputs!r}, only in {' or '.join(BLOCK_INPUTS)}."
        )
    if settings.block_inputs != "float32" and settings.method == "mezo":
        raise UsageError("mezo keeps no block inputs, in whatever dtype. Leave --block-inputs out.")
    plan = Plan(
        architecture,
        tuple(sorted(set(settings.lengths))),
        settings.rank,
        targets,
        fmt,
        settings.tiling or Tiling(),
        layers,
        settings.method,
        settings.offload,
        tuple(sorted(set(settings.head_rows))),
        BLOCK_INPUTS[settings.block_inputs],
    )
    if settings.tiling is None:
        plan = with_chosen_tiles(plan)
    if plan.method == "mebp":  # autodiff takes a block as a whole
        plan = replace(plan, tiling=replace(plan.tiling, query_rows=plan.tokens, ffn=architecture.F))
    return plan


def make_lora(plan: Plan, alpha: float) -> Lora:
    """The adapter as the manifest describes it."""
    tensors = tuple(format_.AdapterTensor(*tensor) for tensor in plan.adapter.tensors())
    first, layers = plan.adapter.first_layer, plan.layers
    return Lora(plan.rank, alpha, plan.targets, first, layers, plan.adapter.size, tensors)


def initial_adapter(lora: Lora, seed: int) -> Tensor:
    """[layers, elements of a layer]: A uniform as PEFT draws it (Kaiming with a = sqrt(5): bound 1 / sqrt(in)), B zero."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.zeros(lora.layers, lora.layer_elements)
    for layer in range(lora.layers):
        for tensor in lora.tensors:
            if tensor.factor == "lora_a":
                bound = tensor.shape[0] ** -0.5
                part = values[layer, tensor.offset : tensor.offset + math.prod(tensor.shape)]
                part.uniform_(-bound, bound, generator=generator)
    return values


def program_specs(programs: Mapping[str, Program], planned_bytes: Mapping[str, int]) -> dict[str, ProgramSpec]:
    """The programs' signatures as the manifest describes them."""
    return {
        name: ProgramSpec(
            {argument.name: spec_of(argument) for argument in program.inputs},
            {argument.name: spec_of(argument) for argument in program.outputs},
            planned_bytes[name],
        )
        for name, program in programs.items()
    }


def _manifest(
    checkpoint: Checkpoint, plan: Plan, settings: ExportSettings, schedules: Schedules, lowered: Lowered, folder: Path
) -> Manifest:
    tensors = schedules.tensors()
    specs = weight_tensors(plan) | {name: tensor.spec for name, tensor in tensors.items()}
    kinds = {name: tensor.kind for name, tensor in tensors.items() if tensor.in_arena}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return Manifest(
        model={"origin": checkpoint.origin, "config": checkpoint.config.to_dict()},
        weights={
            "format": settings.weights,
            **({"group_size": settings.group_size} if settings.weights == "int4" else {}),
        },
        lengths=plan.lengths,
        head_rows=plan.head_rows,
        tiling=asdict(plan.tiling),
        method=plan.method,
        lora=make_lora(plan, settings.alpha),
        tensors=tensors,
        programs=program_specs(schedules.programs, lowered.planned_bytes),
        needs=lowered.needs,
        warm_up=schedules.warm_up(),
        schedules={
            name: Schedule(instructions, plan_arena(instructions, specs, kinds))
            for name, instructions in schedules.schedules().items()
        },
        versions={package: version(package) for package in ("torch", "executorch", "transformers")},
        files={
            str(path.relative_to(folder)): {"sha256": format_.sha256(path), "bytes": path.stat().st_size}
            for path in files
        },
    )


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
