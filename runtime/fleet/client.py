"""The ClientApp: the common adapter in, this client's adapter and figures out.

What a client cannot do it answers with one sentence, which the server shows beside its name; the round goes on with the others.
"""

import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod

from ..engine.bundle import Bundle, open_bundle
from ..errors import MespError, UsageError
from ..training.adapter import WEIGHTS
from .records import (
    ARRAYS,
    BUNDLE,
    CONFIG,
    FLEET,
    ROUND,
    SECONDS,
    SETTINGS,
    bundle_id,
    failure,
    read_arrays,
    reply,
    write_arrays,
)
from .settings import OF_FLEET, FleetSettings, NodeSettings, Privacy, read_clients
from .worker import HostWorker, Task, Worker, rounds_folder

MakeWorker = Callable[[Bundle, NodeSettings], Worker]
# Of a round's time: what is left is for the way there and back.
_OF_THE_ROUND = 0.9
Handler = Callable[[Message, Context], Message]


def client_app(make_worker: MakeWorker = HostWorker) -> ClientApp:
    """The app of every client of a fleet.

    Args:
        make_worker: who trains, for a node's settings: this machine, or the phone that they name
    """
    app = ClientApp()

    @app.train(mods=[_hidden])
    def train(message: Message, context: Context) -> Message:
        return _answered(message, context, make_worker, _train)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return _answered(message, context, make_worker, _evaluate)

    return app


def _hidden(message: Message, context: Context, call_next: Handler) -> Message:
    """The train message through the mod of Flower's that the fleet's privacy asks for."""
    privacy = FleetSettings.of(context.run_config).privacy
    mod = _mod(privacy)
    return mod(message, context, call_next) if mod else call_next(message, context)


def _mod(privacy: Privacy) -> Any:
    if privacy.mode == "central-clients":
        return fixedclipping_mod
    if privacy.mode == "local":  # what one client changes, at most: its whole change
        return LocalDpMod(privacy.clipping_norm, privacy.clipping_norm, privacy.epsilon, privacy.delta)
    if privacy.mode == "secure-aggregation":
        from .secure import masked

        return masked
    return None


def _answered(
    message: Message,
    context: Context,
    make_worker: MakeWorker,
    work: Callable[[Message, Bundle, NodeSettings, Worker], Message],
) -> Message:
    name = ""
    try:
        fleet = FleetSettings.of(context.run_config)
        node = _settings(context, fleet)
        name, bundle = node.name, _bundle(message, node, fleet)
        return work(message, bundle, node, make_worker(bundle, node))
    except (MespError, OSError) as error:
        return Message(failure(name, str(error)), reply_to=message)


def _bundle(message: Message, node: NodeSettings, fleet: FleetSettings) -> Bundle:
    """This client's bundle, if it is the server's.

    Raises:
        UsageError: it is another one.
    """
    path = node.bundle or fleet.bundle
    if path is None:
        raise UsageError('The client has no bundle: name its folder, as bundle = "FOLDER".')
    bundle = open_bundle(path)
    asked, own = str(message.content[CONFIG][BUNDLE]), bundle_id(bundle)
    if asked != own:
        raise UsageError(
            f"{path} is another bundle ({own[:12]}) than the server's ({asked[:12]}): copy the server's here."
        )
    return bundle


def _settings(context: Context, fleet: FleetSettings) -> NodeSettings:
    config = dict(context.node_config)
    if "partition-id" not in config or "data" in config:
        return NodeSettings.of(config, "The node's configuration", f"node-{context.node_id % 10**6:06}")
    place = int(config["partition-id"])
    if fleet.clients is None:
        raise UsageError('A simulation needs a file of its clients: clients = "FILE" in the project\'s configuration.')
    clients = read_clients(fleet.clients)
    if place >= len(clients):
        raise UsageError(
            f"{fleet.clients} has {len(clients)} clients, and the simulation more: give num-supernodes={len(clients)}."
        )
    return clients[place]


def _task(message: Message, bundle: Bundle, node: NodeSettings, what: str) -> Task:
    """What is asked for, with the adapter that came in a folder."""
    config, arrays = message.content[CONFIG], message.content[ARRAYS]
    if not isinstance(arrays, ArrayRecord):
        raise UsageError("The server sent no adapter.")
    round_ = int(config[ROUND])
    seconds = _OF_THE_ROUND * float(config[SECONDS])
    task = Task(str(config[FLEET]), round_, Path(), _common(json.loads(str(config[SETTINGS]))), seconds)
    folder = rounds_folder(node, task) / what
    write_arrays(folder, arrays, bundle)
    return replace(task, adapter=folder)


def _common(settings: dict[str, Any]) -> dict[str, Any]:
    """The fleet's settings as the server sent them, if they are no others: what is read here is chosen here.

    Raises:
        UsageError: names one that is the client's own.
    """
    if own := [name for name in settings if name not in OF_FLEET]:
        raise UsageError(f"The server asks for {own[0]}, which is the client's own to choose.")
    return settings


def _train(message: Message, bundle: Bundle, node: NodeSettings, worker: Worker) -> Message:
    done = worker.train(_task(message, bundle, node, "common"))
    arrays = read_arrays(done.adapter / WEIGHTS, bundle.manifest.lora)
    return Message(reply(arrays, done.figures, _about(node)), reply_to=message)


def _evaluate(message: Message, bundle: Bundle, node: NodeSettings, worker: Worker) -> Message:
    figures = worker.evaluate(_task(message, bundle, node, "common"))
    return Message(reply(None, figures, _about(node)), reply_to=message)


def _about(node: NodeSettings) -> dict[str, str]:
    return {"name": node.name, "where": f"phone {node.phone}" if node.phone else platform.node()}
