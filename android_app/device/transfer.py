"""Bundles and data to the phone, run folders back.

Files are compared by their SHA-256. One that is on the phone already is not sent again, and one that was cut off goes on where it was. A large
file goes in slices: each is appended to the file on the phone, and then removed. Slices land in the shell's own folder first. Since Android 11
adb may not create files in an app's external folder itself (it fails with "remote fchown failed"), while the shell may.
"""

import hashlib
import re
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from mesp.runtime.engine.bundle import MANIFEST, open_bundle
from mesp.runtime.errors import MespError, UsageError
from mesp.runtime.files import replacing

from .adb import Device, ShellFailed
from .app import ADAPTERS, BUNDLES, DATA, RUNS, check_name
from .reading import Reader, Unreadable

SLICE_BYTES = 16 << 20
STAGE = "/data/local/tmp/mesp"
# What the phone should still have free when everything is there: the run writes checkpoints.
SPARE_BYTES = 64 << 20

Advance = Callable[[int], None]
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Item:
    """A file to send: where it is, where it goes, and its SHA-256."""

    source: Path
    target: str
    size: int
    sha256: str


def bundle_items(bundle: Path, name: str) -> list[Item]:
    """The files of a bundle, the manifest last: without it, what is on the phone is no bundle.

    Raises:
        UsageError: not a bundle, or one whose files have changed.
    """
    files = open_bundle(bundle).manifest.files
    folder = f"{BUNDLES}/{check_name(name, 'The bundle')}"
    items = [Item(bundle / file, f"{folder}/{file}", entry["bytes"], entry["sha256"]) for file, entry in files.items()]
    return [*items, _item(bundle / MANIFEST, f"{folder}/{MANIFEST}")]


def data_item(data: Path) -> Item:
    """A data file. Its name on the phone tells its contents too, so that another file of this name does not take its place."""
    if not data.is_file():
        raise UsageError(f"There is no file {data}.")
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", data.name).lstrip(".") or "data"
    stem, _, suffix = plain.partition(".")
    digest = _sha256(data)
    item = _item(data, f"{DATA}/{stem[:60]}-{digest[:8]}{'.' if suffix else ''}{suffix}", digest)
    check_name(PurePosixPath(item.target).name, "The data file")
    return item


