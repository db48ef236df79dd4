"""Going on with a run: what it was started with is in its run.json, so its folder is all that has to be named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..account import check_names
from ..contract.run_files import RUN
from ..errors import UsageError
from .config import merged
from .run_writer import RunWriter
from .settings import DEFINITIONS, TrainSettings


def resumed(run: Path, given: Mapping[str, Any]) -> tuple[Path, TrainSettings]:
    """The bundle and the settings that a run was started with, with what is given now over them.

    Args:
        given: settings by name; the loop refuses those that would make it another run

    Raises:
        UsageError: there is no run, or its run.json is damaged.
    """
    start = RunWriter.reopen(run).read_run()
    try:
        bundle, settings = Path(start["bundle"]["path"]), dict(start["settings"])
        del settings["steps" if start.get("steps_follow_from_epochs") else "epochs"]
    except (KeyError, TypeError) as error:
        raise UsageError(f"{run / RUN} is damaged: it does not say what the run was started with.") from error
    check_names(settings, DEFINITIONS, str(run / RUN))
    return bundle, merged(given, settings)
