"""Debian's enjarify, mended: `/usr/bin/python3 undex.py -f -o OUT.jar APK`.

Its const-wide/32 takes a negative number for a large one: the instruction's 32 bits are signed, and it does not extend the sign. Integers
are then never within their range, and kotlinx.serialization reads none.
"""

import sys

sys.path.insert(0, "/usr/lib/python3/dist-packages")

from enjarify import dalvikformats
from enjarify.main import main


def _register_and_signed(first: int, low: int, high: int) -> list[int]:
    number = low | high << 16
    return [first >> 8, number - (1 << 32) if number >> 31 else number]


dalvikformats._FUNC["31i"] = _register_and_signed

if __name__ == "__main__":
    main()
