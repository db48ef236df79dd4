"""``mesp convert``: finds the adapter and the model that it was made for, and writes it in another format."""

import shutil
from pathlib import Path
from typing import Any

from mesp.runtime.contract.run_files import ADAPTER, RUN
from mesp.runtime.engine.bundle import MANIFEST, open_bundle
from mesp.runtime.errors import UsageError
from mesp.runtime.files import check_absent, folder_that_appears_whole, read_json_object, write_json
from mesp.runtime.training.adapter import same_base
from mesp.runtime.training.adapter_config import CONFIG

from ..bundle.make_plan import bundle_config
from ..model.checkpoint import check_hub_id, open_checkpoint
from ..model.families import read_architecture
from ..model.huggingface_folder import quiet
from .gguf_lora import write_gguf_lora
from .lora import read_lora
from .mlx import write_mlx

FORMATS = ("gguf", "peft", "mlx")


def convert(source: Path, to: str, output: Path, base: str | None = None, base_id: str | None = None) -> None:
    """Writes a run's adapter, or a PEFT adapter folder, in another format.

    Args:
        source: a run's folder, or an adapter's
        to: one of ``FORMATS``
        output: the file to make for gguf, the folder for the others
        base: for gguf, the model of an adapter that is no run's: a bundle or a checkpoint
        base_id: for peft, the Hub id of the model

    Raises:
        UsageError: a source, base or option that cannot be used; nothing is written.
    """
    check_absent(output)
    if to not in FORMATS:
        raise UsageError(f"There is no format {to}. Expected one of {', '.join(FORMATS)}.")
    folder = source / ADAPTER if (source / RUN).is_file() else source
    lora = read_lora(folder)
    if to == "gguf":
        config, origin = _base(base) if base else _base_of_run(source)
        if not same_base(lora.base, origin):
            raise UsageError(
                f"{folder} is an adapter of {lora.base}, but the model is {origin}. Give its own as --base."
            )
        write_gguf_lora(output, lora, read_architecture(config))
    elif to == "mlx":
        write_mlx(output, lora)
    else:
        _write_peft(output, folder, base_id or lora.base)


def _base(source: str) -> tuple[Any, str]:
    """A model's transformers configuration, and its name."""
    with quiet():
        if (Path(source) / MANIFEST).is_file():
            bundle = open_bundle(Path(source), verify_files=False)
            return bundle_config(bundle), bundle.manifest.model.origin
        checkpoint = open_checkpoint(source)
    return checkpoint.config, checkpoint.origin


def _base_of_run(run: Path) -> tuple[Any, str]:
    if not (run / RUN).is_file():
        raise UsageError(
            f"{run} is no run, which knows its bundle. Give the adapter's model: --base CHECKPOINT or BUNDLE."
        )
    path = read_json_object(run / RUN, "what a run was started with").get("bundle", {}).get("path")
    if not isinstance(path, str) or not (Path(path) / MANIFEST).is_file():
        raise UsageError(f"The run's bundle is not at {path} any more. Give it, or its checkpoint, as --base.")
    return _base(path)


def _write_peft(output: Path, folder: Path, base_id: str | None) -> None:
    """A copy of the adapter that names its model as the Hub does."""
    try:
        check_hub_id(base_id or "")
    except UsageError as error:
        raise UsageError(f"{folder} names its model {base_id}. Give its Hub id: --base-id OWNER/NAME.") from error
    config = read_json_object(folder / CONFIG, "an adapter's configuration")
    with folder_that_appears_whole(output) as new:
        for file in folder.iterdir():
            if file.is_file():
                shutil.copyfile(file, new / file.name)
        write_json(new / CONFIG, {**config, "base_model_name_or_path": base_id})
