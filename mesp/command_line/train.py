"""``mesp train``: begins a run or goes on with one, follows it, and says what it came to and what to do next."""

import argparse
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from mesp.runtime.errors import UsageError

from .commands import console_of, loading
from .next_steps import generate_line
from .streams import Output, tell
from .train_options import chosen_settings, given_settings

if TYPE_CHECKING:
    from mesp.runtime.training.settings import TrainSettings


@dataclass(frozen=True)
class Request:
    """A run as it is asked for.

    Args:
        output: the run folder
        resume: it is there already
    """

    bundle: Path
    output: Path
    settings: "TrainSettings"
    resume: bool


def request_of(args: argparse.Namespace) -> Request:
    """What the arguments ask for. A run that is resumed needs no more than its folder: all else is in its run.json.

    Raises:
        UsageError: something is missing, or there is no run to resume.
    """
    if args.resume is None:
        if args.bundle is None or args.output is None:
            raise UsageError(
                "Name the bundle, the data and the run folder to make: mesp train BUNDLE --data FILE -o RUN"
            )
        return Request(args.bundle, args.output, chosen_settings(args), False)
    from mesp.runtime.training.config import over, read_config
    from mesp.runtime.training.resume import resumed

    if not args.resume and not args.output:
        raise UsageError("Name the run folder to go on in: mesp train --resume RUN")
    run = Path(args.resume or args.output)
    if args.output not in (None, run):
        raise UsageError(f"--resume {run} and -o {args.output} are two run folders: give one of them.")
    given = over(given_settings(args), read_config(args.config) if args.config else {})
    bundle, settings = resumed(run, given)
    return Request(args.bundle or bundle, run, settings, True)


def run_train(args: argparse.Namespace) -> int:
    """mesp train"""
    from mesp.runtime.report.words import summary
    from mesp.runtime.training.interrupt import Interrupt
    from mesp.runtime.training.run_writer import resume_command
    from mesp.runtime.training.start import check_start

    request = request_of(args)
    bundle = check_start(request.bundle, request.output, request.settings, request.resume)
    if request.resume and hasattr(args, "steps") and request.settings.schedule != "constant":
        print(f"From here on the {request.settings.schedule} schedule is that of a run of {args.steps} steps")
    with loading("PyTorch and ExecuTorch"):
        from mesp.runtime.training.console_progress import Progress
        from mesp.runtime.training.listener import Listeners
        from mesp.runtime.training.loop import train
    stop = Interrupt(lambda: console.print("Stopping after this step; once more to stop at once", highlight=False))
    output = Output(sys.stdout, stop.ask)
    console = console_of(cast(TextIO, output))
    with ExitStack() as stack:
        listeners: list[Any] = []
        if args.tensorboard:
            from mesp.runtime.training.tensorboard import TensorBoard

            listeners.append(stack.enter_context(TensorBoard(request.output)))
        listeners.append(stack.enter_context(Progress(console)))
        stack.enter_context(stop)
        report = train(bundle, request.output, request.settings, Listeners(*listeners), request.resume, stop)
    if report["status"] == "interrupted":
        line = f"Interrupted after step {report['steps']}. Go on with: {resume_command(request.output)}"
        if output.is_lost:
            tell(f"mesp train: nobody reads its output any more. {line}")
        else:
            print(line, file=output, flush=True)
        return 130
    for name, value in summary(report):
        print(f"{name:30} {value}", file=output)
    print(f"{'Report':30} {request.output / 'report.html'}", file=output)
    print(f"{'Adapter':30} {request.output / 'adapter'}", file=output)
    print(f"Try it with: {generate_line(bundle.path, request.output, request.settings)}", file=output, flush=True)
    return 0
