"""Imports go one way: between the packages, and inside runtime and export between their rooms."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "runtime": ROOT / "runtime",
    "export": ROOT / "export",
    "device": ROOT / "android_app" / "device",
    "bench": ROOT / "benchmarks",
    "command_line": ROOT / "mesp" / "command_line",
}
# What each package may import beside itself. Nothing imports the command line.
BENEATH = {
    "runtime": set(),
    "export": {"runtime"},
    "bench": {"runtime", "export"},
    "device": {"runtime", "export"},
    "command_line": {"runtime", "export", "bench", "device"},
}
# A room imports only from those before it. Modules that lie beside the rooms count as rooms.
ROOMS = {
    "runtime": [
        "errors",
        "files",
        "account",
        "contract",
        "engine",
        "data",
        "memory",
        "report",
        "training",
        "generation",
        "api",
        "fleet",
    ],
    "export": ["export_settings", "model", "programs", "schedules", "bundle", "predict", "reference", "convert", "api"],
}


def module_of(path: Path) -> list[str]:
    """The names under mesp of a file's module; a package is its own __init__."""
    for package, folder in FOLDERS.items():
        if path.is_relative_to(folder):
            return [package, *path.relative_to(folder).with_suffix("").parts]
    raise ValueError(path)


def imports(source: str, module: list[str]) -> Iterator[list[str]]:
    """Every module under mesp that a source imports, absolutely or relatively, at its top or inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = ["mesp", *module[: len(module) - node.level]] if node.level else []
            base = [*start, *(node.module.split(".") if node.module else [])]
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "mesp" and len(name) > 1:
                yield name[1:]


def sources() -> list[Path]:
    return [path for folder in FOLDERS.values() for path in sorted(folder.rglob("*.py"))]


def upward(module: list[str], imported: list[str]) -> bool:
    """Whether the import goes against the order."""
    package, other = module[0], imported[0]
    if package != other:
        return other not in BENEATH[package]
    rooms = ROOMS.get(package)
    if not rooms or len(module) < 2 or module[1] == "__init__" or len(imported) < 2 or imported[1] not in rooms:
        return False
    return rooms.index(imported[1]) > rooms.index(module[1])


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_has_its_place_in_the_order(package: str) -> None:
    there = {
        path.stem for path in FOLDERS[package].iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert there - {"__init__"} <= set(ROOMS[package])


def test_no_module_imports_upwards() -> None:
    found = {
        (".".join(module), ".".join(imported[:-1]))
        for path in sources()
        for module in [module_of(path)]
        for imported in imports(path.read_text(), module)
        if upward(module, imported)
    }
    assert not found


def test_no_package_starts_the_command_line_by_name() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in sources()
        if not path.is_relative_to(FOLDERS["command_line"])
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "mesp.command_line" in node.value
    }
    assert not found


UPWARD = {
    "another package": ("runtime/engine/x.py", "from mesp.export.model import quantize"),
    "inside a function": ("runtime/files.py", "def f():\n    import mesp.export.bundle"),
    "the command line": ("benchmarks/x.py", "from mesp.command_line.parser import main"),
    "a later room": ("runtime/engine/x.py", "from ..training.loop import train"),
    "a later room as a name": ("export/model/x.py", "from .. import bundle"),
    "from the package's door": ("export/model/x.py", "from ..programs import plan"),
}


@pytest.mark.parametrize(("file", "line"), UPWARD.values(), ids=UPWARD)
def test_an_upward_import_is_found(file: str, line: str) -> None:
    module = module_of(ROOT / file)
    assert [upward(module, imported) for imported in imports(line, module)] == [True]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("runtime/training/x.py", "from ..engine.session import Session"),
        ("runtime/training/x.py", "from .loop import train"),
        ("runtime/training/x.py", "from ..report.outcome import outcome"),
        ("export/bundle/x.py", "from mesp.runtime.errors import MespError"),
        ("mesp/command_line/x.py", "from mesp.bench import cell"),
    ],
)
def test_a_downward_import_is_allowed(file: str, line: str) -> None:
    module = module_of(ROOT / file)
    assert [upward(module, imported) for imported in imports(line, module)] == [False]
