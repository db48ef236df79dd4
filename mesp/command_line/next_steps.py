"""What to do next, as commands that can be copied."""

import shlex
from pathlib import Path

from mesp.runtime.contract.run_files import ADAPTER
from mesp.runtime.data.opening import opening_of
from mesp.runtime.engine.bundle import TOKENIZER


def train_line(bundle: Path) -> str:
    """After an export."""
    return shlex.join(["mesp", "train", str(bundle), "--data", "FILE", "-o", "RUN"])


def generate_line(bundle: Path, run: Path, data: Path) -> str:
    """After a run: the model without and with its adapter, on the beginning of the data. Without a tokenizer, the merged model."""
    adapter, opening = str(run / ADAPTER), opening_of(data)
    if not (bundle / TOKENIZER).is_dir():
        return shlex.join(["mesp", "merge", str(bundle), adapter, "-o", "MODEL"])
    prompt = ["--prompt", opening.prompt if opening else "Once upon a time"]
    chat = ["--chat"] if opening and opening.chat else []
    return shlex.join(["mesp", "generate", str(bundle), "--adapter", adapter, "--into", str(run), *prompt, *chat])
