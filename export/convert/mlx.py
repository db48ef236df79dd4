"""An adapter as mlx-lm's ``--adapter-path`` takes it: adapters.safetensors and its configuration.

mlx-lm has the same modules under the same names, and each factor transposed: x A B with A [in, rank] and B [rank, out], times the scale.
"""

import re
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from mesp.runtime.errors import UsageError
from mesp.runtime.files import folder_that_appears_whole, write_json

from .lora import LoraAdapter

_LAYER = re.compile(r"model\.layers\.\d+\.(.+)")


def write_mlx(folder: Path, lora: LoraAdapter) -> None:
    """Writes the folder, whole or not at all.

    Raises:
        UsageError: an adapter of something that is not in a layer.
        OSError: the folder cannot be written.
    """
    keys: dict[str, None] = {}
    tensors: dict[str, np.ndarray] = {}
    for path, pair in lora.pairs.items():
        if not (found := _LAYER.fullmatch(path)):
            raise UsageError(f"{lora.folder}: {path} is in no layer, and mlx-lm has adapters there alone.")
        keys[found[1]] = None
        tensors[f"{path}.lora_a"] = np.ascontiguousarray(pair.a.T)
        tensors[f"{path}.lora_b"] = np.ascontiguousarray(pair.b.T)
    with folder_that_appears_whole(folder) as new:
        save_file(tensors, new / "adapters.safetensors", metadata={"format": "mlx"})
        parameters = {"rank": lora.rank, "scale": lora.scale, "dropout": 0.0, "keys": list(keys)}
        # -1 is all layers; in one that the file has no tensors for mlx-lm's B is zero
        config = {"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": parameters}
        write_json(new / "adapter_config.json", {"model": lora.base, **config})
