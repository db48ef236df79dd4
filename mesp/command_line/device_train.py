"""The ``mesp device`` commands that train: what is sent before, how the run is started and followed, what is said at its end."""

import argparse
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console

from mesp.device import app
from mesp.device.adb import Device, Disconnected
from mesp.device.follow import Beginning, beginning, follow_and_fetch, known_of, left_running, phone_seconds
from mesp.device.phone import describe
from mesp.device.phone_data import checked_data
from mesp.device.transfer import Item, adapter_items, bundle_items, data_item, tidy
from mesp.device.verdict import End
from mesp.runtime.contract.run_files import DEVICE, PAGE, RUN
from mesp.runtime.errors import MespError, UsageError
from mesp.runtime.files import write_json
from mesp.runtime.report.pages import write_report
from mesp.runtime.report.run_folder import read_run
from mesp.runtime.report.words import summary

from .device_commands import device_of, install, send_files
from .train_options import chosen_settings

_COOLING_MINUTES = 60
_POLL_SECONDS = 3.0


@dataclass(frozen=True)
class Request:
    """A run as it is asked for, checked before a phone is.

    Args:
        run: its name on the phone
        output: its folder here
        bundle: its name on the phone
        data: the rows' name on the phone; empty for a run that is resumed, as are settings and items
        settings: as the app takes them
        items: the files that the settings name
    """

    run: str
    output: Path
    bundle: str
    data: str
    settings: dict[str, Any]
    items: list[Item]


def run_run(args: argparse.Namespace) -> int:
    """mesp device run"""
    console = Console(file=sys.stdout)
    if args.bundle is None and not args.resume:
        raise UsageError("Name the bundle to train with: the folder that mesp export made.")
    if args.send_only and (args.on_phone or args.resume):
        raise UsageError("--send-only sends a bundle and no more: leave --on-phone and --resume out.")
    name = args.bundle if args.on_phone else Path(args.bundle or "").resolve().name
    request = None if args.send_only else _request(args, name)
    items = [] if args.resume or args.on_phone else bundle_items(Path(args.bundle), name)
    device = device_of(args, console)
    if app.installed(device) is None:
        install(device, args.apk)
    if items:
        send_files(device, items, console)
        tidy(device, items)
    elif not args.resume:
        _need_bundle(device, name)
    if request is None:
        print(f"Train it with: mesp device run {name} --on-phone --data FILE -o RUN")
        return 0
    return _start_and_follow(device, args, request, console)


def _need_bundle(device: Device, name: str) -> None:
    bundles = device.patiently(lambda: device.shell(f"ls -1 {app.BUNDLES} 2>/dev/null || true")).split()
    if name not in bundles:
        raise UsageError(
            f"{device.serial} has no bundle {name}; it has {', '.join(bundles) or 'none'}. Leave --on-phone out, and name its folder here."
        )


def follow(device: Device, args: argparse.Namespace, run: str) -> int:
    """Of ``mesp device status --watch``: a run that was started before, to its end."""
    about = {"clock_ahead_seconds": round(device.patiently(lambda: phone_seconds(device))[1], 3)}
    since = beginning(device, run)
    return _follow(device, args, run, args.output or Path(run), since, about, Console(file=sys.stdout))


def _free(args: argparse.Namespace) -> Path:
    """The run folder to make, or to go on in.

    Raises:
        UsageError: it is there, or to be resumed and not there.
    """
    output: Path = args.output
    if args.resume:
        if not (output / DEVICE).is_file():
            raise UsageError(
                f"{output} is not the folder of a run on a phone: it has no {DEVICE}. Start one without --resume."
            )
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} exists already. Choose another output, or go on with that run: --resume")
    return output


def _request(args: argparse.Namespace, bundle: str) -> Request:
    if args.sample_every < 0:
        raise UsageError(f"--sample-every {args.sample_every} must be at least 0, where 0 is none.")
    if args.detach and args.remove:
        raise UsageError("--remove needs a run that is fetched; with --detach nothing is. Give one of them.")
    if args.output is None:
        raise UsageError("Say where the run goes: -o RUN. With --send-only the bundle is sent and no more.")
    output = _free(args)
    run = app.check_name(output.resolve().name, "The run")
    if args.resume:
        return Request(run, output, bundle, "", {}, [])
    bundle = app.check_name(bundle, "The bundle")
    chosen = chosen_settings(args)
    data = _data(chosen.data, chosen.map)
    held_out = [_data(chosen.eval_data, chosen.map)] if chosen.eval_data else []
    adapter = adapter_items(chosen.adapter) if chosen.adapter else []
    paths = {"data", "eval_data", "adapter"}
    settings = {name: value for name, value in chosen.to_json().items() if name not in paths and value is not None}
    if held_out:
        settings["eval_data"] = f"data/{PurePosixPath(held_out[0].target).name}"
    if adapter:
        settings["adapter"] = f"adapters/{PurePosixPath(adapter[0].target).parent.name}"
    return Request(run, output, bundle, PurePosixPath(data.target).name, settings, [data, *held_out, *adapter])


