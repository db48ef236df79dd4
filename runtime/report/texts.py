"""What a model says before and after a run: texts.jsonl of its folder, and so a part of its report."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..contract.run_files import TEXTS
from ..files import write_text
from .pages import write_report
from .run_folder import read_run


@dataclass(frozen=True)
class Text:
    """A line of texts.jsonl.

    Args:
        prompt: as it was given; of a chat, what the user says
        before: how the model alone went on
        after: how it went on with the run's adapter
        settings: how its tokens were chosen, by the command line's names
    """

    prompt: str
    before: str
    after: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def add_text(run: Path, text: Text) -> None:
    """Adds a text to a run's folder, in the place of one with its prompt and settings, and draws the run's report anew.

    Raises:
        UsageError: not a run folder, or a file in it that is damaged.
    """
    new = asdict(text)
    others = [line for line in read_run(run).texts if any(line[key] != new[key] for key in ("prompt", "settings"))]
    write_text(run / TEXTS, "".join(json.dumps(line) + "\n" for line in [*others, new]))
    write_report(run)
