"""Looks at an APK from outside, with Debian's tools: is it what was meant?

python3 tools/apk_check.py build/android/mesp.apk
"""

import re
import struct
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

from common import ABIS, ANDROID, Failure, main, need, run

EXPECTED = {
    "package: name": "org.mesp.app",
    "sdkVersion": "26",
    "targetSdkVersion": "35",
}
LIBRARIES = {"libexecutorch.so", "libfbjni.so", "libc++_shared.so"}
ASSETS = {"assets/library.json", "assets/licenses.txt"}
CLASSES = {"Lorg/pytorch/executorch/Module;", "Lcom/facebook/jni/HybridData;", "Lorg/mesp/core/training/TrainSettings;"}
# What may be taken by a backup, or by a transfer to another phone: up to Android 11, and from 12 on.
DOMAINS = {"root", "file", "database", "sharedpref", "external"}
BACKUP_RULES = (
    ("fullBackupContent", "backup_rules", ("full-backup-content",), DOMAINS),
    (
        "dataExtractionRules",
        "extraction_rules",
        ("cloud-backup", "device-transfer"),
        DOMAINS | {"device_root", "device_file", "device_database", "device_sharedpref"},
    ),
)
PAGE = 16384  # of the newest phones
_ANDROID = "{http://schemas.android.com/apk/res/android}"


def check(apk: Path, manifest: Path) -> str:
    """Checks everything and returns a line about the APK.

    Raises:
        Failure: with all that is not as it should be.
    """
    declared = ElementTree.parse(manifest).getroot()
    _check_signature(apk)
    with zipfile.ZipFile(apk) as archive:
        wrong = [*_badging(apk, declared), *_backups(apk), *_libraries(apk, archive), *_code(archive, declared)]
        wrong += [f"{asset} is missing" for asset in sorted(ASSETS - set(archive.namelist()))]
        size = apk.stat().st_size / 1e6
        dex = sum(info.file_size for info in archive.infolist() if info.filename.endswith(".dex")) / 1e3
    if wrong:
        raise Failure(f"{apk} is not as it should be:\n  " + "\n  ".join(wrong))
    return f"{apk}: {size:.1f} MB, {dex:.0f} kB of bytecode, {' and '.join(ABIS)}; signature, manifest, libraries and classes checked"


def _check_signature(apk: Path) -> None:
    """First of all: what the others would say of a damaged file means nothing."""
    said = run(need("apksigner", "apksigner"), "verify", "--verbose", "--min-sdk-version", EXPECTED["sdkVersion"], apk)
    if "v2): true" not in said:
        raise Failure(f"{apk} has no v2 signature:\n{said}")


def _badging(apk: Path, declared: ElementTree.Element) -> list[str]:
    badging = run(need("aapt", "aapt"), "dump", "badging", apk)
    wrong = []
    for key, value in EXPECTED.items():
        found = re.search(rf"^{key}[=:]'([^']*)'", badging, re.M)
        if not found or found[1] != value:
            wrong.append(f"{key} is {found[1] if found else 'not given'}, expected {value}")
    abis = re.search(r"^native-code: (.*)$", badging, re.M)
    if not abis or set(re.findall(r"'([^']+)'", abis[1])) != set(ABIS):
        wrong.append(f"native code is for {abis[1] if abis else 'nothing'}, expected {' and '.join(ABIS)}")
    there = set(re.findall(r"^uses-permission: name='([^']+)'", badging, re.M))
    meant = {element.get(f"{_ANDROID}name") for element in declared.iter("uses-permission")}
    if there != meant:
        wrong.append(f"permissions are {sorted(there)}, declared {sorted(map(str, meant))}")
    if "android.permission.INTERNET" in there:
        wrong.append("it asks for the network: what is trained on must not be able to leave the phone")
    if "launchable-activity" not in badging:
        wrong.append("it has no activity to start")
    return wrong


def _tree(apk: Path, file: str) -> str:
    """One of the APK's XML files, as aapt writes it."""
    return run(need("aapt", "aapt"), "dump", "xmltree", apk, file)


