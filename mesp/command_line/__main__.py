"""``python -m mesp.command_line``: the ``mesp`` command of this installation."""

import sys

from .parser import main

sys.exit(main())
