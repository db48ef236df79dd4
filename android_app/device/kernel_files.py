"""What a phone's files in /proc, `getprop` and `df` say. All sizes are in bytes."""

import re

from .reading import Reader, Unreadable, known

_NEXT = r"(?=\n\[[^\]\n]+\]: \[|\s*\Z)"
_PROPERTY = re.compile(r"^\[([^\]\n]+)\]: \[(.*?)\]$" + _NEXT, re.MULTILINE | re.DOTALL)
# A leading zero marks a mask in hexadecimal (SigPnd) or octal (Umask), which is no count.
_FIELD = re.compile(r"^([A-Za-z_][\w()]*):[ \t]+(0|[1-9][0-9]*)([ \t]+kB)?[ \t]*$", re.MULTILINE)
_MASKS = {"Cpus_allowed", "Mems_allowed"}
_NO_FILE = re.compile(r"No such file|No such process|Permission denied")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)([KMGT])")
_MOST_BYTES = 1 << 60
_BLOCKS = {"1K-blocks": 1024, "1024-blocks": 1024, "512-blocks": 512}


def properties(text: str) -> dict[str, str]:
    """The system properties that `getprop` lists as "[name]: [value]". Values are as they stand, and may span lines.

    persist.sys.boot.reason.history has one line for each reboot. A value ends at the "]" that ends a line before the next name.

    Raises:
        Unreadable: there is no property.
    """
    found = dict(_PROPERTY.findall(text.replace("\r\n", "\n")))
    if not found:
        raise Unreadable("getprop", text, "lines [name]: [value]")
    return found


def frequencies(text: str) -> list[int]:
    """The clocks of cores, in kHz, of their scaling_cur_freq. Those that are not read, off (0) or no clock's (4294967295) are left out."""
    return [khz for word in text.split() if word.isdecimal() and (khz := known(int(word), 1, 10_000_000))]


def fields(text: str) -> dict[str, int]:
    """The fields of /proc/PID/status, /proc/PID/smaps_rollup or /proc/meminfo: in bytes those in kB, the others as they stand.

    A field that is not one decimal number is left out (Uid, Groups, State, masks of signals). smaps_rollup is of Linux 4.14 and
    later, and may only be read for a debuggable app (run-as) or by root; Pss_Anon and its like came with 5.4, Pss_Dirty with 5.19.
    RssAnon of status came with 4.5. MemAvailable is of 3.14 and later.

    Returns:
        Nothing for a file that is not there, or may not be read: of an ended process, or of an older kernel.

    Raises:
        Unreadable: it is something else than such a file.
    """
    reader = Reader("cat /proc/...", text)
    found = {
        name: int(figure) * (1024 if kib else 1)
        for name, figure, kib in _FIELD.findall(reader.text)
        if name not in _MASKS
    }
    if not found and text.strip() and not _NO_FILE.search(text):
        reader.fail('lines "Name: n kB"')
    return found


def free_bytes(text: str) -> int | None:
    """What is free for a user in the file system of PATH, by `df -k PATH`. None for a negative figure, as where the file system does not tell.

    Android 7 and later have toybox's df: "1K-blocks Used Available". Android 6 and earlier have toolbox's, which knows no -k (and
    says so in the same text), and gives "Size Used Free Blksize" with one decimal: 9.8G.

    Raises:
        Unreadable: it is not one file system with the free space in a column that is known.
    """
    reader = Reader("df -k PATH", text)
    lines = [line for line in reader.text.splitlines() if line.strip() and not _NO_FILE.search(line)]
    if not lines or lines[0].split()[0] != "Filesystem":
        reader.fail("a table that begins with Filesystem")
    header = lines[0].replace("Mounted on", "Mounted_on").split()
    column = next((header.index(name) for name in ("Available", "Avail", "Free") if name in header), None)
    # A busybox in df's place puts a long device name on a line of its own.
    row = " ".join(lines[1:]).split()
    if column is None or len(row) != len(header):
        reader.fail("one file system with the column Available or Free")
    return _size(row[column], header, reader)


def _size(figure: str, header: list[str], reader: Reader) -> int | None:
    """Bytes: in the unit of the table, or in the figure's own."""
    unit = next((size for name, size in _BLOCKS.items() if name in header), None)
    if unit is not None:
        blocks: int | None = known(reader.whole(figure, "the free space"), 0, _MOST_BYTES / unit)
        return None if blocks is None else blocks * unit
    size = _SIZE.fullmatch(figure)
    if size is None:
        reader.fail(f'a size for the free space, not "{figure}"')
    nbytes = known(float(size[1]) * _UNITS[size[2]], 0, _MOST_BYTES)
    return None if nbytes is None else int(nbytes)
