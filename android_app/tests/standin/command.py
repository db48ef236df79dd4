"""One of the phone's own commands, as the scripts in its bin folder start it: ROOT NAME ARGUMENTS…"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from standin.commands import run

    sys.exit(run(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