def _data(data: Path, columns: str | None) -> Item:
    """The data as it is sent; what a person should know of it is said."""
    file, notes = checked_data(data, columns)
    for note in notes:
        print(f"data: {note}")
    return data_item(file)


def _start_and_follow(device: Device, args: argparse.Namespace, request: Request, console: Console) -> int:
    run, output, bundle = request.run, request.output, request.bundle
    if not args.resume and not args.fresh and device.shell(f"ls {app.RUNS}/{run}/run.json 2>/dev/null || true"):
        raise UsageError(
            f"{device.serial} has a run {run} already. Fetch it (mesp device pull {run}), go on with it (--resume, in its folder here), "
            "choose another name with -o, or have it removed: --fresh"
        )
    if request.items:
        send_files(device, request.items, console)
    if args.cool_to is not None:
        _cool(device, args.cool_to, console)
    if args.fresh:
        device.shell(f"am force-stop {app.PACKAGE}" + ("" if args.resume else f"; rm -rf {app.RUNS}/{run}"))
    since, ahead = phone_seconds(device)
    app.start(device, run, bundle, request.data, request.settings, args.resume)
    about: dict[str, Any] = {"clock_ahead_seconds": round(ahead, 3)}
    if not args.resume:
        about |= {"bundle": bundle, "data": request.data, "settings": request.settings}
    if args.detach:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / DEVICE, {**known_of(output), **about, **left_running(device, run)})
        print(f"{run} runs on {device.serial}. {_back(run, output)}")
        return 0
    new = not output.exists()
    status = _follow(device, args, run, output, Beginning(since, since, in_log=True), about, console)
    if status == 2 and new:
        shutil.rmtree(output)  # nothing was begun
    if status == 0 and args.remove:
        device.patiently(lambda: device.shell(f"rm -rf {app.RUNS}/{run} {app.BUNDLES}/{bundle}"))
    return status


def _back(run: str, output: Path) -> str:
    return f"See it again: mesp device status {run} --watch -o {output}; stop it: mesp device status --tell stop"


def _cool(device: Device, celsius: float, console: Console) -> None:
    """Waits until the phone is cool.

    Raises:
        MespError: it does not become so, or does not tell.
    """
    until, told = time.monotonic() + _COOLING_MINUTES * 60, False
    while True:
        phone = describe(device)
        if phone.battery_celsius is None:
            raise MespError(
                f"{device.serial} does not tell its battery's temperature: leave --cool-to out, and wait yourself."
            )
        if phone.battery_celsius <= celsius and not phone.thermal_status:
            return
        if time.monotonic() > until:
            raise MespError(
                f"{device.serial} is still at {phone.battery_celsius:.1f} °C after {_COOLING_MINUTES} minutes; {celsius:g} °C were asked for."
            )
        if not told:
            console.print(f"{phone.battery_celsius:.1f} °C: waiting for {celsius:g} °C", highlight=False, markup=False)
            told = True
        time.sleep(_POLL_SECONDS)


def _follow(
    device: Device,
    args: argparse.Namespace,
    run: str,
    output: Path,
    since: Beginning,
    about: dict[str, Any],
    console: Console,
) -> int:
    try:
        end = follow_and_fetch(device, run, output, since, args.sample_every, about, console)
    except Disconnected:
        raise  # which says what becomes of the run
    except (MespError, OSError) as error:
        raise MespError(f"{error} The run is still on {device.serial}. {_back(run, output)}") from error
    if end.status == "detached":
        print(f"{end.reason}. {_back(run, output)}")
        return 130
    if (output / RUN).is_file():
        write_report(output)
        for name, value in summary(read_run(output).report):
            print(f"{name:30} {value}")
        print(f"{'Report':30} {output / PAGE}")
    _say_end(device, end, run, output)
    return end.exit_status


def _say_end(device: Device, end: End, run: str, output: Path) -> None:
    if end.reason:
        print(f"mesp device: {run}: {end.reason}", file=sys.stderr)
    # Without a checkpoint there is nothing to go on from.
    script = f"ls {app.RUNS}/{run}/checkpoints 2>/dev/null || true"
    if end.can_be_resumed and device.patiently(lambda: device.shell(script)).strip():
        print(f"Go on from its last checkpoint with: mesp device run -o {output} --resume", file=sys.stderr)


def run_bench(args: argparse.Namespace) -> int:
    """mesp device bench"""
    from mesp.bench.cells.bench import BenchOptions, bench
    from mesp.bench.cells.cell import Trainer

    console = Console(file=sys.stdout)
    device = device_of(args, console)
    own = ("--serial", device.lasting_name, "--fresh", "--remove", "--cool-to", f"{args.cool_to:g}")

    def command(bundle: Path, output: Path, settings: Mapping[str, Any]) -> list[str]:
        given = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        run = [sys.executable, "-m", "mesp.command_line", "device", "run"]
        return [*run, str(bundle), "-o", str(output), *given, *own]

    trainer = Trainer(command, on_phone=True)
    options = BenchOptions(tuple(args.cell), args.repeats, args.keep_bundles, trainer, "mesp device bench")
    return 0 if bench(args.table, args.output, options, console) else 1
