"""What `dumpsys meminfo PID` says of one process's memory."""

import re
from dataclasses import dataclass
from itertools import takewhile

from .reading import Reader, is_whole, whole

_SUMMARY = re.compile(r"^ *([A-Z][A-Za-z ]*): +(\S+)(?: +(\S+))?$")
_TOTAL = re.compile(r"(TOTAL(?: [A-Z]+)*(?: \(KB\))?): +(\S+)")
_LABEL = re.compile(r"[A-Za-z.()][A-Za-z.() ]*")


@dataclass(frozen=True)
class MemInfo:
    """`dumpsys meminfo PID`.

    Args:
        pss_bytes: by class of memory (Native Heap, .so mmap, GL mtrack, ...), from the table's Pss Total column
        summary_bytes: by class, from the App Summary (Java Heap, Native Heap, Code, Graphics, ...). Its classes are private memory,
            but for System, which is the rest of the PSS.
        total_pss_bytes: with total_swap_pss_bytes, where that is given: then it is more than the sum of pss_bytes
        total_rss_bytes: Android 11 and later
        total_swap_pss_bytes: None where the kernel does not know the proportional share of swap
        native_heap_size_bytes: of malloc, with what is free in it; in whole where the table has the heap's columns
        native_heap_alloc_bytes: that is in use
        native_heap_free_bytes: that is free
    """

    pss_bytes: dict[str, int]
    summary_bytes: dict[str, int]
    total_pss_bytes: int
    total_rss_bytes: int | None
    total_swap_pss_bytes: int | None
    native_heap_size_bytes: int | None
    native_heap_alloc_bytes: int | None
    native_heap_free_bytes: int | None


def meminfo(text: str) -> MemInfo | None:
    """Reads `dumpsys meminfo PID`. None for a process that is not there.

    Raises:
        Unreadable: it has no total, as when the app was too busy to answer ActivityManager in time.
    """
    reader = Reader("dumpsys meminfo PID", text)
    if re.search(r"^No process found for:", text, re.MULTILINE):
        return None
    table = _table(reader)
    summary, totals = _app_summary(reader)
    pss = {label: row["Pss Total"] for label, row in table.items() if "Pss Total" in row}
    total = totals.get("TOTAL PSS", totals.get("TOTAL", pss.pop("TOTAL", None)))
    pss.pop("TOTAL", None)
    if total is None or total < 0:
        reader.fail("TOTAL PSS or TOTAL in an App Summary")
    heap = table.get("Native Heap", {})
    return MemInfo(
        pss_bytes=_sizes(pss),
        summary_bytes=_sizes(summary),
        total_pss_bytes=total,
        total_rss_bytes=_sizes(totals).get("TOTAL RSS"),
        total_swap_pss_bytes=_sizes(totals).get("TOTAL SWAP PSS"),
        native_heap_size_bytes=_sizes(heap).get("Heap Size"),
        native_heap_alloc_bytes=_sizes(heap).get("Heap Alloc"),
        native_heap_free_bytes=_sizes(heap).get("Heap Free"),
    )


def _sizes(figures: dict[str, int]) -> dict[str, int]:
    """Those that are sizes. A difference that Android works out (System, Heap Free) may be negative, and is none."""
    return {name: figure for name, figure in figures.items() if figure >= 0}


def _table(reader: Reader) -> dict[str, dict[str, int]]:
    """The rows of the table by their label, and their figures in bytes by the two lines of the header ("Pss Total")."""
    lines = reader.text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.split()[:1] == ["Pss"]), None)
    if start is None or start + 1 >= len(lines):
        return {}
    upper, lower = lines[start].split(), lines[start + 1].split()
    if len(upper) != len(lower):
        reader.fail("a table with as many words in the first as in the second line of its header")
    names = [" ".join(words) for words in zip(upper, lower, strict=True)]
    # The columns of the heap are the last, and empty but for the heaps and the total.
    counts = {len(names), len([name for name in names if not name.startswith("Heap")])}
    rows: dict[str, dict[str, int]] = {}
    for line in lines[start + 2 :]:
        words = line.split()
        if not words:
            break
        label = " ".join(takewhile(lambda word: not is_whole(word), words))
        figures = words[len(label.split()) :]
        if set(label) == {"-", " "}:
            continue
        # What is no number would stand in the label, and shift the columns.
        if not (_LABEL.fullmatch(label) and all(map(is_whole, figures)) and len(figures) in counts):
            reader.fail(f'a label and numbers under {", ".join(names)}, not "{line.strip()}"')
        rows[label] = {name: whole(figure) * 1024 for name, figure in zip(names, figures, strict=False)}
        if label == "TOTAL":
            break
    return rows


def _app_summary(reader: Reader) -> tuple[dict[str, int], dict[str, int]]:
    """Of the App Summary (Android 6 and later): the classes' PSS and the totals, in bytes. Android 11 added an Rss column."""
    section = re.split(r"^\s*Objects\s*$", reader.text.partition("App Summary")[2], flags=re.MULTILINE)[0]
    classes: dict[str, int] = {}
    totals: dict[str, int] = {}
    end_of_pss = 0
    for line in section.splitlines():
        if "Pss(KB)" in line:
            end_of_pss = line.index("Pss(KB)") + len("Pss(KB)")
        elif "TOTAL" in line:
            totals.update({name: reader.whole(figure, name) * 1024 for name, figure in _TOTAL.findall(line)})
        elif (found := _SUMMARY.fullmatch(line.rstrip())) and found.end(2) <= end_of_pss:  # Unknown has an Rss only
            classes[found[1]] = reader.whole(found[2], found[1]) * 1024
    return classes, totals
