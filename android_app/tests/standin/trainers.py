"""What the app's process runs: the app's own core on this machine's JVM, or something that pretends, in a moment."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

BUILD = Path(__file__).resolve().parents[3] / "build" / "android"
# As in benchmarks/questions/android_core.py: the heap is touched as a whole before the run, so that what Java's own objects take counts as idle.
_HEAP = ("-Xms48m", "-Xmx48m", "-XX:+UseSerialGC", "-XX:+AlwaysPreTouch", "-XX:TieredStopAtLevel=1")


@dataclass(frozen=True)
class Trainer:
    """A command that takes BUNDLE OUTPUT SETTINGS.json [--resume] after it."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def core(build: Path = BUILD) -> Trainer:
    """android_app/core with Android's own x86-64 library, as `make test-android` builds them."""
    classes, libraries = build / "maven" / "core", build / "host" / "x86_64"
    class_path = f"{classes / 'classes'}:{(classes / 'test-classpath').read_text().strip()}"
    java = ["java", *_HEAP, f"-Djava.library.path={libraries}", "-cp", class_path, "org.mesp.core.MainKt"]
    return Trainer(java, {"LD_LIBRARY_PATH": str(libraries)})


def fake(seconds: float = 0.1, megabytes: int = 20, fail_at: int | None = None) -> Trainer:
    """Steps of so many seconds, in so much memory; one of them may fail."""
    script = str(Path(__file__).with_name("fake_trainer.py"))
    options = ["--seconds", str(seconds), "--megabytes", str(megabytes)]
    failing = [] if fail_at is None else ["--fail-at", str(fail_at)]
    return Trainer([sys.executable, "-S", "-E", script, *options, *failing])
