"""The rooms of core and app: imports go one way, core knows nothing of the app, and README.md lists every file."""

import re
from pathlib import Path

import pytest

ANDROID = Path(__file__).resolve().parent.parent
SOURCES = {module: ANDROID / module / "src" / "main" / "kotlin" / "org" / "mesp" / module for module in ("core", "app")}

# From the lowest to the highest. A room may use those below it; rooms of one line do not use each other.
TIERS = {
    "core": [["bottom"], ["engine"], ["data", "memory"], ["report"], ["training"], ["generation"], ["top"]],
    "app": [["bottom"], ["phone"], ["state"], ["storage"], ["service", "screens"], ["top"]],
}
# Of the files that are in no room: these are below all rooms, and the others above.
BOTTOM = {"core": {"Errors.kt", "Files.kt"}, "app": set()}
# Resources: the build makes the class.
MADE = {"org.mesp.app.R"}

IMPORT = re.compile(r"(?<![\w.])org\.mesp\.(core|app)((?:\.[a-z]\w*)*)\.([A-Za-z]\w*)")
DECLARED = re.compile(r"^(?!private)[\w ]*\b(?:class|interface|object|fun|val|var) (?:<[^>]*> )?(?:\w+\.)?(\w+)", re.M)


def room(module: str, file: Path) -> str:
    folder = file.parent
    if folder != SOURCES[module]:
        return folder.relative_to(SOURCES[module]).as_posix()
    return "bottom" if file.name in BOTTOM[module] else "top"


def code(text: str) -> str:
    """Without comments, the package and strings: a name in a message is no import."""
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)
    return re.sub(r"^package .*$", "", text, flags=re.M)


def tier(module: str, name: str) -> int:
    return next(place for place, rooms in enumerate(TIERS[module]) if name in rooms)


def homes(module: str) -> dict[str, str]:
    """What is declared in no room, and whether that is below the rooms or above."""
    return {
        name: room(module, file)
        for file in SOURCES[module].glob("*.kt")
        for name in DECLARED.findall(code(file.read_text()))
    }


def wrong_way(module: str, own: str, text: str) -> list[str]:
    """What a file of the room ``own`` uses, and may not."""
    found = []
    for used_module, packages, name in IMPORT.findall(code(text)):
        used = f"org.mesp.{used_module}{packages}.{name}"
        if used_module != module:
            if module == "core":
                found.append(used)
            continue
        used_room = packages.removeprefix(".") or homes(module).get(name, "unknown")
        if used in MADE or used_room == own:
            continue
        if used_room == "unknown" or tier(module, used_room) >= tier(module, own):
            found.append(used)
    return found


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_one_way(module: str) -> None:
    files = sorted(SOURCES[module].rglob("*.kt"))
    assert len(files) > 30
    wrong = {file.name: found for file in files if (found := wrong_way(module, room(module, file), file.read_text()))}
    assert not wrong


@pytest.mark.parametrize(
    ("module", "own", "line"),
    [
        ("core", "engine", "import org.mesp.core.training.Stepper"),
        ("core", "data", "val sampler = org.mesp.core.memory.Sampler()"),
        ("core", "report", "import org.mesp.core.main"),
        ("core", "training", "import org.mesp.app.state.Store"),
        ("app", "screens", "import org.mesp.app.service.Gate"),
        ("app", "storage", "import org.mesp.app.mesp"),
    ],
)
def test_an_import_of_the_wrong_way_is_found(module: str, own: str, line: str) -> None:
    assert len(wrong_way(module, own, f"package org.mesp.{module}.{own}\n\n{line}\n")) == 1


@pytest.mark.parametrize("module", SOURCES)
def test_a_package_is_named_like_its_folder(module: str) -> None:
    for tree in ("main", "test"):
        root = ANDROID / module / "src" / tree / "kotlin"
        for file in root.rglob("*.kt"):
            package = ".".join(file.parent.relative_to(root).parts)
            assert file.read_text().startswith(f"package {package}\n"), file


@pytest.mark.parametrize("module", SOURCES)
def test_the_page_at_the_door_lists_every_file(module: str) -> None:
    page = (ANDROID / "README.md").read_text()
    section = page.split(f"\n### {module}\n")[1].split("\n#")[0]
    listed = re.findall(r"^ {8}(\w+) {2,}\S", section, re.M)
    assert sorted(listed) == sorted(file.stem for file in SOURCES[module].rglob("*.kt"))
