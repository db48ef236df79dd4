"""``mesp device …``: what its commands take. What they do is in ``device_commands`` and ``device_train``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesp.device.app import COMMANDS

from .train_options import add_bench_options, add_report_options, add_train_options

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

APK = Path("build/android/mesp.apk")


def add_device_commands(commands: "Commands", formatter: Any) -> None:
    """Adds ``device`` and all below it to the parser of ``mesp``."""
    device = commands.add_parser("device", help="fine-tune on a phone over adb, and bring its memory logs back")
    below = device.add_subparsers(dest="device_command", required=True)

    def command(name: str, help: str, serial: bool = True) -> argparse.ArgumentParser:
        parser = below.add_parser(
            name, help=help, description=help[0].upper() + help[1:] + ".", formatter_class=formatter
        )
        if serial:
            parser.add_argument(
                "-s", "--serial", help="of the phone, where several are connected; or set ANDROID_SERIAL"
            )
        parser.set_defaults(run=_run, device_command=name)
        return parser

    command("list", "show what is connected, and what a phone has to offer", serial=False).add_argument(
        "--json", action="store_true", help="the same for a program"
    )
    install = command("install", "install the app, or update it with its data kept")
    install.add_argument("apk", type=Path, nargs="?", default=APK, metavar="APK", help="what make apk made")
    push = command("push", "send a bundle; what is there already is not sent again")
    push.add_argument("bundle", type=Path)
    _reconnecting(push)
    _train(command("train", "train on the phone with a bundle that is there, and bring the run back"), str)
    run = command(
        "run", "install, push, train, pull and report in one: everything from a bundle here to report.html here"
    )
    run.add_argument("--apk", type=Path, default=APK, metavar="APK", help="installed if the app is not there")
    _train(run, Path)
    follow = command("follow", "watch a run again that goes on on the phone, and bring it back")
    follow.add_argument("name", metavar="RUN", help="its name on the phone")
    follow.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="where it goes; the run's name if not given"
    )
    _following(follow)
    command("tell", "tell the run on the phone what to do").add_argument("what", choices=COMMANDS)
    logs = command("logs", "show the runs on the phone, and what its log still has of the app")
    logs.add_argument("name", nargs="?", metavar="RUN", help="of this run alone")
    pull = command("pull", "fetch a run from the phone")
    pull.add_argument("name", metavar="RUN", help="its name on the phone")
    pull.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="where it goes; the run's name if not given")
    pull.add_argument("--checkpoints", action="store_true", help="also the checkpoints")
    _reconnecting(pull)
    report = command("report", "draw runs side by side, of phones and of hosts", serial=False)
    add_report_options(report)
    _bench(command("bench", "measure a table of models, lengths, ranks and methods on the phone"))
    clean = command("clean", "remove what the harness and the app left on the phone")
    clean.add_argument("what", nargs="*", metavar="bundles|data|runs", help="some of it; all if not given")
    clean.add_argument("-y", "--yes", action="store_true", help="do not ask")


def _run(args: argparse.Namespace) -> int:
    """The command's function, imported when it is needed."""
    from . import device_commands, device_train

    name = f"run_{args.device_command}"
    run = getattr(device_commands, name, None) or getattr(device_train, name)
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


def _train(parser: argparse.ArgumentParser, bundle: type) -> None:
    parser.add_argument(
        "bundle", type=bundle, nargs="?", help="its folder" if bundle is Path else "its name on the phone"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="RUN",
        help="the run folder to make; its name is the run's on the phone",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the interrupted run of that name, with the settings that it began with",
    )
    parser.add_argument(
        "--detach", action="store_true", help="start it and leave it running; see it again by mesp device follow"
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
