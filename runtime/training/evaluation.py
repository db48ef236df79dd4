"""An adapter on held-out rows, without a step: the loss that a run evaluates before its first one."""

import time
from collections.abc import Sequence

from torch import Tensor

from ..data.dataset import Example, inputs, spread
from ..engine.bundle import Bundle
from ..engine.session import Session
from ..engine.sizes import smallest
from ..errors import UsageError
from .loop import load_adapter, read_data
from .settings import TrainSettings
from .threads import default_threads


def evaluate(bundle: Bundle, settings: TrainSettings) -> tuple[int, float, float]:
    """The settings' adapter on their held-out rows; memory is taken for evaluations alone.

    Returns:
        how many targets, the mean loss over them in nats, seconds

    Raises:
        UsageError: no held-out rows, or a file or adapter that cannot be used.
    """
    began = time.perf_counter()
    targets, loss = _loss(bundle, settings, held_out_examples(bundle, settings))
    return targets, loss, time.perf_counter() - began


def held_out_examples(bundle: Bundle, settings: TrainSettings) -> Sequence[Example]:
    """Those that a run would evaluate on.

    Raises:
        UsageError: there are none, or a file that cannot be used.
    """
    _, held_out = read_data(bundle, settings)
    if held_out is None:
        raise UsageError("There are no held-out rows to evaluate on: give --eval-data or --eval-split.")
    return spread(held_out.examples, settings.eval_sequences)


def _loss(bundle: Bundle, settings: TrainSettings, examples: Sequence[Example]) -> tuple[int, float]:
    manifest, targets = bundle.manifest, sum(example.predictions for example in examples)
    sizes = [smallest(manifest.sizes(), example.tokens, example.predictions) for example in examples]
    session = Session(
        bundle,
        [f"evaluate.{name}" for name in sorted({size.name for size in sizes})],
        settings.threads or default_threads(),
    )
    adapter: Tensor = session.state[manifest.lora.state]
    scale = load_adapter(bundle, adapter, settings).at(manifest.lora.rank)
    loss = 0.0
    for example, size in zip(examples, sizes, strict=True):
        given: dict[str, Tensor | float] = {**inputs(example, size, targets), "lora_scale": scale}
        loss += float(session.run(f"evaluate.{size.name}", given)["loss"])
    return targets, loss
