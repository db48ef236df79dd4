"""``mesp device status``: what goes on on a phone, to look at, to watch to its end, and to tell it what to do."""

import argparse
import json
import sys
import time

from rich.console import Console

from mesp.device import app
from mesp.device.adb import Device
from mesp.device.logcat import since_forever
from mesp.device.run_files import in_foreground, need_run
from mesp.device.run_progress import REASONS
from mesp.device.status import Status, status
from mesp.runtime.errors import UsageError

from .device_commands import MB, charge_and_heat, device_of, of
from .device_train import follow

# In so long the app says that it cannot do what it was told.
_ANSWER_SECONDS = 1.0


def run_status(args: argparse.Namespace) -> int:
    """mesp device status"""
    device = device_of(args, Console(file=sys.stdout if args.watch else sys.stderr))
    if args.name:
        app.check_name(args.name, "The run")
    if args.tell:
        _tell(device, args.tell)
        return 0
    if args.log:
        return _log(device, args.name)
    run = need_run(device, args.name) if args.name else None
    if args.watch:
        return follow(device, args, _watched(device, run))
    found = status(device, run)
    if args.json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        for line in _lines(device, found):
            print(line)
    return 0


def _watched(device: Device, run: str | None) -> str:
    """The run to watch: the one that is named, or the last one."""
    name = run or status(device).run
    if name is None:
        raise UsageError(f"{device.serial} has no run. Start one with: mesp device run BUNDLE --data FILE -o RUN")
    return name


def _lines(device: Device, found: Status) -> list[str]:
    """What a person is told."""
    phone = found.phone
    charge, heat = charge_and_heat(phone)
    lines = [f"{device.serial}: {phone.manufacturer} {phone.model}, battery {charge}, {heat}"]
    if found.run is None:
        return [*lines, "No run. Start one with: mesp device run BUNDLE --data FILE -o RUN"]
    why = f" ({' and '.join(REASONS.get(reason, reason) for reason in found.reasons)})" if found.reasons else ""
    lines.append(f"Run {found.run}: {found.state}{why}")
    if found.step is not None:
        loss = "is not a number" if found.loss is None else f"{found.loss:.4f}"
        left = "" if found.seconds_left is None else f", {_minutes(found.seconds_left)} left"
        lines.append(
            f"  step {found.step} of {found.steps or '?'}, loss {loss}, {found.step_seconds:.2f} s a step{left}"
        )
    if found.memory:
        memory, free = found.memory, of(found.memory["available_bytes"], "{:.0f} MB", MB)
        footprint = of(memory["footprint_bytes"], "{:.1f} MB", MB)
        lines.append(
            f"  memory {footprint}, resident {of(memory['rss_bytes'], '{:.1f} MB', MB)} "
            f"(at most {of(memory['vm_hwm_bytes'], '{:.1f} MB', MB)}); {free} free on the phone"
        )
    if len(found.runs) > 1:
        lines.append(f"Runs, the last one first: {', '.join(found.runs)}")
    return lines


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _log(device: Device, run: str | None) -> int:
    for line in since_forever(device):
        if run is None or line.event is None or line.event.get("run") == run:
            print(line.raw)
    return 0


def _tell(device: Device, command: str) -> None:
    """Tells the app.

    Raises:
        UsageError: no run is under way, or the app refused.
    """
    app.need_installed(device)
    text = device.patiently(lambda: device.sections({"service": f"dumpsys activity services {app.SERVICE}"}))["service"]
    if in_foreground(text) is False or (in_foreground(text) is None and app.process(device) is None):
        raise UsageError(f"The app trains nothing on {device.serial}: there is no run to tell anything.")
    since = app.epoch_seconds(device.patiently(lambda: device.shell(app.CLOCK)))
    device.patiently(lambda: app.tell(device, command))
    time.sleep(_ANSWER_SECONDS)
    for line in since_forever(device):
        if line.name == "refused" and line.event and line.seconds >= since:
            raise UsageError(f"{device.serial}: {line.event['reason']}")
    print(f"{device.serial} was told to {command}")
