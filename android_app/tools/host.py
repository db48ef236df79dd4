"""Android's native libraries, made to load on this machine: build/android/host/ABI/.

x86_64 for a JVM of this machine, arm64-v8a for one under qemu-user (arm64.py). A JVM needs the folder twice: -Djava.library.path
finds libexecutorch.so in it, and LD_LIBRARY_PATH the libraries that this one asks for.
"""

import sys
from pathlib import Path

from common import ABIS, ANDROID, BUILD, Failure, main, make_folder, need, run
from elf import for_glibc
from library import LIBRARY, library

SHIM = ANDROID / "host" / "bionic.c"
# What Android's libraries ask for, and bionic.c or glibc has.
EMPTY = ("m", "dl", "log", "android")
COMPILERS = {
    "x86_64": ("gcc", "gcc"),
    "arm64-v8a": ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
}


def host(abi: str) -> Path:
    """The folder of an ABI, made if it is not there or not of this library."""
    if abi not in ABIS:
        raise Failure(f"The ABIs are {' and '.join(ABIS)}, not {abi}.")
    library()
    compiler = need(*COMPILERS[abi])
    libraries = sorted((LIBRARY / "jni" / abi).glob("*.so"))
    inputs = [*libraries, SHIM, Path(__file__), Path(__file__).with_name("elf.py")]
    return make_folder(BUILD / "host" / abi, inputs, lambda folder: _make(folder, libraries, compiler))


def _make(folder: Path, libraries: list[Path], compiler: str) -> None:
    for_glibc(libraries, folder)
    shared = (compiler, "-shared", "-fPIC", "-O1")
    run(*shared, "-o", folder / "libc.so", "-Wl,-soname,libc.so", SHIM, "-lm")
    for name in EMPTY:
        soname = f"lib{name}.so"
        # With libc.so beneath: a library that asks for this one alone finds the same functions.
        beneath = ("-Wl,--no-as-needed", f"-L{folder}", "-l:libc.so", "-lm")
        run(*shared, "-o", folder / soname, f"-Wl,-soname,{soname}", "-x", "c", "/dev/null", *beneath)


if __name__ == "__main__":
    main(lambda: print(host(sys.argv[1] if len(sys.argv) > 1 else "x86_64")))
