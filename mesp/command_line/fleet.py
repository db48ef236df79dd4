"""``mesp fleet …``: what its commands take, and what they do."""

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesp.runtime.contract.run_files import ADAPTER, PAGE, REPORT
from mesp.runtime.errors import MespError, UsageError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_fleet_commands(commands: "Commands", formatter: Any) -> None:
    """Adds ``fleet`` and all below it to the parser of ``mesp``."""
    fleet = commands.add_parser(
        "fleet",
        help="one adapter from the data of many, which stays where it is: federated fine-tuning on Flower",
        description="One adapter from the data of many, which stays where it is: federated fine-tuning on Flower. It is an extra: make fleet.",
    )
    below = fleet.add_subparsers(dest="fleet_command", required=True)

    def command(name: str, help: str) -> argparse.ArgumentParser:
        parser = below.add_parser(
            name, help=help, description=help[0].upper() + help[1:] + ".", formatter_class=formatter
        )
        parser.set_defaults(run=_run, fleet_command=name)
        return parser

    new = command("new", "write a fleet's project: a Flower app, its settings, and the clients of a simulation")
    new.add_argument("bundle", type=Path, help="the folder that mesp export made")
    new.add_argument(
        "--data",
        type=Path,
        nargs="*",
        default=[],
        metavar="FILE",
        help="the rows of each client of a simulation; none if not given",
    )
    new.add_argument(
        "--eval-split", type=float, metavar="FRACTION", help="hold out this part of each; none if not given"
    )
    new.add_argument("-o", "--output", type=Path, required=True, metavar="PROJECT", help="the folder to make")
    run = command("run", "run a fleet: its clients in a simulation here, or the machines of a SuperLink")
    run.add_argument("project", type=Path, help="the folder that mesp fleet new made")
    run.add_argument(
        "--superlink",
        metavar="HOST:PORT",
        help="the server that the clients are connected to; a simulation if not given",
    )
    run.add_argument(
        "--root-certificates",
        type=Path,
        metavar="FILE",
        help="who signed the server's certificate; no TLS if not given",
    )
    run.add_argument("--resume", action="store_true", help="go on after the last round that is done")
    run.add_argument("--cores", type=float, default=1.0, metavar="N", help="of each client of a simulation")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the project, for this time, such as rounds=5 or train.lr=1e-3; repeatable; none if not given",
    )
    report = command("report", "draw a fleet's report.html anew")
    report.add_argument("folder", type=Path, help="the fleet's folder: output of the project")
    report.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the page to write; report.html in the folder if not given"
    )


def _run(args: argparse.Namespace) -> int:
    name = args.fleet_command
    args.command = f"fleet {name}"
    return {"new": run_new, "run": run_run, "report": run_report}[name](args)


def run_new(args: argparse.Namespace) -> int:
    """mesp fleet new"""
    from mesp.runtime.fleet.project import new_project

    project = new_project(args.output, args.bundle, args.data, args.eval_split)
    print(f"{project}: the settings are in {project / 'pyproject.toml'}")
    print(f"Run it with: {shlex.join(['mesp', 'fleet', 'run', str(project)])}")
    return 0


def run_run(args: argparse.Namespace) -> int:
    """mesp fleet run"""
    from mesp.runtime.fleet.launch import read_project, simulate, submit

    given = dict(_setting(text) for text in args.set) | ({"resume": True} if args.resume else {})
    project = read_project(args.project, given)
    report = project.settings.output / REPORT
    before = report.stat().st_mtime_ns if report.is_file() else None
    if args.superlink is None:
        if args.root_certificates:
            raise UsageError("--root-certificates are of a SuperLink: name it with --superlink HOST:PORT.")
        status = simulate(project, given, args.cores)
    else:
        status = submit(project, given, args.superlink, args.root_certificates)
    if status:
        raise MespError(f"flwr run ended with status {status}.")
    if report.is_file() and report.stat().st_mtime_ns != before:
        return _say(project.settings.output)
    if args.superlink is None:
        raise MespError(f"The fleet left no report in {project.settings.output}: what went wrong is said above.")
    print("The fleet's folder is on the server's machine")
    return 0


def _say(output: Path) -> int:
    report = json.loads((output / REPORT).read_text(encoding="utf-8"))
    if report["status"] != "done":
        raise MespError(f"{report['reason']} Go on with: mesp fleet run PROJECT --resume. {output / PAGE}")
    if report["loss_first"] is not None:
        print(f"{'Held-out loss, before to after':32} {report['loss_first']:.4f} to {report['loss_last']:.4f}")
    print(f"{'Rounds':32} {report['rounds']}")
    print(f"{'Report':32} {output / PAGE}")
    print(f"{'Adapter':32} {output / ADAPTER}")
    return 0


def _setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE, with the value as TOML has it; a text needs no quotes.

    Raises:
        UsageError: no such thing.
    """
    import tomllib

    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text} is not NAME=VALUE, such as rounds=5.")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def run_report(args: argparse.Namespace) -> int:
    """mesp fleet report"""
    from mesp.runtime.fleet.page import write_page

    print(write_page(args.folder, args.output))
    return 0
