"""The configuration of a PEFT adapter that someone made: read, and refused, before torch is loaded."""

import json
from pathlib import Path
from typing import Any

from mesp.runtime.errors import UsageError
from mesp.runtime.training.adapter import CONFIG


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The configuration of a PEFT adapter folder.

    Raises:
        UsageError: no adapter there, or not a LoRA one.
    """
    file = folder / CONFIG
    if not file.is_file():
        inside = folder / "adapter"
        hint = f" It is a run folder: its adapter is in {inside}." if (inside / CONFIG).is_file() else ""
        raise UsageError(f"{folder} is not a PEFT adapter: it has no {CONFIG}.{hint}")
    try:
        config = json.loads(file.read_text())
        kind = config.get("peft_type")
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{file} cannot be read as an adapter's configuration: {error}.") from error
    if kind != "LORA":
        raise UsageError(f"{file}: the adapter's peft_type is {kind}; expected LORA.")
    return dict(config)
