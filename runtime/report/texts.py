"""What a model says before and after a run: texts.jsonl of its folder, and so a part of its report."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..contract.run_files import TEXTS
from .pages import write_report
from .run_folder import check_run_folder


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
    """Appends a text to a run's folder, and draws its report anew.

    Raises:
        UsageError: not a run folder, or a file in it that is damaged.
    """
    check_run_folder(run)
    with open(run / TEXTS, "a") as file:
        file.write(json.dumps(asdict(text)) + "\n")
    write_report(run)
