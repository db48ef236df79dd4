"""Runs a command and notes how long it took: tests/timed.py NAME COMMAND…

build/test-durations.json has the seconds of each name's last run that succeeded, and the machine's cores.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

FILE = Path(__file__).parents[1] / "build" / "test-durations.json"


def main(name: str, command: list[str]) -> int:
    start = time.monotonic()
    status = subprocess.run(command).returncode
    if not status:
        noted = json.loads(FILE.read_text()) if FILE.exists() else {"seconds": {}}
        noted["cores"] = os.cpu_count()
        noted["seconds"][name] = round(time.monotonic() - start, 1)
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(json.dumps(noted, indent=1) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
