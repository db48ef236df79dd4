"""Help: every default is named, in words that are no Python."""

import argparse
import re
from collections.abc import Iterator

import pytest

from mesp.command_line.parser import build_parser


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of all its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


PARSERS = {parser.prog: parser for parser in parsers(build_parser())}


@pytest.mark.parametrize("name", PARSERS)
def test_help_names_what_happens_without_an_option(name: str) -> None:
    parser = PARSERS[name]
    helps = {action.option_strings[-1]: action for action in parser._actions if action.option_strings}
    for option, action in helps.items():
        if action.required or action.nargs == 0:  # needed, or a switch that is off
            continue
        text = parser._get_formatter()._expand_help(action)
        assert re.search(r"\(default: |not given|needed|or set ANDROID_SERIAL", text), (option, text)


@pytest.mark.parametrize("name", PARSERS)
def test_help_shows_no_values_of_python(name: str) -> None:
    assert not re.findall(r"None|==SUPPRESS==|\[\]|\(\)|\('|True|False|PosixPath", PARSERS[name].format_help())
    assert len(PARSERS) > 15
