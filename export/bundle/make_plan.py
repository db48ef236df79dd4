"""From a model and a person's choices to a plan, checked; and from a bundle back to the plan that it was exported with."""

from dataclasses import replace
from typing import Any

from mesp.runtime.engine.bundle import Bundle
from mesp.runtime.errors import UsageError

from ..export_settings import ALL, ExportSettings, Tiling
from ..model.architecture import Architecture, Attention
from ..model.families import read_architecture
from ..programs.plan import Plan
from ..programs.workspace import with_chosen_tiles


def make_plan(config: Any, settings: ExportSettings) -> Plan:
    """Checks the settings against the model, and chooses what was left open.

    Args:
        config: the model's, as transformers reads it

    Raises:
        UsageError: a setting that this model cannot have.
    """
    architecture = read_architecture(config)
    complete = replace(
        settings,
        seq_len=_lengths(settings.seq_len, architecture),
        head_rows=tuple(sorted(set(settings.head_rows))),
        targets=_targets(settings.targets, architecture),
        layers=_layers(settings.layers, architecture),
        tiling=settings.tiling or Tiling(),
    )
    plan = Plan(architecture, complete)
    if settings.tiling is None:
        plan = with_chosen_tiles(plan)
    if settings.method == "mebp":  # autodiff takes a layer as a whole
        widths = [s.middle.units for s in architecture.sublayers if not isinstance(s.middle, Attention)]
        plan = plan.having(tiling=replace(plan.tiling, query_rows=plan.tokens, ffn=max(widths)))
    return plan


def _lengths(lengths: tuple[int, ...], architecture: Architecture) -> tuple[int, ...]:
    for tokens in lengths:
        if not 2 <= tokens <= architecture.max_tokens:
            raise UsageError(
                f"--seq-len {tokens} is not between 2 and {architecture.max_tokens}, the longest that the model takes."
            )
    return tuple(sorted(set(lengths)))


def _targets(targets: tuple[str, ...], architecture: Architecture) -> tuple[str, ...]:
    """Their names, in the order of the data."""
    names = tuple(dict.fromkeys(projection.name for projection in architecture.projections))
    if targets == ALL:
        return names
    if unknown := [target for target in targets if target not in names]:
        raise UsageError(f"There is no projection {', '.join(unknown)}. Targets are: {', '.join(names)}.")
    return tuple(name for name in names if name in targets)


def _layers(layers: int | None, architecture: Architecture) -> int:
    most = len(architecture.layers)
    if layers is None:
        return most
    if not 1 <= layers <= most:
        raise UsageError(f"--layers {layers} is not between 1 and {most}, all of the model's.")
    return layers


def bundle_config(bundle: Bundle) -> Any:
    """transformers' configuration of a bundle's model."""
    from transformers import AutoConfig

    values = dict(bundle.manifest.model.config)
    return AutoConfig.for_model(values.pop("model_type"), **values)


def bundle_plan(bundle: Bundle) -> Plan:
    """The plan that a bundle was exported with."""
    return Plan(read_architecture(bundle_config(bundle)), ExportSettings.from_json(bundle.manifest.plan))
