"""JUnit's own launcher, for core's tests where Maven does not run them."""

import os
import re
from pathlib import Path

from common import BUILD, ROOT, Failure
from library import maven_options
from maven import drop_stale_classes, maven, parts

CORE = BUILD / "maven" / "core"
CASES, ALL_CASES, GOLDEN = BUILD / "cases", BUILD / "all-cases", BUILD / "golden"
CONTRACT = ROOT / "runtime" / "contract"

# Of the launcher's lines: a test that failed, why, and the sums.
TELLING = r"✘|\[X\]|=> |tests (successful|failed)"


def compiled_tests() -> list[Path]:
    """Compiles core and its tests. Returns the class path of the tests without core's own classes; the tests' come first."""
    drop_stale_classes()
    maven("--quiet", *maven_options(), "process-test-classes", "--projects", "core", seconds=1800)
    jars = [Path(jar) for jar in (CORE / "test-classpath").read_text(encoding="utf-8").split(os.pathsep)]
    # The launcher brings JUnit.
    return [CORE / "test-classes", *(jar for jar in jars if "junit" not in jar.name)]


def launcher() -> Path:
    """JUnit with its engines in one jar."""
    (jar,) = parts("junit").glob("junit-platform-console-standalone-*.jar")
    return jar


def arguments(*tests: str) -> list[str]:
    """What the launcher is told: these tests of core, or all but those of the process's memory, which is also the emulator's here, or that
    of other tests."""
    chosen = [f"--include-classname=.*[.]{test}" for test in tests] or ["--exclude-classname=.*MemoryTest"]
    options = ["--details=tree", "--disable-banner", "--disable-ansi-colors", "--fail-if-no-tests"]
    return ["execute", f"--scan-classpath={CORE / 'test-classes'}", *options, *chosen]


def properties() -> list[str]:
    """What Surefire would give the tests; here of all bundles."""
    return [f"-Dmesp.cases={ALL_CASES}", f"-Dmesp.golden={GOLDEN}", f"-Dmesp.contract={CONTRACT}"]


def summary(said: str) -> str:
    """The launcher's last lines, counted; a run of no tests is none."""
    counts = {
        word: int(number) for number, word in re.findall(r"(\d+) tests (found|successful|failed|skipped|aborted)", said)
    }
    if not counts.get("successful"):
        raise Failure(f"No test ran:\n{said}")
    return f"{counts['successful']} passed, {counts.get('failed', 0)} failed"
