"""Work in a second process beside this one, for a machine with more cores than one: lowering is a single thread of Python."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch

from mesp.runtime.errors import MespError


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Runs ``work`` in a forked process while the body of the ``with`` runs, and waits for it at the end.

    Raises:
        What the work raised. If the body raises, the work is ended.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield
        error = ours.recv()
    except EOFError:
        process.join()
        raise MespError(
            f"A process of the export ended with status {process.exitcode} before its work was done."
        ) from None
    finally:
        process.terminate()
        process.join()
    if error is not None:
        raise error


def _run(work: Callable[[], None], result: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits, which ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    try:
        work()
        result.send(None)
    except Exception as error:
        result.send(error)
