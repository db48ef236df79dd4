"""The README is short, its links lead somewhere, and its commands are ones that the command line takes. So are those of the other pages."""

import re
import shlex
from pathlib import Path

import pytest

from mesp.command_line.parser import build_parser

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "android_app" / "PHONE.md",
    ROOT / "android_app" / "README.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "export" / "DESIGN.md",
    ROOT / "export" / "convert" / "README.md",
    ROOT / "runtime" / "OPTIONS.md",
    ROOT / "runtime" / "fleet" / "README.md",
]
COMMAND = re.compile(r"^    (?:\.venv/bin/)?mesp (.*)$", re.MULTILINE)
COMMANDS = [(page.relative_to(ROOT), words) for page in PAGES for words in COMMAND.findall(page.read_text())]


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= 1200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert target.startswith("http") or file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor in {_anchor(title) for title in re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)}


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def test_there_are_commands_of_every_kind() -> None:
    assert {words.split()[0] for _, words in COMMANDS} >= {
        "export",
        "train",
        "generate",
        "plan",
        "merge",
        "convert",
        "report",
        "device",
    }


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[words.split("#")[0].strip() for _, words in COMMANDS])
def test_the_command_line_takes_it(page: Path, words: str) -> None:
    build_parser().parse_args([word for word in shlex.split(words, comments=True) if word != "…"])
