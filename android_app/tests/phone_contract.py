"""Holds what a test has left on the stand-in, and on this computer, against runtime/contract."""

from pathlib import Path

from standin import log
from standin.phone import Phone

from tests.contract import check, check_run, read_json


def check_phone(phone: Phone) -> None:
    """The app's lines in the log, and the folders of its runs."""
    file = Path(log.file_of(phone.state))
    records = [read_json(line) for line in file.read_text().splitlines()] if file.exists() else []
    for record in records:
        if record["tag"] == "mesp":
            check("event", read_json(record["text"]))
    for run in phone.files.glob("runs/*"):
        check_run(run)


def check_fetched(folder: Path) -> None:
    """The runs that the harness has fetched, with what it adds to them."""
    for device in folder.glob("*/device.json"):
        check_run(device.parent)
