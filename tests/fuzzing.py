"""Mutated files: what they are made by, and what must hold for each, whatever is in it.

A reader takes the file or refuses it with one sentence; anything else, a hang too, fails. Examples are the same each time. ``MESP_FUZZ`` says
how many there are in all, as `make fuzz` does; without it a few hundred run, some seconds' worth.
"""

import copy
import faulthandler
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mesp.runtime.errors import MespError

TOTAL = int(os.environ.get("MESP_FUZZ", "200"))
_SECONDS = 60  # no example takes one, on any machine; a hang ends all of pytest with its traceback

Path_ = tuple[str | int, ...]  # of a value inside of a JSON value

# What other programs write by mistake, and what breaks arithmetic, lookups, and the making of lists.
_ODD: list[Any] = [None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**30, 0.5, -0.0, 1e-320, 1e308]
_ODD += [
    float("nan"),
    float("inf"),
    "",
    "a",
    "10000",
    "\0",
    "\ud800",
    "é" * 50,
    "../x",
    "/",
    [],
    [[]],
    {},
    [None],
    {"a": 1},
]
VALUES = st.one_of(
    st.sampled_from(_ODD), st.integers(), st.floats(), st.text(max_size=6), st.lists(st.integers(), max_size=3)
)


def examples(percent: float) -> settings:
    """Settings of a test that has this share of all examples."""
    return settings(
        max_examples=max(2, round(TOTAL * percent / 100)),
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


def taken_or_refused(read: Callable[[], Any], folder: Path) -> None:
    """Reads, and fails unless the file is taken or refused with one sentence or a few, in time, with nothing left in the folder."""
    before = sorted(folder.rglob("*"))
    faulthandler.dump_traceback_later(_SECONDS, exit=True)
    message = "taken"
    try:
        read()
    except MespError as error:
        message = str(error)
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert message and "\n" not in message
    assert sorted(folder.rglob("*")) == before


def changed_json(base: Any, most: int = 400) -> st.SearchStrategy[Any]:
    """The JSON value with up to three of its parts replaced, left out or added to.

    Args:
        most: places to change are among so many of the first, the outer ones before the inner
    """
    places = sorted(_places(base, ()), key=len)[:most]
    edit = st.tuples(st.sampled_from(places), st.sampled_from(("replace", "leave out", "add")), VALUES)
    return st.lists(edit, min_size=1, max_size=3).map(lambda edits: _edited(base, edits))


def _places(value: Any, at: Path_) -> list[Path_]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in inner for place in _places(part, (*at, key)))]


def _edited(base: Any, edits: list[tuple[Path_, str, Any]]) -> Any:
    whole = copy.deepcopy(base)
    for place, what, shared in edits:
        value = copy.deepcopy(shared)  # a later edit may be inside of it
        if not place:
            whole = value if what == "replace" else whole
            continue
        try:
            holder = whole
            for key in place[:-1]:
                holder = holder[key]
            if what == "leave out":
                del holder[place[-1]]
            elif what == "replace":
                holder[place[-1]] = value
            elif isinstance(holder, list):
                holder.insert(int(place[-1]), value)
            else:
                holder[f"{place[-1]}_"] = value
        except (KeyError, IndexError, TypeError, ValueError):
            continue  # an edit before this one has taken the place away
    return whole


def changed_bytes(base: bytes, end: int | None = None) -> st.SearchStrategy[bytes]:
    """The bytes with up to four places before ``end`` overwritten, cut out, doubled, or the rest cut off."""
    last = min(len(base), len(base) if end is None else end) - 1
    what = st.sampled_from(("set", "all ones", "zeros", "cut out", "double", "cut off"))
    edit = st.tuples(st.integers(0, last), what, st.integers(0, 255))
    return st.lists(edit, min_size=1, max_size=4).map(lambda edits: _changed(base, edits))


def _changed(base: bytes, edits: list[tuple[int, str, int]]) -> bytes:
    data = bytearray(base)
    for at, what, value in edits:
        if what == "set":
            data[at : at + 1] = bytes([value])
        elif what in ("all ones", "zeros"):
            data[at : at + 8] = (b"\xff" if what == "all ones" else b"\0") * len(data[at : at + 8])
        elif what == "cut out":
            del data[at : at + 1 + value % 16]
        elif what == "double":
            data[at:at] = data[at : at + 1 + value % 16]
        else:
            del data[at:]
    return bytes(data)
