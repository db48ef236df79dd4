"""An adapter's configuration, accounted for key by key: what PEFT writes beside an adapter's tensors.

PEFT writes every option that its version has, most of them switched off, and reads those that it does not know as if they were not there. Here
an option that nobody has understood is refused by name, unless it is switched off.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..account import Account, shown
from ..contract import adapters_table
from ..errors import UsageError
from ..files import read_json_object

CONFIG = "adapter_config.json"

_OPTIONS = adapters_table()
# What changes nothing in what an adapter computes: where it is from, how it was trained and how its first values were drawn.
_WITHOUT_EFFECT = (*_OPTIONS["without_effect"], "base_model_name_or_path", "peft_type")
# Where the adapter's tensors are, which their names say too: a list, a regular expression or "all-linear".
_PLACES = tuple(_OPTIONS["places"])
# First values that leave the model's own weights as they are. Others (pissa, olora, …) take a part out of them, which is in the adapter then.
LEAVES_WEIGHTS = tuple(_OPTIONS["leaves_weights"])
_MERGE_FIRST = "Put it into its model (mesp merge), and export and train that; or use an adapter without them."


@dataclass(frozen=True)
class LoraConfig:
    """What a plain LoRA adapter says of itself.

    Args:
        rslora: it is scaled by alpha / sqrt(rank)
        base: the model that it was made for; None if it does not say
    """

    rank: int
    alpha: float
    rslora: bool
    base: str | None


def open_config(folder: Path) -> Account:
    """The configuration of a LoRA adapter, to be read.

    Raises:
        UsageError: there is none, or it is of another kind.
    """
    file = folder / CONFIG
    if not file.is_file():
        inside = folder / "adapter"
        hint = f" It is a run folder: its adapter is in {inside}." if (inside / CONFIG).is_file() else ""
        raise UsageError(f"{folder} is not a PEFT adapter: it has no {CONFIG}.{hint}")
    account = Account(str(file), read_json_object(file, "an adapter's configuration"))
    if (kind := account.take("peft_type")) != "LORA":
        raise UsageError(f"{file}: the adapter's peft_type is {shown(kind)}; expected LORA.")
    return account


def read_size(account: Account) -> LoraConfig:
    """Rank, scale and base, which every LoRA adapter has.

    Raises:
        UsageError: one is missing or cannot be.
    """
    rank, alpha = account.integer("r", 1, 1 << 16), account.number("lora_alpha")
    base = account.take("base_model_name_or_path")
    if base is not None and not isinstance(base, str):
        raise UsageError(f"{account.where}: base_model_name_or_path is {shown(base)}, but must be a text.")
    return LoraConfig(rank, alpha, account.flag("use_rslora", False), base)


def finish(account: Account, what_for: str, advice: str = "Use an adapter without them.") -> None:
    """Refuses the options that are left and are switched on."""
    account.ignore(*_WITHOUT_EFFECT)
    account.ignore_what_is_off()
    account.finish(f"options for which it cannot be {what_for}", advice)


def read_plain_lora(folder: Path) -> LoraConfig:
    """The configuration of an adapter that a bundle can train on: A and B of plain LoRA, and nothing else.

    Raises:
        UsageError: no adapter, or one of options that there are no programs for.
    """
    account = open_config(folder)
    config = read_size(account)
    account.expect("bias", "none", f"biases are not trained. {_MERGE_FIRST.removesuffix('.')}")
    initial: Any = account.take("init_lora_weights", True)
    if initial not in LEAVES_WEIGHTS:
        raise UsageError(
            f"{account.where}: init_lora_weights is {shown(initial)}, by which the model's own weights were changed too. Convert it in PEFT: "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...)."
        )
    account.ignore(*_PLACES)
    finish(account, "trained on", _MERGE_FIRST)
    return config
