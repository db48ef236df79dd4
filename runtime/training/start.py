"""What a run needs, checked before torch is loaded: that takes longer than all of this."""

from pathlib import Path

from ..data.hub import check_data
from ..engine.bundle import Bundle, open_bundle
from .adapter_config import read_plain_lora
from .run_writer import RunWriter
from .settings import TrainSettings


def check_start(bundle: Path | Bundle, output: Path, settings: TrainSettings, resume: bool) -> Bundle:
    """Looks for everything that a run reads, and opens its bundle, if it is not open.

    Raises:
        UsageError: the run folder is there already, or to be resumed and not there or in use; no data, adapter or bundle.
    """
    if resume:
        RunWriter.check_resumable(output)
    else:
        RunWriter.check_free(output)
    for path in (settings.data, settings.eval_data):
        if path is not None:
            check_data(path)
    if settings.adapter is not None:
        read_plain_lora(settings.adapter)
    return bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
