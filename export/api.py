"""The Python API of what this package does: bundles, what they will take, and text before and after. ``mesp`` has these names.

Nothing here imports torch before everything that can be refused without it was.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesp.runtime.account import check_names
from mesp.runtime.engine.bundle import Bundle, open_bundle
from mesp.runtime.errors import UsageError
from mesp.runtime.files import check_absent
from mesp.runtime.generation.options import GenerateOptions
from mesp.runtime.training.settings import MEMORY, TrainSettings

from .export_settings import settings_of
from .model.checkpoint import check_hub_id, find_checkpoint, find_model
from .reference.adapter_config import read_adapter_config

if TYPE_CHECKING:
    from .predict.prediction import Prediction
    from .reference.generate import Completions
    from .reference.verify import Verification


def export(
    checkpoint: str | Path,
    output: str | Path,
    *,
    random_init: bool = False,
    base_id: str | None = None,
    **settings: Any,
) -> Bundle:
    """Makes a bundle from a checkpoint, as ``mesp export`` does.

    Args:
        checkpoint: a Hugging Face folder, a .gguf file or a Hub id
        output: the folder to make
        random_init: random weights for a folder with a config.json, to measure memory and speed
        base_id: the model on the Hub, which adapters will name as their base; the checkpoint if not given
        settings: the fields of ``mesp.ExportSettings``, which are the options of ``mesp export``

    Raises:
        UsageError: settings, checkpoint or output that cannot be used; nothing is written.
        MespError: a program did not lower to one delegate.
    """
    chosen, folder = settings_of(settings, "mesp.export"), Path(output)
    check_absent(folder)
    if base_id is not None:
        check_hub_id(base_id)
    find_checkpoint(str(checkpoint), random_init)
    from .bundle.export import export_bundle

    export_bundle(str(checkpoint), folder, chosen, random_init, base_id=base_id)
    return open_bundle(folder, verify_files=False)


def plan(checkpoint: str | Path, *, budget_mb: float | None = None, **settings: Any) -> "Prediction":
    """The peak of training over an idle process, before anything is exported.

    Args:
        checkpoint: as for ``export``; of a folder the config.json is enough
        budget_mb: of the longest sequence within so many megabytes
        settings: the fields of ``mesp.ExportSettings``, and of ``mesp.TrainSettings`` optimizer, momentum, grad_accumulation and clip_norm

    Raises:
        UsageError: settings or a checkpoint that cannot be used, or a budget that is too small for any length.
    """
    of_training = {name: settings.pop(name) for name in MEMORY if name in settings}
    training, chosen = TrainSettings(data=Path(), **of_training), settings_of(settings, "mesp.plan")
    find_checkpoint(str(checkpoint), Path(checkpoint).is_dir())
    from .model.checkpoint import open_checkpoint
    from .predict.prediction import Choices, predict, predict_longest

    choices = Choices(chosen, training)
    config = open_checkpoint(str(checkpoint), random_init=Path(checkpoint).is_dir()).config
    if budget_mb is None:
        return predict(config, choices)
    found = predict_longest(config, choices, int(budget_mb * 1e6))
    if found is None:
        raise UsageError(
            f"{budget_mb:g} MB are not enough for any sequence of this model: mesp plan says what would be."
        )
    return found


def verify(bundle: str | Path | Bundle, seed: int = 0) -> "Verification":
    """Every adapter gradient of a bundle against autograd.

    Raises:
        UsageError: not a bundle, one that was changed, or one whose gradients are estimates.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(Path(bundle))
    from .reference.verify import verify as verify_bundle

    return verify_bundle(opened, seed)


def generate(
    model: str | Path, prompt: str, adapter: str | Path | None = None, *, allow_other_base: bool = False, **options: Any
) -> "Completions":
    """Completes a prompt without an adapter, and with one if there is one.

    Args:
        model: a bundle, a Hugging Face folder, a .gguf file or a Hub id
        adapter: a PEFT adapter folder, such as ``Run.adapter``
        options: the fields of ``mesp.GenerateOptions``

    Raises:
        UsageError: a model, adapter, prompt or option that cannot be used.
    """
    check_names(options, GenerateOptions.__dataclass_fields__, "mesp.generate")
    chosen, folder = GenerateOptions(**options), None if adapter is None else Path(adapter)
    if folder:
        read_adapter_config(folder)
    find_model(str(model))
    from .reference.generate import generate as complete

    return complete(str(model), folder, prompt, chosen, allow_other_base)


def merge(
    model: str | Path,
    adapter: str | Path,
    output: str | Path,
    *,
    dtype: str = "bfloat16",
    allow_other_base: bool = False,
) -> Path:
    """Adds an adapter to its model's weights, as a Hugging Face folder, and returns that.

    Raises:
        UsageError: a model, adapter, output or dtype that cannot be used; nothing is written.
        MespError: the merged weights are not finite, or could not be written.
    """
    folder = Path(output)
    check_absent(folder)
    read_adapter_config(Path(adapter))
    find_model(str(model))
    from .reference.merge import merge as merge_model

    merge_model(str(model), Path(adapter), folder, dtype, allow_other_base)
    return folder


def convert(
    source: str | Path, to: str, output: str | Path, *, base: str | Path | None = None, base_id: str | None = None
) -> Path:
    """Writes a run's adapter, or a PEFT adapter folder, as another program takes it, and returns the file or folder.

    Args:
        to: gguf, for llama.cpp; mlx, for mlx-lm; or peft, which names its model as the Hub does
        base: for gguf, the model of an adapter that is no run's: a bundle or a checkpoint
        base_id: for peft, the Hub id of the model

    Raises:
        UsageError: a source, base or format that cannot be used; nothing is written.
    """
    from .convert.convert import convert as convert_adapter

    convert_adapter(Path(source), to, Path(output), None if base is None else str(base), base_id)
    return Path(output)
