"""The configuration of a PEFT adapter that someone made: read, and refused, before torch is loaded."""

from pathlib import Path
from typing import Any

from mesp.runtime.account import shown
from mesp.runtime.errors import UsageError
from mesp.runtime.training.adapter_config import LEAVES_WEIGHTS, LoraConfig, finish, open_config, read_size

# Options that PEFT computes and that were compared with it, adapter and merged model.
_COMPUTED = (
    "alora_invocation_tokens",
    "alpha_pattern",
    "bias",
    "ensure_weight_tying",
    "exclude_modules",
    "fan_in_fan_out",
    "kasa_config",
    "layers_pattern",
    "layers_to_transform",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_modules",
    "target_parameters",
    "trainable_token_indices",
    "use_dora",
)
# First values that PEFT takes out of the model's weights again when it loads an adapter, the same each time.
_REPEATABLE = ("pissa", "olora", "mica")


def read_adapter_config(folder: Path) -> LoraConfig:
    """The configuration of a PEFT adapter folder.

    Raises:
        UsageError: no adapter there, not a LoRA one, or one of options that are not known.
    """
    account = open_config(folder)
    config = read_size(account)
    initial: Any = account.take("init_lora_weights", True)
    if initial not in (*LEAVES_WEIGHTS, *_REPEATABLE):
        raise UsageError(
            f"{account.where}: init_lora_weights is {shown(initial)}, which changed the model's own weights in a way that cannot be repeated. "
            "Convert it in PEFT: save_pretrained(..., path_initial_model_for_weight_conversion=...)."
        )
    account.ignore(*_COMPUTED)
    finish(account, "applied")
    return config
