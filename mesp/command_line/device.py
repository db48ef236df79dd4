"""``mesp device …``: what its commands take. What they do is in ``device_commands``, ``device_train`` and ``device_status``."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesp.device.app import COMMANDS

from .train_options import add_bench_options, add_train_options

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

APK = Path("build/android/mesp.apk")

# Commands of before, for one more version: what each is now, {} standing for its own words, and how a person writes that.
OLD = {
    "push": (("device", "run", "--send-only"), "mesp device run BUNDLE --send-only"),
    "train": (("device", "run", "--on-phone"), "mesp device run NAME --on-phone"),
    "follow": (("device", "status", "--watch"), "mesp device status RUN --watch"),
    "tell": (("device", "status", "--tell"), "mesp device status --tell WHAT"),
    "logs": (("device", "status", "--log"), "mesp device status --log"),
    "report": (("report",), "mesp report RUN…"),
}


def renamed(words: Sequence[str]) -> tuple[list[str], str]:
    """A command line with the new name of an old command in it, and what to say of that; empty for any other."""
    place = next((n for n, word in enumerate(words) if not word.startswith("-")), len(words))
    command, old = (*words[place : place + 2], "", "")[:2]
    if command != "device" or old not in OLD:
        return list(words), ""
    new, written = OLD[old]
    return [*words[:place], *new, *words[place + 2 :]], f"mesp device {old} is now: {written}"


def add_device_commands(commands: "Commands", formatter: Any) -> None:
    """Adds ``device`` and all below it to the parser of ``mesp``."""
    names = ", ".join(f"{name} ({written})" for name, (_, written) in OLD.items())
    device = commands.add_parser(
        "device",
        help="fine-tune on a phone over adb, and bring its memory logs back",
        description="Fine-tunes on a phone over adb, and brings its memory logs back.",
        epilog=f"Names of before, which go with the next version: {names}.",
    )
    below = device.add_subparsers(dest="device_command", required=True)

    def command(name: str, help: str, serial: bool = True) -> argparse.ArgumentParser:
        parser = below.add_parser(
            name, help=help, description=help[0].upper() + help[1:] + ".", formatter_class=formatter
        )
        if serial:
            parser.add_argument(
                "-s",
                "--serial",
                help="of the phone, where several are connected: as mesp device list has it, or the phone's own; or set ANDROID_SERIAL",
            )
        parser.set_defaults(run=_run, device_command=name)
        return parser

    command("list", "show what is connected, and what a phone has to offer", serial=False).add_argument(
        "--json", action="store_true", help="the same for a program"
    )
    install = command("install", "install the app, or update it with its data kept")
    install.add_argument("apk", type=Path, nargs="?", default=APK, metavar="APK", help="what make apk made")
    _train(command("run", "install, send, train, fetch and report in one: from a bundle here to report.html here"))
    _status(command("status", "show what goes on on the phone: its run, how far it is, memory, heat and battery"))
    pull = command("pull", "fetch a run from the phone")
    pull.add_argument("name", metavar="RUN", help="its name on the phone")
    pull.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="where it goes; the run's name if not given")
    pull.add_argument("--checkpoints", action="store_true", help="also the checkpoints")
    _reconnecting(pull)
    _bench(command("bench", "measure a table of models, lengths, ranks and methods on the phone"))
    clean = command("clean", "remove what the harness and the app left on the phone")
    clean.add_argument("what", nargs="*", metavar="bundles|data|runs", help="some of it; all if not given")
    clean.add_argument("-y", "--yes", action="store_true", help="do not ask")


def _run(args: argparse.Namespace) -> int:
    """The command's function, imported when it is needed."""
    from . import device_commands, device_status, device_train

    name = f"run_{args.device_command}"
    run = next(found for room in (device_commands, device_status, device_train) if (found := getattr(room, name, None)))
    args.command = f"device {args.device_command}"
    status: int = run(args)
    return status


def _following(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sample-every", type=float, default=2.0, metavar="SECONDS", help="between samples from outside; 0 for none"
    )
    _reconnecting(parser)


def _reconnecting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reconnect", type=float, default=300.0, metavar="SECONDS", help="how long a phone that was lost is waited for"
    )


def _status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="RUN", help="the run to tell of; the last one if not given")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--watch", action="store_true", help="watch the run to its end, and bring it back")
    what.add_argument(
        "--tell",
        choices=COMMANDS,
        help="tell the run on the phone what to do, as the app's own buttons do; nothing if not given",
    )
    what.add_argument("--log", action="store_true", help="show what the phone's log still has of the app")
    what.add_argument("--json", action="store_true", help="the same for a program")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where a run that is watched goes; the run's name if not given",
    )
    _following(parser)


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", nargs="?", help="its folder")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="RUN",
        help="the run folder to make; its name is the run's on the phone. Always needed, but for --send-only",
    )
    parser.add_argument("--apk", type=Path, default=APK, metavar="APK", help="installed if the app is not there")
    parser.add_argument(
        "--on-phone", action="store_true", help="the bundle is there: BUNDLE is its name, and nothing of it is sent"
    )
    parser.add_argument(
        "--send-only", action="store_true", help="send the bundle and no more; what is there already is not sent again"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the interrupted run of that name, with the settings that it began with",
    )
    parser.add_argument(
        "--detach", action="store_true", help="start it and leave it running; see it again by mesp device status"
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="end the app's process first, and remove what the phone has of a run of this name",
    )
    parser.add_argument(
        "--remove",
        action="store_true",
        help="remove the bundle and the run from the phone, once the run is done and fetched",
    )
    parser.add_argument(
        "--cool-to",
        type=float,
        metavar="CELSIUS",
        help="wait until the battery is no warmer before the run; no wait if not given",
    )
    _following(parser)
    add_train_options(parser)


def _bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", type=Path, metavar="TABLE.toml", help="the table's definition")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="of the results; a bench that was interrupted goes on there",
    )
    add_bench_options(parser)
    parser.add_argument(
        "--cool-to", type=float, default=35.0, metavar="CELSIUS", help="the battery's warmth that each run waits for"
    )
