"""Flower without its processes: a grid that hands each message to a client's app at once, in this process.

What the processes do is tried in test_processes.py; everything else is tried here, in parts of a second.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from mesp.runtime.fleet.client import client_app
from mesp.runtime.fleet.server import run_fleet
from mesp.runtime.fleet.settings import FleetSettings

# What happens to a message and a reply on the way; None is lost.
Trouble = Callable[[Message, Callable[[], Message]], Message | None]


class Desk(Grid):
    """Clients in this process.

    Args:
        nodes: each one's own configuration
        config: of the run
        trouble: by the place of a node, what happens to what is sent to it
        app: of the clients
        side_by_side: every client in a thread of its own
    """

    def __init__(
        self,
        nodes: Sequence[Mapping[str, Any]],
        config: Mapping[str, Any],
        trouble: Mapping[int, Trouble] | None = None,
        app: ClientApp | None = None,
        side_by_side: bool = False,
    ):
        self._nodes = {100 + place: node for place, node in enumerate(nodes)}
        self._config, self._trouble = dict(config), trouble or {}
        self._app, self._side_by_side = app or client_app(), side_by_side
        self._contexts: dict[int, Context] = {}
        self.context = Context(1, 1, {}, RecordDict(), dict(self._config))
        self.sent: list[Message] = []
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = (
            1  # what a process of Flower's is told at its start
        )

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        if self._side_by_side:
            with ThreadPoolExecutor() as pool:
                replies = list(pool.map(self._deliver, messages))
        else:
            replies = [self._deliver(message) for message in messages]
        return [reply for reply in replies if reply is not None]

    def _deliver(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        message.metadata.__dict__["_message_id"] = f"{len(self.sent)}"
        message.content = deepcopy(message.content)  # a client gets a copy, as from another machine
        self.sent.append(message)
        context = self._contexts.setdefault(
            node, Context(1, node, dict(self._nodes[node]), RecordDict(), dict(self._config))
        )

        def answered() -> Message:
            try:
                reply = self._app(message, context)
            except Exception as error:  # as Flower's own process does
                reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(error)), reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = node
            return reply

        trouble = self._trouble.get(node - 100)
        return trouble(message, answered) if trouble else answered()


def config(bundle: Path, output: Path, **more: Any) -> dict[str, Any]:
    """A run's configuration as Flower gives it: flat."""
    base = {"bundle": str(bundle), "output": str(output), "rounds": 1, "wait-seconds": 0.1}
    return {**base, "train.steps": 2, "train.optimizer": "sgd", **more}


def rows(seed: int, count: int = 12, vocabulary: int = 97) -> str:
    """Sequences that a tiny model can learn: each counts up by the seed."""
    lines = []
    for row in range(count):
        ids = [(row + seed * place) % vocabulary for place in range(9)]
        lines.append(json.dumps({"input_ids": ids, "labels": ids}))
    return "\n".join(lines) + "\n"


def clients(folder: Path, data: list[str], **more: Any) -> list[dict[str, Any]]:
    """The configuration of a node for each client's rows."""
    nodes = []
    for place, text in enumerate(data):
        file = folder / f"client-{place}.jsonl"
        file.write_text(text)
        nodes.append({"name": f"client-{place}", "data": str(file), "output": str(folder / f"out-{place}"), **more})
    return nodes


def fleet(
    nodes: Sequence[Mapping[str, Any]], config_: Mapping[str, Any], trouble: Mapping[int, Trouble] | None = None
) -> Desk:
    """Runs a fleet to its end."""
    desk = Desk(nodes, config_, trouble)
    run_fleet(desk, FleetSettings.of(config_), desk.context)
    return desk
