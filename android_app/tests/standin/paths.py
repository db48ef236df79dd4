"""The phone's paths, in the stand-in's folder."""

import re
from pathlib import Path

# A path that begins here, and not within another one: the folder's own path holds some of these words too. What is an absolute
# path of this machine (/proc/PID, /dev/null, /tmp) stays as it is.
_PLACES = re.compile(
    r"(?<![\w./-])(/sdcard|/storage/emulated/0|/storage/self/primary|/data/local/tmp|/data/data|/data/user/0|/data/tombstones|/sys|/proc/meminfo)"
    r"(?![\w.-])"
)
_FOLDERS = {
    "/storage/emulated/0": "/sdcard",
    "/storage/self/primary": "/sdcard",
    "/data/user/0": "/data/data",
}


def on_this_machine(text: str, root: Path) -> str:
    """A path, or a command with paths in it."""

    def place(match: re.Match[str]) -> str:
        if match[1] == "/proc/meminfo" and not (root / "proc" / "meminfo").exists():
            return match[1]  # this machine's own
        return f"{root}{_FOLDERS.get(match[1], match[1])}"

    return _PLACES.sub(place, text)
