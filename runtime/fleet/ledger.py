"""What stands around a strategy of Flower's: it looks at every reply before the strategy does, and keeps the fleet's folder.

An adapter counts if it is one of this bundle and its numbers are finite. A round counts if enough adapters do; otherwise the common adapter
stays as it is and the next round tries again, until several in a row did not count.
"""

import math
import resource
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore import log

from ..contract.run_files import ADAPTER
from ..engine.bundle import Bundle
from ..errors import MespError, UsageError
from ..files import make_folders
from .folder import STATE, FleetFolder, Part, Round
from .records import ABOUT, ARRAYS, METRICS, TARGETS, checked, failed, single, write_arrays
from .settings import FleetSettings
from .strategies import inner, read_state, write_state

MOST_FAILED = 3  # rounds in a row that do not count
_POLL_SECONDS = 0.5


class Ledger(Strategy):
    """A strategy whose every round is looked at and written down.

    Args:
        strategy: of Flower's
        settings: of the fleet
        bundle: the server's
        folder: of the fleet
        done: rounds that were done before: Flower's own count begins at 1
    """

    def __init__(self, strategy: Strategy, settings: FleetSettings, bundle: Bundle, folder: FleetFolder, done: int):
        self.strategy, self._settings, self._bundle, self._folder, self._done = strategy, settings, bundle, folder, done
        self._parts: dict[int, Part] = {}
        self._names: dict[int, Part] = {}
        self._asked: list[int] = []
        self._began, self._failed = time.monotonic(), 0
        self._reason: str | None = None
        self._common = ArrayRecord()
        self._nobody_holds_out = False
        if done and (state := folder.round(done) / STATE).is_file():
            read_state(strategy, state)

    # --- A round's training ------------------------------------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of a round.

        Raises:
            MespError: too few clients are connected.
        """
        self._began, self._parts, self._reason, self._common = time.monotonic(), {}, None, arrays
        fewest = self._fewest("train")
        if server_round == 1 and self._settings.start_clients > fewest:
            self.wait_for(grid, self._settings.start_clients)
        if (there := self.wait_for(grid, fewest)) < fewest:
            raise MespError(
                f"{there} clients are connected after {self._settings.wait_seconds:g} s, and a round needs {fewest}. Start more of them "
                "(flower-supernode), or take a smaller min-clients; then go on with resume = true."
            )
        messages = list(self.strategy.configure_train(self._done + server_round, arrays, config, grid))
        self._asked = [message.metadata.dst_node_id for message in messages]
        return messages

    def _fewest(self, what: str) -> int:
        """How many clients the strategy would wait for, without end."""
        own = inner(self.strategy)
        return max(self._settings.min_clients, int(own.min_available_nodes), int(getattr(own, f"min_{what}_nodes")))

    def wait_for(self, grid: Grid, clients: int) -> int:
        """Waits until so many clients are connected; returns how many are, which may be fewer."""
        until = time.monotonic() + self._settings.wait_seconds
        there = len(list(grid.get_node_ids()))
        while there < clients and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
            there = len(list(grid.get_node_ids()))
        return there

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The new common adapter, written; none if the round does not count.

        Raises:
            MespError: several rounds in a row did not count, or the folder cannot be written.
        """
        number = self._done + server_round
        good = [message for message in replies if self._took_part(message)]
        self._missing()
        if len(good) < self._settings.min_clients:
            return self._not_counted(number, f"{len(good)} adapters came, and {self._settings.min_clients} are needed")
        arrays, metrics = self.strategy.aggregate_train(number, good)
        if arrays is None:
            return self._not_counted(number, "the strategy made no adapter of what came")
        arrays = single(arrays)
        try:
            self._write(number, arrays)
        except UsageError as error:
            return self._not_counted(number, str(error))
        self._failed = 0
        return arrays, metrics

    def _write(self, number: int, arrays: ArrayRecord) -> None:
        folder = self._folder.round(number)
        make_folders(folder)
        write_arrays(folder / ADAPTER, arrays, self._bundle)
        write_state(self.strategy, folder / STATE)

    def _not_counted(self, number: int, reason: str) -> tuple[None, None]:
        self._reason = reason
        self._failed += 1
        log(INFO, "mesp: round %d does not count: %s", number, reason)
        for part in self._parts.values():
            if part.reason:
                log(INFO, "mesp:   %s: %s", part.name, part.reason)
        if self._failed == MOST_FAILED:
            self._add(number, None)
            why = "; ".join(f"{part.name}: {part.reason}" for part in self._parts.values() if part.reason)
            raise MespError(
                f"{MOST_FAILED} rounds in a row did not count, the last one because {reason}. {why}".strip()
            )
        return None, None

    def _took_part(self, message: Message) -> bool:
        """Whether a reply is an adapter that counts; why not is kept."""
        node, part = message.metadata.src_node_id, self._part(message)
        try:
            self._parts[node] = replace(part, training=self._training(message, part.name))
        except MespError as error:
            self._parts[node] = replace(part, reason=str(error))
        return self._parts[node].reason is None

    def _training(self, message: Message, name: str) -> Mapping[str, float]:
        """The figures of a reply whose adapter is good.

        Raises:
            MespError: the client could not, or sent something else.
        """
        figures = _figures(message, name)
        arrays = message.content.get(ARRAYS)
        if not isinstance(arrays, ArrayRecord):
            raise UsageError(f"{name} sent no adapter.")
        if self._settings.privacy.mode == "central" and all(
            arrays[key].data == self._common[key].data for key in arrays
        ):
            raise UsageError(f"{name} changed nothing, which cannot be clipped.")
        checked({key: array.numpy() for key, array in single(arrays).items()}, self._bundle.manifest.lora, name)
        if not figures[TARGETS] > 0:
            raise UsageError(f"{name} trained on no target.")
        return figures

    def _part(self, message: Message) -> Part:
        """Who a reply is from, and what is known of its round."""
        node = message.metadata.src_node_id
        if not message.has_error() and isinstance(about := message.content.get(ABOUT), ConfigRecord):
            self._names[node] = Part(f"{node}", str(about["name"]), str(about["where"]))
        name = failed(message.error)[0] if message.has_error() else ""
        return self._parts.get(node) or self._names.get(node) or Part(f"{node}", name or f"node {node}")

    def _missing(self) -> None:
        for node in self._asked:
            if node not in self._parts:
                known = self._names.get(node) or Part(f"{node}", f"node {node}")
                self._parts[node] = replace(known, reason=f"no answer within {self._settings.round_seconds:g} s")

    # --- Its evaluation ----------------------------------------------------------------------------------------------

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of an evaluation; none if nobody holds rows out, or too few clients are left for what the strategy asks."""
        fewest = self._fewest("evaluate")
        if self._nobody_holds_out or self._reason is not None or self.wait_for(grid, fewest) < fewest:
            return []
        return list(self.strategy.configure_evaluate(self._done + server_round, arrays, config, grid))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The round is done: its line is written."""
        answers = list(replies)
        good = [message for message in answers if self._evaluated(message)]
        if answers:
            self._nobody_holds_out = not good and not any(message.has_error() for message in answers)
        metrics = self.strategy.aggregate_evaluate(self._done + server_round, good) if good else None
        loss = float(metrics["loss"]) if metrics else None
        self._add(self._done + server_round, loss)
        return metrics

    def _evaluated(self, message: Message) -> bool:
        """Whether a reply is a loss; why not is kept."""
        node, part = message.metadata.src_node_id, self._part(message)
        try:
            figures = _figures(message, part.name)
        except MespError as error:
            self._parts[node] = replace(part, reason=part.reason or str(error))
            return False
        self._parts[node] = replace(part, evaluation=figures) if figures[TARGETS] else part
        return figures[TARGETS] > 0

    def _add(self, number: int, loss: float | None) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        seconds, counted = round(time.monotonic() - self._began, 3), self._reason is None
        clients = tuple(sorted(self._parts.values(), key=lambda part: part.name))
        self._folder.add(Round(number, loss, seconds, peak, counted, self._reason, clients))
        took = sum(part.training is not None for part in clients)
        what = f"round {number}: {took} of {len(clients)} adapters" if number else "before the first round"
        shown = "" if loss is None else f", held-out loss {loss:.4f}"
        log(INFO, "mesp: %s%s, %.1f s", what, shown, seconds)

    def begin(self, grid: Grid, arrays: ArrayRecord, config: ConfigRecord) -> None:
        """Round 0: the adapter that the fleet begins with, on everybody's held-out rows."""
        self._began = time.monotonic()
        self.wait_for(grid, self._settings.start_clients)
        replies = grid.send_and_receive(
            self.configure_evaluate(0, arrays, config, grid), timeout=self._settings.round_seconds
        )
        self.aggregate_evaluate(0, replies)

    def summary(self) -> None:
        """Flower's own."""
        self.strategy.summary()


def _figures(message: Message, name: str) -> Mapping[str, float]:
    """A reply's figures.

    Raises:
        MespError: the client could not, or sent something else.
    """
    if message.has_error():
        raise MespError(failed(message.error)[1])
    content: RecordDict = message.content
    metrics = content.get(METRICS)
    figures = {} if not isinstance(metrics, MetricRecord) else {key: metrics[key] for key in metrics}
    plain = {key: float(value) for key, value in figures.items() if isinstance(value, int | float)}
    if TARGETS not in plain or len(plain) != len(figures) or not all(map(math.isfinite, plain.values())):
        raise UsageError(f"{name} sent no figures, or one that is not finite.")
    return plain
