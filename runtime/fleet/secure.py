"""Rounds in which the server sees the sum of the adapters alone: Flower's SecAgg+ (Bell et al., 2020).

Flower has it as a mod of the client and a workflow of the server, both with the records of its former API. What is here is the way from our
messages to those and back. ``masked`` stands around a client's answer. ``SecureGrid`` stands in the place of the grid: it takes a round's
messages through the four stages, and answers with every client's figures, each beside the mean of all adapters, so that the strategy,
whose mean of equal adapters is that adapter, needs to know nothing of it. Figures and weights are not hidden, only adapters.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import parameters_to_ndarrays
from flwr.compat.common import recorddict_compat as compat
from flwr.compat.common.typing import Code, FitIns, FitRes, Parameters, Status
from flwr.server import LegacyContext
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.serverapp import Grid

from ..errors import MespError, UsageError
from .records import ABOUT, ARRAYS, CONFIG, METRICS, ROUND, TARGETS
from .settings import FleetSettings

_FEWEST = 3  # of two, each could take its own adapter from the sum
_THRESHOLD = 0.6  # of the clients: so many together could lift a mask, and so many must stay to the end
_NAMES = "tensors"  # of the configuration: the adapter's, which the former records do not have


class _Failed(Exception):
    """A client could not train: its answer, which the mod cannot pass on."""

    def __init__(self, answer: Message):
        super().__init__()
        self.answer = answer


def masked(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    """A train message of one of the four stages; in one of them the client trains, and its adapter is masked."""

    def trains(inner: Message, context: Context) -> Message:
        fitins = compat.recorddict_to_fitins(inner.content, keep_input=True)
        names = json.loads(str(fitins.config.pop(_NAMES)))
        arrays = dict(zip(names, parameters_to_ndarrays(fitins.parameters), strict=True))
        record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
        inner.content = RecordDict({ARRAYS: record, CONFIG: ConfigRecord(fitins.config)})
        answer = call_next(inner, context)
        if answer.has_error():
            raise _Failed(answer)
        return Message(_as_fitres(answer.content), reply_to=inner)

    try:
        return secaggplus_mod(message, context, trains)
    except _Failed as failed:
        return failed.answer


def _as_fitres(content: RecordDict) -> RecordDict:
    """A client's answer in the former records."""
    figures = {**content[METRICS], **content[ABOUT]}
    parameters = compat.arrayrecord_to_parameters(content[ARRAYS], keep_input=True)
    result = FitRes(Status(Code.OK, ""), parameters, int(figures[TARGETS]), figures)
    return compat.fitres_to_recorddict(result, keep_input=False)


class SecureGrid(Grid):
    """A grid whose train messages go through the stages of SecAgg+.

    Args:
        grid: that sends them
        context: of the ServerApp
        settings: of the fleet
        most_targets: of one client in one round: weights are whole parts of it

    Raises:
        UsageError: the fleet's strategy looks at single adapters.
    """

    def __init__(self, grid: Grid, context: Context, settings: FleetSettings, most_targets: int):
        if settings.strategy not in ("FedAvg", "FedAvgM", "FedAdam", "FedAdagrad", "FedYogi"):
            raise UsageError(
                f"{settings.strategy} looks at each client's adapter, which secure aggregation hides. Take FedAvg."
            )
        self._grid, self._context, self._settings, self._most = grid, context, settings, most_targets
        self._errors: list[Message] = []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Flower's own, but for a round's train messages.

        Raises:
            MespError: fewer than three clients.
        """
        asked = list(messages)
        if not asked or asked[0].metadata.message_type != "train" or CONFIG not in asked[0].content:
            answers = list(self._grid.send_and_receive(asked, timeout=timeout))
            self._errors += [answer for answer in answers if answer.has_error()]
            return answers
        if len(asked) < _FEWEST:
            raise MespError(
                f"Secure aggregation needs {_FEWEST} clients, and there are {len(asked)}: fewer hide nothing."
            )
        return self._aggregate(asked, timeout)

    def _aggregate(self, asked: list[Message], timeout: float | None) -> list[Message]:
        arrays, config = asked[0].content[ARRAYS], dict(asked[0].content[CONFIG])
        workflow = SecAggPlusWorkflow(
            1.0,
            _THRESHOLD,
            max_weight=float(self._most),
            clipping_range=self._settings.privacy.clipping_norm,
            timeout=timeout,
        )
        collected, self._errors = _Collected(asked, {**config, _NAMES: json.dumps(list(arrays))}), []
        state = RecordDict(
            {MAIN_PARAMS_RECORD: arrays, MAIN_CONFIGS_RECORD: ConfigRecord({Key.CURRENT_ROUND: config[ROUND]})}
        )
        own = self._context
        context = Context(own.run_id, own.node_id, own.node_config, state, own.run_config)
        workflow(self, LegacyContext(context, strategy=collected, client_manager=collected))
        good = [_answer(asked, node, fitres, list(arrays)) for node, fitres in collected.results]
        answered = {message.metadata.src_node_id for message in good}
        return good + [message for message in self._errors if message.metadata.src_node_id not in answered]

    def set_run(self, run: Any) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        return self._grid.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return self._grid.create_message(*args, **kwargs)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._grid.get_node_ids())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return list(self._grid.push_messages(messages))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return list(self._grid.pull_messages(message_ids))


class _Proxy:
    """A client, as the former API names one."""

    def __init__(self, node: int):
        self.node_id = node


class _Collected:
    """In the place of the former API's strategy and its list of clients: asks the clients of a round, and keeps what comes of it."""

    def __init__(self, asked: list[Message], config: dict[str, Any]):
        self._nodes, self._config = [message.metadata.dst_node_id for message in asked], config
        self.results: list[tuple[int, FitRes]] = []

    def configure_fit(self, _: int, parameters: Parameters, __: Any) -> list[tuple[_Proxy, FitIns]]:
        return [(_Proxy(node), FitIns(parameters, dict(self._config))) for node in self._nodes]

    def aggregate_fit(self, _: int, results: list[tuple[_Proxy, FitRes]], __: Any) -> tuple[None, dict[str, Any]]:
        self.results = [(proxy.node_id, fitres) for proxy, fitres in results]
        return None, {}

    def num_available(self) -> int:
        return len(self._nodes)


def _answer(asked: list[Message], node: int, fitres: FitRes, names: list[str]) -> Message:
    """A client's figures beside the mean of all adapters, as its answer would be."""
    arrays = {
        name: Array(array.astype("float32"))
        for name, array in zip(names, parameters_to_ndarrays(fitres.parameters), strict=True)
    }
    about = {name: value for name, value in fitres.metrics.items() if isinstance(value, str)}
    figures = {name: value for name, value in fitres.metrics.items() if not isinstance(value, str)}
    records = {ARRAYS: ArrayRecord(arrays), METRICS: MetricRecord(figures), ABOUT: ConfigRecord(about)}
    (message,) = [message for message in asked if message.metadata.dst_node_id == node]
    message.metadata.__dict__["_message_id"] = message.metadata.message_id or f"{node}"
    answer = Message(RecordDict(records), reply_to=message)
    answer.metadata.__dict__["_src_node_id"] = node
    return answer
