"""A fleet's clients: this machine, or a phone that is connected to it."""

from mesp.runtime.engine.bundle import Bundle
from mesp.runtime.fleet.settings import NodeSettings
from mesp.runtime.fleet.worker import HostWorker, Worker


def worker(bundle: Bundle, node: NodeSettings) -> Worker:
    """Who trains for a node."""
    return HostWorker(bundle, node)
