"""`make test-dex`: core on the APK's own bytecode.

R8 turned all classes into Android's bytecode; Debian's enjarify turns them back. What then runs on the JVM has been through R8, so a wrong
translation, or a class or method that it dropped, shows here and not first on a phone. Two things run:

    core's tests     on the classes of core and of the native library
    whole trainings  on nothing but what is in the APK, Kotlin's classes too, with Python's losses to compare with
"""

import json
import re
import shutil
import zipfile
from pathlib import Path

from apk import APK
from common import ANDROID, BUILD, Failure, main, make_folder, need, run
from host import host
from junit import CASES, TELLING, arguments, compiled_tests, launcher, properties, summary
from maven import parts

OURS = ("org/mesp/", "org/pytorch/", "com/facebook/")
UNDEX = Path(__file__).with_name("undex.py")
FRAMES = ANDROID / "host" / "Frames.java"
MAIN = "org.mesp.core.MainKt"
RUNS = ("llama-adamw", "several")
SECONDS = 900
LOSS_TOLERANCE = 1e-4


def test() -> None:
    """Runs both."""
    if not APK.exists():
        raise Failure(f"There is no {APK}. Make it first: make apk")
    libraries, every = host("x86_64"), undexed()
    _core_tests(libraries, every.with_name("ours.jar"))
    for name in RUNS:
        _train(libraries, every, CASES / "runs" / name)


def undexed() -> Path:
    """The classes of the APK's bytecode as a jar, and beside it those that are ours or the native library's."""

    def translate(folder: Path) -> None:
        old, every = folder / "enjarified.jar", folder / "all.jar"
        need("enjarify", "enjarify")
        # The system's Python, which sees Debian's modules.
        said = run("/usr/bin/python3", "-O", UNDEX, "-f", "-o", old, APK)
        if ", 0 classes had errors" not in said:
            raise Failure(f"enjarify could not translate all of {APK}:\n{said}")
        (asm,) = parts("dex").glob("asm-*.jar")
        run("java", "-cp", asm, FRAMES, old, every)
        with zipfile.ZipFile(every) as archive, zipfile.ZipFile(folder / "ours.jar", "w") as ours:
            for name in archive.namelist():
                if name.startswith(OURS):
                    ours.writestr(name, archive.read(name))

    return make_folder(BUILD / "undexed", [APK, FRAMES, UNDEX, Path(__file__)], translate) / "all.jar"


def _core_tests(libraries: Path, ours: Path) -> None:
    # The tests use more of Kotlin than the app, so Kotlin is the whole one.
    tests = [path for path in compiled_tests() if not re.match(r"(executorch-android|fbjni|nativeloader)", path.name)]
    print("Running core's tests on the classes of the APK's bytecode", flush=True)
    said = _java(libraries, [launcher(), ours, *tests], "org.junit.platform.console.ConsoleLauncher", *arguments())
    print(summary(said))


def _train(libraries: Path, every: Path, case: Path) -> None:
    """A run with the settings of one of Python's; the losses must be Python's."""
    settings = json.loads((case / "settings.json").read_text(encoding="utf-8"))
    bundle = CASES / "bundles" / settings.pop("bundle")
    settings_file, run_folder = BUILD / "undexed" / f"{case.name}.json", BUILD / "undexed" / case.name
    settings_file.write_text(json.dumps({**settings, "data": str(case / settings["data"])}))
    shutil.rmtree(run_folder, ignore_errors=True)
    _java(libraries, [every], MAIN, bundle, run_folder, settings_file)
    expected, found = _losses(case / "host"), _losses(run_folder)
    worst = max((abs(one - other) for one, other in zip(expected, found, strict=False)), default=1.0)
    if len(expected) != len(found) or worst > LOSS_TOLERANCE:
        raise Failure(
            f"The APK's bytecode trains to other losses than Python: {found}, expected {expected} ({run_folder})."
        )
    print(f"{case.name}: {len(found)} steps on the APK's bytecode alone, losses within {worst:.1e} of Python's")


def _losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()]


def _java(libraries: Path, classes: list[Path], main_class: str, *words: str | Path) -> str:
    options = ("-Xmx256m", f"-Djava.library.path={libraries}", *properties(), "-cp", ":".join(map(str, classes)))
    return run(
        "java",
        *options,
        main_class,
        *words,
        seconds=SECONDS,
        environment={"LD_LIBRARY_PATH": str(libraries)},
        show=TELLING,
    )


if __name__ == "__main__":
    main(test)