def _backups(apk: Path) -> list[str]:
    """No backup and no transfer to another phone takes anything, on any version of Android."""
    manifest = _tree(apk, "AndroidManifest.xml")
    wrong = (
        [] if re.search(r"allowBackup\(\w+\)=\(type 0x12\)0x0\b", manifest) else ["android:allowBackup is not false"]
    )
    for attribute, file, parts, domains in BACKUP_RULES:
        if not re.search(rf"{attribute}\(\w+\)=@0x", manifest):
            wrong.append(f"the manifest has no android:{attribute}")
        rules = _tree(apk, f"res/xml/{file}.xml")
        for part in parts:
            _, _, own = rules.partition(f"E: {part} ")
            own = re.split(r"\n\s*E: (?!exclude )", own)[0]
            left = domains - set(re.findall(r'domain="(\w+)"', own))
            wrong += [f"{file}.xml: {part} does not leave out {domain}" for domain in sorted(left)]
            wrong += [f"{file}.xml: {part} does not leave out all of a domain"] * ('path="."' not in own)
    return wrong


def _libraries(apk: Path, archive: zipfile.ZipFile) -> list[str]:
    """Each compressed, and unpacked at installation; or stored on a page's border."""
    wrong = []
    tree = _tree(apk, "AndroidManifest.xml")
    unpacked = re.search(r"extractNativeLibs\(\w+\)=\(type 0x12\)0xffffffff", tree) is not None
    there = {info.filename: info for info in archive.infolist() if info.filename.startswith("lib/")}
    meant = {f"lib/{abi}/{name}" for abi in ABIS for name in LIBRARIES}
    if set(there) != meant:
        wrong.append(f"the libraries are {sorted(there)}, expected {sorted(meant)}")
    for name, info in there.items():
        stored = info.compress_type == zipfile.ZIP_STORED
        if stored and _data_offset(apk, info) % PAGE:
            wrong.append(f"{name} is stored, but not at a multiple of {PAGE}")
        if not stored and not unpacked:
            wrong.append(f"{name} is compressed, and the manifest has no android:extractNativeLibs")
        if (alignment := _smallest_alignment(archive.read(info))) < PAGE:
            wrong.append(f"{name} has a segment aligned to {alignment} bytes, which does not load with pages of {PAGE}")
    return wrong


def _data_offset(apk: Path, info: zipfile.ZipInfo) -> int:
    with apk.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + int(name) + int(extra)


def _smallest_alignment(elf: bytes) -> int:
    (start,) = struct.unpack_from("<Q", elf, 0x20)
    size, count = struct.unpack_from("<HH", elf, 0x36)
    segments = [struct.unpack_from("<I44xQ", elf, start + i * size) for i in range(count)]
    return min(int(alignment) for kind, alignment in segments if kind == 1)


def _code(archive: zipfile.ZipFile, declared: ElementTree.Element) -> list[str]:
    """The classes that must be there are, and none of ours is native: all native code is the library's."""
    text = ""
    with tempfile.TemporaryDirectory() as folder:
        for name in archive.namelist():
            if re.fullmatch(r"classes\d*\.dex", name):
                text += run(need("dexdump", "dexdump"), archive.extract(name, folder))
    classes: set[str] = set()
    wrong = []
    current = method = ""
    for line in text.splitlines():
        if found := re.match(r"\s+Class descriptor\s+: '(.*)'", line):
            current = found[1]
            classes.add(current)
        elif found := re.match(r"\s+name\s+: '(.*)'", line):
            method = found[1]
        elif re.match(r"\s+access\s+:.*\bNATIVE\b", line) and current.startswith("Lorg/mesp/"):
            wrong.append(f"{current}{method} is native, and nothing of ours is")
    parts = [
        element.get(f"{_ANDROID}name", "")
        for kind in ("activity", "service", "receiver", "provider")
        for element in declared.iter(kind)
    ]
    package = EXPECTED["package: name"]
    named = {"L" + (package + part if part.startswith(".") else part).replace(".", "/") + ";" for part in parts}
    wrong += [f"the bytecode has no {name}" for name in sorted((CLASSES | named) - classes)]
    return wrong


if __name__ == "__main__":
    main(lambda: print(check(Path(sys.argv[1]), ANDROID / "app" / "src" / "main" / "AndroidManifest.xml")))
