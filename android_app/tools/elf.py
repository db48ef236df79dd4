"""Lets glibc's loader take Android's shared libraries, without a change of their code: some names in their tables change.

Three things stand in the way.

1. Each import asks for a version, and bionic's version nodes do not exist in glibc: the version tables are taken out.
2. Some imports have glibc's name but another meaning: they get names of their own, of the same length, which `host/bionic.c` defines.
3. A JVM has GCC's C++ runtime in it, whose exceptions would meet those of Android's libc++ under the same names, and crash. Android's are
   renamed, in every library alike, to names with the same hash: the table by which the loader finds them stays as it is.
"""

import struct
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common import Failure

# bionic's function and the name it gets. `host/bionic.c` says what differs.
OWN_NAMES = {
    "sysconf": "sysc0nf",
    "sigfillset": "sigf1llset",
    "pthread_sigmask": "pthread_s1gmask",
    "strerror_r": "strerr0r_r",
    "fflush": "ffl0sh",
    "fprintf": "fpr1ntf",
    "vfprintf": "vfpr1ntf",
    "fwrite": "fwr1te",
}
# Names that end like one of those: a string table holds both in the same bytes, so they change too, and bionic.c defines both.
ENDING_ALIKE = {"__gnu_strerror_r"}

_VERSION_TAGS = {0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF}  # VERSYM, VERDEF(NUM), VERNEED(NUM)
_GNU_HASH = 0x6FFFFEF5  # glibc reads this table alone, if there is one
_ANDROID_PACKED = {0x6000000F, 0x60000011}  # ANDROID_REL, ANDROID_RELA: relocations in a format of Android's own
_DYNAMIC, _DYNSYM = 6, 11  # section types
_SYMBOL, _TAG = struct.Struct("<IBBHQQ"), struct.Struct("<qQ")


@dataclass(frozen=True)
class _Section:
    kind: int
    offset: int
    size: int
    link: int


class Library:
    """A shared library's bytes, to be changed and written.

    Raises:
        Failure: it is not a 64-bit library as the NDK makes them.
    """

    def __init__(self, path: Path):
        self.path, self.data = path, bytearray(path.read_bytes())
        if self.data[:6] != b"\x7fELF\x02\x01":
            raise Failure(f"{path} is not a 64-bit little-endian ELF library.")
        self._sections = self._read_sections()
        self._dynamic, self._symbols = self._only(_DYNAMIC), self._only(_DYNSYM)
        self._strings = self._sections[self._symbols.link].offset

    def _read_sections(self) -> list[_Section]:
        (start,) = struct.unpack_from("<Q", self.data, 0x28)
        size, count = struct.unpack_from("<HH", self.data, 0x3A)
        found = []
        for at in range(start, start + size * count, size):
            _, kind, _, _, offset, length, link = struct.unpack_from("<IIQQQQI", self.data, at)
            found.append(_Section(kind, offset, length, link))
        return found

    def _only(self, kind: int) -> _Section:
        of_kind = [section for section in self._sections if section.kind == kind]
        if len(of_kind) != 1:
            raise Failure(
                f"{self.path} has {len(of_kind)} sections of type {kind}, expected one: not as the NDK makes libraries."
            )
        return of_kind[0]

    @cached_property
    def names(self) -> dict[int, str]:
        """Every symbol's name, by its place in the string table."""
        return {place: self._name(place) for place, _ in self._entries()}

    @cached_property
    def defined(self) -> set[int]:
        """The places of the names that are defined here."""
        return {place for place, section in self._entries() if section}

    def _entries(self) -> list[tuple[int, int]]:
        """Each symbol's place in the string table, and its section: 0 for an import."""
        first, end = self._symbols.offset + _SYMBOL.size, self._symbols.offset + self._symbols.size
        symbols = (_SYMBOL.unpack_from(self.data, at) for at in range(first, end, _SYMBOL.size))
        return [(name, section) for name, _, _, section, _, _ in symbols]

    def _name(self, place: int) -> str:
        start = self._strings + place
        return self.data[start : self.data.index(0, start)].decode()

    def defined_names(self) -> set[str]:
        return {self.names[place] for place in self.defined}

    def drop_versions(self) -> None:
        """Takes the version tables out of the list of what the loader reads."""
        first, end = self._dynamic.offset, self._dynamic.offset + self._dynamic.size
        entries = [_TAG.unpack_from(self.data, at) for at in range(first, end, _TAG.size)]
        tags = {tag for tag, _ in entries}
        if tags & _ANDROID_PACKED:
            raise Failure(
                f"{self.path} has relocations in Android's own format, which glibc cannot read: link it without --pack-dyn-relocs."
            )
        if _GNU_HASH not in tags:
            raise Failure(
                f"{self.path} has no GNU hash table, so renaming would hide its symbols: link it with --hash-style=gnu."
            )
        kept = [entry for entry in entries if entry[0] not in _VERSION_TAGS]
        kept += [(0, 0)] * (len(entries) - len(kept))
        for i, entry in enumerate(kept):
            _TAG.pack_into(self.data, first + i * _TAG.size, *entry)

    def rename(self, runtime: Collection[str]) -> None:
        """Gives the imports of OWN_NAMES their names, and all of C++'s runtime names with the same hash."""
        new = {place: self._new_name(place, runtime) for place in self.names}
        by_end: dict[int, list[int]] = {}
        for place, name in self.names.items():
            by_end.setdefault(place + len(name), []).append(place)
        for place, changed in new.items():
            name = self.names[place]
            if changed == name:
                continue
            # Names that end at the same byte are one string: what changes in one changes in all.
            for other in by_end[place + len(name)]:
                if self.names[other] not in ENDING_ALIKE and not _same_end(new[other], changed):
                    raise Failure(
                        f"{self.path}: {name} and {self.names[other]} are one string, and only one of them is to be renamed. If"
                        " host/bionic.c defines the other with its changed name too, add it to ENDING_ALIKE in tools/elf.py."
                    )
            start = self._strings + place
            self.data[start : start + len(name)] = changed.encode()

    def _new_name(self, place: int, runtime: Collection[str]) -> str:
        name = self.names[place]
        if name in OWN_NAMES and place not in self.defined:
            return OWN_NAMES[name]
        return same_hash(name) if name in runtime else name


def _same_end(one: str, other: str) -> bool:
    return one.endswith(other) or other.endswith(one)


def same_hash(name: str) -> str:
    """Another name with the same GNU hash, h = 33 h + c over its characters: one is one more, and the next 33 less. The last two that stay
    readable, so that names with the same end still have the same end."""
    for i in reversed(range(len(name) - 1)):
        pair = ord(name[i]) + 1, ord(name[i + 1]) - 33
        if all(33 <= code < 127 and code != ord("@") for code in pair):
            return name[:i] + chr(pair[0]) + chr(pair[1]) + name[i + 2 :]
    raise Failure(f"No readable name has the same hash as {name}.")


def for_glibc(sources: list[Path], folder: Path) -> None:
    """Writes copies of libraries that belong together into a folder, for glibc to load."""
    libraries = [Library(source) for source in sources]
    runtime: set[str] = set()
    for library in libraries:
        if library.path.name == "libc++_shared.so":
            # Outside of its namespace of its own: exceptions, type information, the allocation of objects.
            runtime = {name for name in library.defined_names() if "__ndk1" not in name}
    for library in libraries:
        library.drop_versions()
        library.rename(runtime)
        (folder / library.path.name).write_bytes(library.data)
