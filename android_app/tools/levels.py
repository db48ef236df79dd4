"""`make test-levels`: the app's tests on other Android versions than 14, from the oldest that it runs on to the newest that Robolectric has.

Each version has a JVM of its own. Training with ExecuTorch stays at 14, where it is compared with Python. Android 16 needs a JDK of 21 or later;
where none is installed it is left out, and that is said.
"""

import re
from pathlib import Path

from common import Failure, main
from library import maven_options
from maven import drop_stale_classes, maven, parts
from test import prepare

LEVELS = (26, 30, 35, 36)
NEEDS_21 = 36
# Without what trains with the library, and what is of no version of Android.
TESTS = "org/mesp/app/**,!RealTrainingTest,!ApiLevelTest"


def levels() -> None:
    """Runs the tests at every level, and tells of all that failed.

    Raises:
        Failure: tests failed at a level.
    """
    prepare()
    failed = []
    for level in LEVELS:
        java = [] if level < NEEDS_21 else _java(21)
        if java is None:
            print(f"API {level} is left out: it needs a JDK of 21 or later in /usr/lib/jvm", flush=True)
            continue
        print(f"API {level}", flush=True)
        try:
            _run(level, java)
        except Failure as failure:
            failed.append(f"API {level}: {failure}")
    if failed:
        raise Failure("\n".join(failed))


def _run(level: int, java: list[str]) -> None:
    chosen = (f"-Drobolectric.sdk={level}", f"-Drobolectric.jars={parts('levels')}", f"-Dtest={TESTS}", *java)
    only = ("-Dsurefire.failIfNoSpecifiedTests=false", "--projects", "app", "--also-make")
    drop_stale_classes()
    maven(*maven_options(), *chosen, *only, "test", seconds=1200, show=r"Tests run:|^\[ERROR\]")


def _java(least: int) -> list[str] | None:
    """How Surefire is told of an installed JDK of at least this version."""
    for release in sorted(Path("/usr/lib/jvm").glob("*/release")):
        found = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(encoding="utf-8"), re.MULTILINE)
        if found and int(found[1]) >= least:
            return [f"-Djvm={release.parent / 'bin' / 'java'}"]
    return None


if __name__ == "__main__":
    main(levels)