def adapter_items(adapter: Path) -> list[Item]:
    """The files of a PEFT adapter, in a folder that is named for its contents."""
    files = [adapter / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    if absent := [file for file in files if not file.is_file()]:
        raise UsageError(f"{adapter} is not a PEFT adapter: it has no {absent[0].name}.")
    folder = f"{ADAPTERS}/{_sha256(files[1])[:16]}"
    return [_item(file, f"{folder}/{file.name}") for file in files]


def missing(device: Device, items: Sequence[Item]) -> list[Item]:
    """Those of the files that are not on the phone as they should be."""
    present = device.patiently(lambda: digests(device, [item.target for item in items]))
    return [item for item in items if present.get(item.target) != item.sha256]


def send(device: Device, items: Sequence[Item], free_bytes: int | None, advance: Advance) -> None:
    """Sends files; through lost connections, as long as the phone comes back in time.

    Args:
        free_bytes: what the phone's storage has free, if that is known
        advance: told the bytes that have arrived

    Raises:
        UsageError: they do not fit.
        MespError: the phone could not store them, or was lost.
    """
    need = sum(item.size for item in items)
    if free_bytes is not None and need + SPARE_BYTES > free_bytes:
        raise UsageError(
            f"{device.serial} has {free_bytes / 1e6:.0f} MB free; {need / 1e6:.0f} MB are to be sent, and {SPARE_BYTES / 1e6:.0f} MB "
            "to be left for the run. Free some: mesp device clean removes the app's bundles, data and runs."
        )
    manifests = [item.target for item in items if PurePosixPath(item.target).name == MANIFEST]
    if manifests:  # what is half replaced is neither the old bundle nor the new one
        device.patiently(lambda: device.shell(f"rm -f {shlex.join(manifests)}"))
    for item in items:
        _send(device, item, advance)
    # Pages that are not yet in the storage are dirty, and would count as the run's memory where it maps them.
    device.patiently(lambda: device.shell("sync", seconds=600))


def _send(device: Device, item: Item, advance: Advance) -> None:
    part = _part(item)
    folders = shlex.join([str(PurePosixPath(item.target).parent), STAGE])
    # What the shell makes, the app must be able to read and to replace.
    device.patiently(lambda: device.shell(f"umask 0; mkdir -p {folders} && touch {shlex.quote(part)}"))
    told = 0
    with tempfile.TemporaryDirectory(prefix="mesp-") as temporary, item.source.open("rb") as file:
        piece = Path(temporary) / "slice"
        while (done := device.patiently(lambda: _arrived(device, part, item.size))) < item.size:
            advance(done - told)
            told = done
            file.seek(done)
            piece.write_bytes(file.read(SLICE_BYTES))
            device.patiently(partial(_append, device, piece, part, done))
    advance(item.size - told)
    if device.patiently(lambda: digests(device, [part])).get(part) != item.sha256:
        device.patiently(lambda: device.shell(f"rm -f {shlex.quote(part)}"))
        raise MespError(
            f"{item.source} is not on {device.serial} as it is here: it changed while it was sent, or on the way. Run the same command again."
        )
    device.patiently(
        lambda: device.shell(f"[ ! -e {shlex.quote(part)} ] || {shlex.join(['mv', '-f', part, item.target])}")
    )


def _part(item: Item) -> str:
    """Where a file grows: the name tells what it will be, so that a part of another one is not gone on with."""
    target = PurePosixPath(item.target)
    return str(target.with_name(f".{target.name}.{item.sha256[:12]}.part"))


def _arrived(device: Device, part: str, size: int) -> int:
    """The bytes of a growing file that are there, cut to whole slices: after a lost connection the last one may be there in part."""
    output = device.shell(f"stat -c %s {shlex.quote(part)}")
    arrived = Reader("stat -c %s FILE", output).whole(output.strip(), "a file's size")
    whole = arrived if arrived == size else min(arrived, size) // SLICE_BYTES * SLICE_BYTES
    if whole != arrived:
        device.shell(f"truncate -s {whole} {shlex.quote(part)}")
    return whole


def _append(device: Device, piece: Path, part: str, at: int) -> None:
    """Sends a slice and appends it; not a second time, if the first one's answer was lost."""
    staged, target = f"{STAGE}/slice", shlex.quote(part)
    device.push(piece, staged)
    try:
        device.shell(f'if [ "$(stat -c %s {target})" = {at} ]; then cat {staged} >> {target}; fi && rm -f {staged}')
    except ShellFailed as failed:
        device.shell(f"rm -f {staged}")
        reason = "its storage is full" if "No space left" in failed.output else failed.output
        raise MespError(
            f"{device.serial} could not store {part}: {reason}. Free some, and run the same command again: it goes on from there."
        ) from failed


def digests(device: Device, paths: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of those of the phone's files that are there."""
    loop = f'for file in {shlex.join(paths)}; do sha256sum < "$file" 2>/dev/null || echo absent; done 2>/dev/null'
    lines = device.shell(loop, seconds=600).splitlines()
    words = [line.partition(" ")[0] for line in lines]
    if len(words) != len(paths) or not all(word == "absent" or _SHA256.fullmatch(word) for word in words):
        raise Unreadable("sha256sum", "\n".join(lines), f"the SHA-256 of {len(paths)} files")
    return {path: word for path, word in zip(paths, words, strict=True) if word != "absent"}


def tidy(device: Device, items: Sequence[Item]) -> None:
    """Removes from a bundle's folder what is not of the bundle, such as parts of what was sent before."""
    folder = str(PurePosixPath(items[-1].target).parent)
    wanted = {item.target for item in items}
    others = [path for name in _names(device, folder) if (path := f"{folder}/{name}") not in wanted]
    if others:
        device.patiently(lambda: device.shell(f"rm -f {shlex.join(others)}"))


def _names(device: Device, folder: str) -> list[str]:
    """The files below a folder, as paths from there."""
    script = f"cd {shlex.quote(folder)} 2>/dev/null && find . -type f || true"
    return [line.removeprefix("./") for line in device.patiently(lambda: device.shell(script)).splitlines()]


def pull_run(device: Device, run: str, output: Path, checkpoints: bool = False) -> list[Path]:
    """Fetches a run's folder into ``output``, next to what is there. A file with the right contents is not fetched again.

    Args:
        checkpoints: those too; they are as large as the adapter and the optimizer's state

    Raises:
        UsageError: there is no such run.
        MespError: the phone was lost, or the storage here is full.
    """
    folder = f"{RUNS}/{check_name(run, 'The run')}"
    names = [name for name in _names(device, folder) if not PurePosixPath(name).name.startswith(".")]
    names = [name for name in names if checkpoints or not name.startswith("checkpoints/")]
    if not names:
        raise UsageError(f"{device.serial} has no run {run}. See what it has: mesp device status")
    present = device.patiently(lambda: digests(device, [f"{folder}/{name}" for name in names]))
    return [_pull(device, path, output / name, present.get(path)) for name in names if (path := f"{folder}/{name}")]


def _pull(device: Device, path: str, target: Path, digest: str | None) -> Path:
    if target.is_file() and digest == _sha256(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        device.patiently(lambda: device.pull(path, temporary))
    return target


def _item(source: Path, target: str, digest: str | None = None) -> Item:
    return Item(source, target, source.stat().st_size, digest or _sha256(source))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
