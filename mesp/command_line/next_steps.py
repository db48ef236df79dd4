"""What to do next, as commands that can be copied."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from mesp.export.export_settings import ExportSettings, option
from mesp.runtime.contract.run_files import ADAPTER
from mesp.runtime.data.opening import Opening, opening_of
from mesp.runtime.engine.bundle import TOKENIZER
from mesp.runtime.training.settings import TrainSettings


def export_line(args: argparse.Namespace, lengths: Sequence[int]) -> str:
    """After a plan: what was given of an export's options, with the lengths that were found."""
    chosen = {name: getattr(args, name) for name in ExportSettings.__dataclass_fields__ if hasattr(args, name)}
    if chosen.get("seq_len", ExportSettings.seq_len) != tuple(lengths):
        chosen["seq_len"] = tuple(lengths)
    words = ["mesp", "export", args.model, "-o", "BUNDLE"]
    for name, value in chosen.items():
        words += [option(name), ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    weights = list(Path(args.model).glob("*.safetensors")) if Path(args.model).is_dir() else [args.model]
    return shlex.join([*words, *([] if weights else ["--random-init"])])


def train_line(bundle: Path) -> str:
    """After an export."""
    return shlex.join(["mesp", "train", str(bundle), "--data", "FILE", "-o", "RUN"])


def generate_line(bundle: Path, run: Path, settings: TrainSettings) -> str:
    """After a run."""
    return shlex.join(["mesp", *generate_words(bundle, run, opening_of(settings.data, settings.map))])


def generate_words(bundle: Path, run: Path, opening: Opening | None) -> list[str]:
    """The model without and with a run's adapter, on the beginning of its data. Without a tokenizer, the merged model."""
    adapter = str(run / ADAPTER)
    if not (bundle / TOKENIZER).is_dir():
        return ["merge", str(bundle), adapter, "-o", "MODEL"]
    prompt = ["--prompt", opening.prompt if opening else "Once upon a time"]
    chat = ["--chat"] if opening and opening.chat else []
    return ["generate", str(bundle), "--adapter", adapter, "--into", str(run), *prompt, *chat]
