"""Maven, as this build calls it: for the poms of the app, and as the client that fetches artifacts."""

import shutil
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

from common import ANDROID, BUILD, Failure, digest, need, one_at_a_time, run, write


def maven(*arguments: str | Path, seconds: float = 1200, show: str | None = None) -> str:
    """Runs Maven; --batch-mode and the like are in .mvn/maven.config."""
    program = need("mvn", "maven openjdk-17-jdk-headless")
    return run(program, *arguments, seconds=seconds, show=show, folder=ANDROID)


def drop_stale_classes() -> None:
    """Removes what Kotlin's incremental compiler would keep though what it was compiled against has changed: a module's tests if its own
    classes have, and all of the app if core's classes or the resources have. What is left is compiled incrementally."""
    core, app = ANDROID / "core" / "src" / "main", ANDROID / "app" / "src" / "main"
    own = {"core": [core], "app": [app]}
    below: dict[str, list[Path]] = {"core": [], "app": [core, app / "res"]}
    for module, sources in own.items():
        compiled = BUILD / "maven" / module
        _drop_unless_of(compiled / ".of-tests", sources, [compiled / "test-classes", compiled / "kotlin-ic" / "test"])
        _drop_unless_of(
            compiled / ".of-all", below[module], [compiled / name for name in ("classes", "test-classes", "kotlin-ic")]
        )


def _drop_unless_of(stamp: Path, sources: list[Path], compiled: list[Path]) -> None:
    wanted = digest(sorted(file for folder in sources for file in folder.rglob("*") if file.is_file()))
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    for folder in compiled:
        shutil.rmtree(folder, ignore_errors=True)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted, encoding="utf-8")


def parts(group: str) -> Path:
    """The folder with the artifacts of a group in parts/pom.xml, fetched if one of them is not there yet.

    Beside each Android library, NAME.aar, are its classes, NAME.jar: Maven puts no AAR on a class path.
    """
    folder = BUILD / "parts" / group
    pom = ANDROID / "parts" / "pom.xml"
    wanted = digest([pom, ANDROID / "pom.xml"])
    with one_at_a_time(folder):
        _fetch(group, folder, wanted)
    return folder


def _fetch(group: str, folder: Path, wanted: str) -> None:
    pom, stamp = ANDROID / "parts" / "pom.xml", folder / ".complete"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"Fetching what the build needs from Maven Central and Google: {group}", flush=True)
        maven("--quiet", "--file", pom, f"dependency:copy@{group}")
        for library in folder.glob("*.aar"):
            with zipfile.ZipFile(library) as archive:
                write(library.with_suffix(".jar"), archive.read("classes.jar"))
        stamp.write_text(wanted, encoding="utf-8")


def version(name: str = "version") -> str:
    """A property of the parent pom, or the app's own version: versions are written there alone."""
    namespace = "{http://maven.apache.org/POM/4.0.0}"
    project = ElementTree.parse(ANDROID / "pom.xml").getroot()
    place = project if name == "version" else project.find(f"{namespace}properties")
    found = place.findtext(f"{namespace}{name}") if place is not None else None
    if found is None:
        raise Failure(f"{ANDROID / 'pom.xml'} has no {name}.")
    return found
