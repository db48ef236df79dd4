"""The build of the APK: the same bytes for the same inputs, and its check finds what is wrong. Run by `make test-all`."""

import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import apk
import apk_check
import elf
from common import ANDROID, BUILD, Failure, make_folder, one_at_a_time, run

MANIFEST = ANDROID / "app" / "src" / "main" / "AndroidManifest.xml"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The APK, built once for all of pytest's processes."""
    own = tmp_path_factory.getbasetemp()
    done = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "apk"
    with one_at_a_time(done):
        if not done.exists():
            apk.apk()
            done.touch()
    return apk.APK


def test_the_same_inputs_give_the_same_bytes(built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything is made a second time, elsewhere, but for the classes: Maven's jars are compared by their dex."""
    monkeypatch.setattr(apk, "RESOURCES", tmp_path / "resources")
    monkeypatch.setattr(apk, "DEX", tmp_path / "dex")
    jars = [Path(jar) for jar in apk.CLASSPATH.read_text().split(":")] + [
        next((BUILD / "maven" / "app").glob("app-*.jar"))
    ]
    apk.resources()
    dex = apk.to_dex(jars)
    apk.pack(tmp_path / "again.apk", dex)
    with zipfile.ZipFile(built) as one, zipfile.ZipFile(tmp_path / "again.apk") as other:
        assert _contents(one) == _contents(other)


def _contents(archive: zipfile.ZipFile) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(info.filename, info.CRC, info.date_time) for info in archive.infolist()]


def _changed(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy with entries changed or left out, signed anew."""
    unsigned = target.with_suffix(".zip")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(unsigned, "w") as new:
        for info in old.infolist():
            if (data := change(info.filename, old.read(info))) is not None:
                new.writestr(info, data, info.compress_type)
    aligned = target.with_suffix(".aligned")
    run("zipalign", "-f", "-p", "4", unsigned, aligned)
    apk.sign(aligned, target)
    return target


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("lib/x86_64/libfbjni.so", "the libraries are"),
        ("lib/arm64-v8a/", "native code is for"),
        ("assets/licenses.txt", "licenses.txt is missing"),
        ("classes.dex", "the bytecode has no Lorg/mesp/app/MainActivity;"),
    ],
)
def test_finds_what_is_missing(built: Path, tmp_path: Path, part: str, message: str) -> None:
    without = _changed(built, tmp_path / "changed.apk", lambda name, data: None if name.startswith(part) else data)
    with pytest.raises(Failure, match=message):
        apk_check.check(without, MANIFEST)


def test_finds_a_changed_byte(built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "changed.apk"
    shutil.copy(built, copy)
    with copy.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(Failure, match="apksigner failed"):
        apk_check.check(copy, MANIFEST)


def test_finds_a_permission_too_many(built: Path, tmp_path: Path) -> None:
    fewer = tmp_path / "AndroidManifest.xml"
    lines = MANIFEST.read_text().splitlines()
    fewer.write_text("\n".join(line for line in lines if "POST_NOTIFICATIONS" not in line))
    with pytest.raises(Failure, match="permissions are"):
        apk_check.check(built, fewer)


@pytest.mark.parametrize(
    ("said", "instead", "message"),
    [
        (
            "allowBackup(0x01010280)=(type 0x12)0x0",
            "allowBackup(0x01010280)=(type 0x12)0xffffffff",
            "allowBackup is not",
        ),
        ("dataExtractionRules", "other", "no android:dataExtractionRules"),
        ('domain="external"', 'domain="root"', "device-transfer does not leave out external"),
        ('path="."', 'path="a"', "does not leave out all of a domain"),
    ],
)
def test_finds_what_a_backup_would_take(
    built: Path, monkeypatch: pytest.MonkeyPatch, said: str, instead: str, message: str
) -> None:
    whole = apk_check._tree
    assert any(said in whole(built, file) for file in ("AndroidManifest.xml", "res/xml/extraction_rules.xml"))
    monkeypatch.setattr(apk_check, "_tree", lambda apk, file: whole(apk, file).replace(said, instead))
    with pytest.raises(Failure, match=message):
        apk_check.check(built, MANIFEST)


@pytest.mark.parametrize("name", ["__cxa_throw", "__gxx_personality_v0", "_ZTISt9exception", "_ZTIPKa", "_ZdlPv"])
def test_another_name_has_the_same_hash(name: str) -> None:
    def gnu_hash(text: str) -> int:
        value = 5381
        for character in text:
            value = (value * 33 + ord(character)) % 2**32
        return value

    other = elf.same_hash(name)
    assert other != name and len(other) == len(name)
    assert gnu_hash(other) == gnu_hash(name)
    assert elf.same_hash("prefix" + name) == "prefix" + other


def test_renames_of_bionic_keep_their_length() -> None:
    assert all(len(old) == len(new) for old, new in elf.OWN_NAMES.items())


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("one")

    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise Failure("broken")

    with pytest.raises(Failure, match="broken"):
        make_folder(tmp_path / "made", [source], fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".made.lock", "source"]
    made = make_folder(tmp_path / "made", [source], lambda folder: (folder / "whole").write_text("1"))
    assert (made / "whole").exists()
    make_folder(made, [source], fail)  # the same input: nothing is made
    source.write_text("two")
    make_folder(made, [source], lambda folder: (folder / "new").write_text("1"))
    assert not (made / "whole").exists() and (made / "new").exists()


def test_a_program_that_hangs_is_killed() -> None:
    with pytest.raises(Failure, match="was not done after 1 s"):
        run("sleep", "60", seconds=1)
