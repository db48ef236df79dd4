"""`make test-arm64`: core's tests with the phone's own binary, libexecutorch.so of arm64-v8a, under qemu-user.

A JVM for arm64 and the libraries beneath it come from Debian, into build/android/arm64/root: apt-get downloads them with a list of packages
of its own, so that neither the system's packages nor its architectures change. host/launch.c says why a launcher is needed.
"""

import os
import shutil
import sys
from pathlib import Path

from common import ANDROID, BUILD, Failure, main, make_folder, need, run
from host import COMPILERS, host
from junit import CORE, TELLING, arguments, compiled_tests, launcher, properties, summary

ARM64 = BUILD / "arm64"
PACKAGES = ("openjdk-17-jre-headless", "libc6", "zlib1g", "libgcc-s1", "libstdc++6")
LAUNCH = ANDROID / "host" / "launch.c"
SECONDS = 1500


def test() -> None:
    """Runs the tests, or those that are named."""
    qemu = need("qemu-aarch64", "qemu-user")
    libraries, root, launch = host("arm64-v8a"), java_root(), launch_program()
    machine = min(root.glob("usr/lib/jvm/*/lib/server/libjvm.so"))
    classes = [launcher(), CORE / "classes", *compiled_tests()]
    paths = f"LD_LIBRARY_PATH={libraries}:{machine.parent.parent}:{machine.parent}"
    # An emulated compiler is slow too: the first one of HotSpot's two, and the smallest heap that Surefire's tests have.
    options = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", f"-Djava.library.path={libraries}")
    path = "-Djava.class.path=" + ":".join(map(str, classes))
    print("Running core's tests on the arm64-v8a library under qemu", flush=True)
    command: tuple[str | Path, ...] = (
        qemu,
        "-L",
        root,
        "-E",
        paths,
        launch,
        machine,
        *options,
        path,
        *properties(),
        "--",
    )
    said = run(
        *command, "org/junit/platform/console/ConsoleLauncher", *arguments(*sys.argv[1:]), seconds=SECONDS, show=TELLING
    )
    print(summary(said))


def java_root() -> Path:
    """A folder with an arm64 JVM and what it links to, as in Debian."""

    def unpack(folder: Path) -> None:
        print("Fetching an arm64 Java from Debian, about 60 MB", flush=True)
        for package in _download():
            run("dpkg-deb", "--extract", package, folder)
        _make_relative(folder)

    return make_folder(ARM64 / "root", [Path(__file__)], unpack)


def _download() -> list[Path]:
    need("dpkg-deb", "dpkg")
    apt = ARM64 / "apt"
    shutil.rmtree(apt, ignore_errors=True)
    for folder in ("state/lists/partial", "cache/archives/partial", "packages"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    places = {"Dir::State": apt / "state", "Dir::State::status": apt / "status", "Dir::Cache": apt / "cache"}
    words = [f"{key}={value}" for key, value in places.items()]
    words += ["APT::Architecture=arm64", "APT::Architectures::=arm64", "Acquire::Languages=none", "APT::Sandbox::User="]
    options = [part for word in words for part in ("-o", word)]
    run("apt-get", *options, "update")
    run("apt-get", *options, "download", *PACKAGES, folder=apt / "packages")
    packages = sorted((apt / "packages").glob("*.deb"))
    if len(packages) != len(PACKAGES):
        raise Failure(f"apt-get downloaded {[package.name for package in packages]}, expected {', '.join(PACKAGES)}.")
    return packages


def _make_relative(root: Path) -> None:
    """Absolute links lead out of the root; they are turned back into it."""
    for link in root.rglob("*"):
        if link.is_symlink() and (target := link.readlink()).is_absolute():
            inside = root / target.relative_to("/")
            link.unlink()
            link.symlink_to(os.path.relpath(inside, link.parent))


def launch_program() -> Path:
    """The launcher, built for arm64."""
    compiler = need(*COMPILERS["arm64-v8a"])
    home = Path(need("javac", "openjdk-17-jdk-headless")).resolve().parent.parent

    def build(folder: Path) -> None:
        headers = (f"-I{home}/include", f"-I{home}/include/linux")
        run(compiler, "-O1", *headers, "-o", folder / "launch", LAUNCH, "-ldl")

    return make_folder(ARM64 / "launch", [LAUNCH, Path(__file__)], build) / "launch"


if __name__ == "__main__":
    main(test)
