"""ExecuTorch's runtime, without its compiler.

``executorch.extension.pybindings.portable_lib`` has the same functions, but imports all of ``executorch.exir`` for the class of one
warning: four CPU-seconds and 140 MB of an idle process. The extension module beside it needs only torch's libraries.
"""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, Protocol

import torch  # loads the libraries that the extension module is linked against
from executorch.extension.pybindings import _C as native

from ..errors import UsageError
from .manifest import Needs


class Programs(Protocol):
    """A .pte file, loaded."""

    def run_method(self, name: str, inputs: Sequence[Any], clone_outputs: bool = True) -> list[torch.Tensor]:
        """Runs a program. Results that are not cloned are views, valid until its next run."""


def load(path: Path) -> Programs:
    """Loads a file of programs."""
    with _without_thread_notes():
        programs: Programs = native._load_for_executorch(str(path))
        return programs


def check(needs: Needs) -> None:
    """Checks that everything that a bundle's programs call is there.

    Raises:
        UsageError: names what is missing.
    """
    backends = set(needs.backends).difference(native._get_registered_backend_names())
    operators = set(needs.operators).difference(native._get_operator_names())
    if missing := [*(f"the backend {b}" for b in sorted(backends)), *(f"the operator {o}" for o in sorted(operators))]:
        raise UsageError(
            f"The installed ExecuTorch lacks {', '.join(missing)}, which the bundle's programs call. "
            "Install the version that the bundle was exported with (`mesp inspect` names it), or export it again."
        )


def load_from(buffer: bytes) -> Programs:
    """Loads a file's bytes, which must stay alive as long as the programs do."""
    programs: Programs = native._load_for_executorch_from_buffer(buffer)
    return programs


def use_threads(count: int | None = None) -> None:
    """Sets the size of XNNPACK's pool; None for one a core."""
    with _without_thread_notes():
        native._unsafe_reset_threadpool(count or len(os.sched_getaffinity(0)))


@contextmanager
def _without_thread_notes() -> Iterator[None]:
    """Takes ExecuTorch's notes on its threads out of standard error, among them a search for an Arm chip's files on every machine."""
    noted = io.StringIO()
    try:
        with redirect_stderr(noted):
            yield
    finally:
        for line in noted.getvalue().splitlines():
            if not line.startswith(("[cpuinfo_utils.cpp:", "[threadpool.cpp:")):
                print(line, file=sys.stderr)
