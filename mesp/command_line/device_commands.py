"""What each ``mesp device`` command does, but for those that train or watch: a function of the arguments that returns the exit status."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from mesp.device import app, dumpsys
from mesp.device.adb import Adb, Device
from mesp.device.listing import NO_DEVICE
from mesp.device.phone import Phone, describe
from mesp.device.reading import is_whole, whole
from mesp.device.transfer import STAGE, Item, missing, pull_run, send
from mesp.runtime.contract.run_files import PAGE, RUN
from mesp.runtime.errors import UsageError
from mesp.runtime.report.pages import write_report

MB = 1e6


def device_of(args: argparse.Namespace, console: Console) -> Device:
    """The phone that the arguments choose; what it has to say of its connection goes to the console."""

    def tell(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    device = Adb.find(tell).choose(args.serial)
    device.tell = tell
    device.patience_seconds = getattr(args, "reconnect", device.patience_seconds)
    return device


# --- What there is ----------------------------------------------------------------------------------------------------


def run_list(args: argparse.Namespace) -> int:
    """mesp device list"""
    adb = Adb.find()
    listed = adb.phones()
    rows = [
        (entry, describe(Device(adb, entry.serial, patience_seconds=10)) if entry.ready else None) for entry in listed
    ]
    if args.json:
        print(
            json.dumps(
                [
                    {"serial": entry.serial, "state": entry.state, **(phone.to_json() if phone else {})}
                    for entry, phone in rows
                ],
                indent=1,
            )
        )
        return 0
    if not rows:
        print(NO_DEVICE)
        return 1
    table = Table("serial", "phone", "Android", "processor", "memory", "storage", "battery", "heat")
    for entry, phone in rows:
        table.add_row(*(_row(phone) if phone else (entry.serial, f"{entry.state}: {entry.what_to_do}")))
    # Elsewhere than on a terminal nothing needs to be cut.
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160).print(table)
    return 0


def of(value: float | None, text: str, scale: float = 1) -> str:
    """A figure in words; ? for one that is not known."""
    return "?" if value is None else text.format(value / scale)


def charge_and_heat(phone: Phone) -> tuple[str, str]:
    """In words."""
    charge = of(phone.battery_percent, "{:.0f}%") + (", charging" if phone.plugged else "")
    heat = of(phone.battery_celsius, "{:.1f} °C")
    if phone.thermal_status is not None:
        heat += f", thermal status {dumpsys.STATUS_NAMES[phone.thermal_status].lower()}"
    return charge, heat


def _row(phone: Phone) -> Sequence[str]:
    return (
        phone.serial,
        f"{phone.manufacturer} {phone.model}",
        f"{phone.android} (API {phone.sdk})",
        phone.abis[0] if phone.abis else "?",
        f"{of(phone.available_bytes, '{:.1f}', 1e9)} of {of(phone.memory_bytes, '{:.1f} GB', 1e9)}",
        of(phone.free_storage_bytes, "{:.1f} GB free", 1e9),
        *charge_and_heat(phone),
    )


def run_pull(args: argparse.Namespace) -> int:
    """mesp device pull"""
    console = Console(file=sys.stderr)
    device, output = device_of(args, console), args.output or Path(args.name)
    files = pull_run(device, args.name, output, args.checkpoints)
    print(f"{output}: {len(files)} files")
    if (output / RUN).is_file():
        write_report(output)
        print(output / PAGE)
    return 0


# --- What goes there --------------------------------------------------------------------------------------------------


def run_install(args: argparse.Namespace) -> int:
    """mesp device install"""
    install(device_of(args, Console(file=sys.stderr)), args.apk)
    return 0


def install(device: Device, apk: Path) -> None:
    """Installs the app, and says so."""
    phone = describe(device)
    package = app.install(device, apk, phone.abis, phone.sdk)
    print(f"{app.PACKAGE} {package.version_name} is on {device.serial} ({package.primary_abi or 'processor not told'})")


def send_files(device: Device, items: Sequence[Item], console: Console) -> None:
    """Sends what is not there yet, with a progress bar."""
    todo = missing(device, items)
    size, present = sum(item.size for item in todo), len(items) - len(todo)
    console.print(
        f"{len(todo)} file{'s' if len(todo) != 1 else ''} to send, {size / MB:.1f} MB"
        + (f"; {present} are there already" if present else ""),
        highlight=False,
    )
    if not todo:
        return
    app.make_folders(device)
    columns = (TextColumn("sending"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("sending", total=size)
        send(device, todo, describe(device).free_storage_bytes, lambda count: bar.advance(task, count))


def run_clean(args: argparse.Namespace) -> int:
    """mesp device clean"""
    folders = {"bundles": app.BUNDLES, "data": app.DATA, "runs": app.RUNS}
    if wrong := [name for name in args.what if name not in folders]:
        raise UsageError(f"{wrong[0]} is not one of {', '.join(folders)}.")
    device = device_of(args, Console(file=sys.stderr))
    names = args.what or [*folders]
    paths = [folders[name] for name in names] + ([STAGE, app.ADAPTERS] if not args.what else [])
    listing = device.patiently(lambda: device.shell(f"du -sk {' '.join(paths)} 2>/dev/null || true"))
    sizes = [line.split()[0] for line in listing.splitlines() if line.strip()]
    size = sum(whole(figure) for figure in sizes if is_whole(figure)) * 1024
    if not args.yes:
        if not sys.stdin.isatty():
            raise UsageError(
                f"This removes {', '.join(names)} from {device.serial}, {size / MB:.1f} MB. Say so with --yes."
            )
        if input(f"Remove {', '.join(names)} from {device.serial}, {size / MB:.1f} MB? [y/N] ").strip().lower() != "y":
            print("Nothing was removed")
            return 1
    device.patiently(lambda: device.shell(f"rm -rf {' '.join(paths)}"))
    print(f"Removed {', '.join(names)} from {device.serial}, {size / MB:.1f} MB")
    return 0
