"""`make android-setup`: the Debian packages that build and prove the app.

Only what is missing is installed, and only as root (or by a sudo that does not ask). Elsewhere the command to give is printed.
"""

import os
import shutil
import sys

from common import Failure, main, run

# A program that tells whether a package is there.
BUILD = {
    "javac": "openjdk-17-jdk-headless",
    "mvn": "maven",
    "gcc": "gcc",
    "npm": "npm",
    "zipalign": "zipalign",
    "apksigner": "apksigner",
    "dexdump": "dexdump",
    "aapt": "aapt",
    "adb": "adb",
    "enjarify": "enjarify",
}
ARM64 = {
    "qemu-aarch64": "qemu-user",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
}


def install(wanted: dict[str, str]) -> None:
    """Installs the packages whose programs are missing."""
    missing = [package for program, package in wanted.items() if not shutil.which(program)]
    if not missing:
        return
    packages = " ".join(missing).split()
    by_hand = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if not shutil.which("apt-get"):
        raise Failure(
            f"These Debian packages, or what your system has in their place, are needed: {' '.join(packages)}"
        )
    if os.geteuid() == 0:
        root = []
    elif shutil.which("sudo"):
        root = ["sudo", "--non-interactive"]
    else:
        raise Failure(f"Packages are missing, and only root can install them: {by_hand}")
    print(f"Installing {' '.join(packages)}", flush=True)
    try:
        run(*root, "apt-get", "update")
        quiet = ["-y", "-qq", "--no-install-recommends"]
        run(*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", *quiet, *packages, seconds=1200)
    except Failure as failure:
        raise Failure(f"{failure}\nInstall the packages yourself, as root: {by_hand}") from failure


if __name__ == "__main__":
    main(lambda: install({**BUILD, **ARM64} if "arm64" in sys.argv[1:] else BUILD))
