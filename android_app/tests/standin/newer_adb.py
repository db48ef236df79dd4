"""What adb 31 and later add to this machine's: phones that announce themselves, and their names in the place of addresses.

An adb in front of the real one: WORDS of `adb`. What is announced, and which of it the server has connected to by itself, is in a file of JSON.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


class NewerAdb:
    """The program, in a folder, and what it finds on the network.

    Args:
        folder: empty, for the program and its file
        real: the adb that does the work
    """

    def __init__(self, folder: Path, real: str):
        self.program, self._file = folder / "adb", folder / "announced.json"
        self.program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {__file__} {self._file} {real} "$@"\n')
        self.program.chmod(0o755)
        self.announce({})

    def announce(self, names: dict[str, str], connected: bool = True) -> None:
        """What is on the network from now on: an address for each name, and whether adb connects to it by itself."""
        self._file.write_text(json.dumps({"names": names, "connected": connected}))


def main() -> None:
    """The command line."""
    file, real, *words = sys.argv[1:]
    found = json.loads(Path(file).read_text())
    names: dict[str, str] = found["names"]
    if words == ["mdns", "services"]:
        print("List of discovered mdns services")
        for name, address in names.items():
            print(f"{name.partition('._adb')[0]}\t_adb-tls-connect._tcp\t{address}")
        return
    if words == ["devices"] and found["connected"]:
        for address in names.values():
            subprocess.run([real, "connect", address], capture_output=True, timeout=20)
        said = subprocess.run([real, "devices"], capture_output=True, text=True, timeout=60).stdout
        for name, address in names.items():
            said = said.replace(f"{address}\t", f"{name}\t")
        print(said, end="")
        return
    os.execv(
        real, [real, *(names.get(word, word) if n and words[n - 1] == "-s" else word for n, word in enumerate(words))]
    )


if __name__ == "__main__":
    main()
