"""`make test-android`: core's and the app's tests on the JVM of this machine, with the x86_64 library. Runs in the project's environment.

First what they need is made: the library on this host, what the Python runtime computes, to compare with, and the app's resources.
"""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from apk import resources
from cases import cases
from common import BUILD, main
from host import host
from library import maven_options
from maven import drop_stale_classes, maven, parts

SECONDS = 3000


def prepare(every: bool = False) -> None:
    """Makes what the tests read, of the quick bundles or of every one. Maven compiles meanwhile, and notes the class path."""
    host("x86_64")
    drop_stale_classes()
    parts("robolectric")
    resources()
    with ThreadPoolExecutor(1) as meanwhile:
        compiled = meanwhile.submit(maven, "--quiet", *maven_options(), "process-test-classes", seconds=SECONDS)
        cases(every)
        compiled.result()


def test() -> None:
    """Runs the tests; Maven says which."""
    prepare()
    # They leave runs and the app's events there, for tests/test_runs.py.
    shutil.rmtree(BUILD / "runs", ignore_errors=True)
    (BUILD / "events.jsonl").unlink(missing_ok=True)
    maven(*maven_options(), "test", seconds=SECONDS, show=r"Tests run:|^\[ERROR\]|^\[INFO\] Running")


if __name__ == "__main__":
    main(partial(prepare, every=True) if sys.argv[1:] == ["prepare"] else test)
