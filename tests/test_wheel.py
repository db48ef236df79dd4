"""The wheel: it holds every package with its data, and what is installed from it runs where the sources are not."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "mesp/command_line": ROOT / "mesp" / "command_line",
    "mesp/runtime": ROOT / "runtime",
    "mesp/export": ROOT / "export",
    "mesp/device": ROOT / "android_app" / "device",
    "mesp/bench": ROOT / "benchmarks",
}
SHIPPED = (".py", ".jinja", ".schema.json", ".toml", "config.json")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    folder = wheel.with_name("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, code: str, *arguments: str) -> str:
    """What a program prints that sees the installed packages and not the sources."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", f"import sys, mesp; assert mesp.__file__.startswith({str(installed)!r}); {code}"]
    result = subprocess.run(
        [*command, *arguments], cwd=installed.parent, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_it_holds_every_room_of_every_package(wheel: Path, package: str) -> None:
    folder = PACKAGES[package]
    wanted = {f"{package}/{path.relative_to(folder)}" for path in folder.rglob("*") if path.name.endswith(SHIPPED)}
    assert len(wanted) > 5
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())


def test_it_is_typed_and_has_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert "mesp/py.typed" in archive.namelist()
        (entries,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "mesp = mesp.command_line.parser:main" in archive.read(entries).decode()


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ([], "export"),
        (["export"], "--group-size"),
        (["train"], "--optimizer"),
        (["device"], "push"),
        (["bench"], "TABLE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_answer(installed: Path, command: list[str], word: str) -> None:
    start = "from mesp.command_line.parser import main; sys.exit(main())"
    assert word in run(installed, start, *command, "--help")


def test_the_tables_of_bench_are_found_with_their_models(installed: Path) -> None:
    code = """
from pathlib import Path
import mesp.bench
from mesp.bench.cells.reader import read_table
for path in sorted((Path(mesp.bench.__file__).parent / "tables").glob("*.toml")):
    print(path.stem, len(read_table(path).cells))
"""
    found = dict(line.split() for line in run(installed, code).splitlines())
    assert set(found) == {"families", "growth", "paper"} and all(int(cells) > 3 for cells in found.values())
