"""The progress of a run on a phone: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Shows the app's events on a console."""

    def __init__(self, console: Console):
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._console, self._bar = console, Bar(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("starting", total=None)
        self._steps = self._step = 0

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def pause(self) -> None:
        """For a question on the terminal."""
        self._bar.stop()

    def go_on(self) -> None:
        self._bar.start()

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, name: str, event: Mapping[str, Any]) -> None:
        """An event of the app, by its name; one that is not known is not shown."""
        show = getattr(self, f"_show_{name}", None)
        if show:
            show(event)

    def _show_begin(self, event: Mapping[str, Any]) -> None:
        self._steps = event["steps"]
        self._bar.update(self._task, total=event["steps"], completed=event["first"])
        self.say(
            f"{event['examples']} sequences, {event['steps']} steps"
            + (f", going on after step {event['first']}" if event["first"] else "")
        )
        if event.get("cut_rows"):
            self.say(f"{event['cut_rows']} rows were longer than the sequence, and were cut")
        if event.get("masked_rows"):
            self.say(f"{event['masked_rows']} rows had no target left, and were skipped")

    def _show_warning(self, event: Mapping[str, Any]) -> None:
        self.say(event["text"])

    def _show_threads(self, event: Mapping[str, Any]) -> None:
        times = ", ".join(f"{trial['threads']}: {trial['seconds']:.2f} s" for trial in event["tried"])
        self.say(f"{event['threads']} threads are the fastest (seconds a step: {times})")

    def _show_step(self, event: Mapping[str, Any]) -> None:
        self._step = step = event["step"]
        loss = event["loss"]
        text = f"loss {loss:.4f}" if loss is not None else "loss is not a number"
        self._bar.update(self._task, completed=step, description=text)
        if not self._console.is_terminal and (step % max(1, self._steps // 20) == 0 or step in (1, self._steps)):
            self.say(f"step {step}/{self._steps}  {text}  {event['seconds']:.2f} s")

    def _show_evaluating(self, event: Mapping[str, Any]) -> None:
        self._bar.update(self._task, description=f"evaluating {event['done']} of {event['sequences']}")

    def _show_evaluation(self, event: Mapping[str, Any]) -> None:
        when = f"after step {event['step']}" if event["step"] else "before training"
        self.say(f"held-out loss {when}: {event['loss']:.4f}")

    def _show_checkpoint(self, event: Mapping[str, Any]) -> None:
        self.say(f"checkpoint on the phone: {event['folder'].rsplit('/', 1)[-1]}")

    def _show_paused(self, event: Mapping[str, Any]) -> None:
        if not event.get("reasons"):
            return  # about to go on
        self._bar.update(self._task, description=f"paused: {_reasons(event)}")
        self.say(f"The phone pauses after step {self._step}: {_reasons(event)}. It goes on by itself when that is over")

    def _show_going_on(self, event: Mapping[str, Any]) -> None:
        self._bar.update(self._task, description="going on")
        self.say("The phone goes on")

    def _show_low_memory(self, event: Mapping[str, Any]) -> None:
        self.say(f"The phone's memory is short, after step {self._step}: the app writes a checkpoint")


REASONS = {
    "hot": "it is too hot",
    "low_battery": "the battery is low: plug in a charger",
    "not_charging": "it is not charging",
    "user": "asked to on the phone",
}


def _reasons(event: Mapping[str, Any]) -> str:
    return " and ".join(REASONS.get(reason, reason) for reason in event.get("reasons", ()))
