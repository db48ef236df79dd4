"""Data on the Hugging Face Hub, brought here by huggingface_hub, which keeps it in its cache.

    hf://datasets/OWNER/NAME/FILE             a file of a data set; hf://datasets/OWNER/NAME@REVISION/FILE of another revision than main
    OWNER/NAME, hf://datasets/OWNER/NAME      a whole data set: its one data file, or its one file for training. Files that are parts of
                                              one, as in train-00000-of-00003.parquet, are read one after another

Where a data set has several files to choose from, they are named, and nothing is read.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import UsageError, in_a_line
from .records import check_file, format_of, is_data

# As a path it has lost a slash.
_ADDRESS = re.compile(r"hf:/{1,2}datasets/(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PART = re.compile(r"-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})(?:-[0-9a-f]+)?(?=\.)")
_TRAINING = re.compile(r"(?:^|[/._-])train(?:ing)?(?:$|[/._-])")
_NO_ROWS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"}
_NO_TEXT = re.compile(r"(?:readme|license|requirements|citation)", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """Where on the Hub data is: all of a data set if no file is named."""

    repo: str
    revision: str | None = None
    file: str | None = None


def place_of(data: Path) -> Place | None:
    """The place on the Hub that ``--data`` names; None for a file here.

    Raises:
        UsageError: an address of the Hub that is none of a data set.
    """
    text = str(data)
    if text.startswith("hf:"):
        if not (found := _ADDRESS.fullmatch(text)):
            raise UsageError(f"{spelled(data)} is no data on the Hub. Expected hf://datasets/OWNER/NAME/FILE.")
        return Place(**found.groupdict())
    here = data.exists() or data.parent.exists() or is_data(data)
    return None if here or not _NAME.fullmatch(text) else Place(text)


def spelled(data: Path) -> str:
    """As a person writes it: an address of the Hub has two slashes, of which a path keeps one."""
    return re.sub("^hf:/+", "hf://", str(data))


def check_data(data: Path) -> None:
    """Looks for what ``--data`` names, as far as that needs no network.

    Raises:
        UsageError: no file, a folder, a file that is not read, or no address of data.
    """
    place = place_of(data)
    if place is None:
        check_file(data)
    elif place.file:
        format_of(Path(place.file))


def data_files(data: Path) -> tuple[list[Path], list[str]]:
    """The files that ``--data`` names, here or brought here, and what a person should know of how they were chosen.

    Raises:
        UsageError: no file, or the Hub cannot give it, or has several to choose from.
    """
    place = place_of(data)
    if place is None:
        check_file(data)
        return [data], []
    names = [place.file] if place.file else _choose(_listed(place), place.repo)
    files = [_download(place, name) for name in names]
    parts = f" and {len(names) - 1} more parts" if len(names) > 1 else ""
    return files, [] if place.file else [f"{place.repo} on the Hub: {names[0]}{parts}"]


def _choose(files: list[str], repo: str) -> list[str]:
    """A data set's one file to train on, or its parts in their order."""
    named = [(file, PurePosixPath(file).name) for file in files if is_data(Path(file))]
    rows = [file for file, name in named if format_of(Path(file)) != "text" and name not in _NO_ROWS]
    texts = [file for file, name in named if format_of(Path(file)) == "text" and not _NO_TEXT.match(name)]
    groups: dict[str, list[str]] = {}
    for file in sorted(rows or texts):
        groups.setdefault(_PART.sub("", file), []).append(file)
    training = {name: parts for name, parts in groups.items() if _TRAINING.search(name)}
    for chosen in (groups, training):
        if len(chosen) == 1:
            (parts,) = chosen.values()
            _check_whole(parts, repo)
            return parts
    if not groups:
        raise UsageError(
            f"{repo} on the Hub has no data file that is read: .jsonl, .json, .csv, .tsv, .parquet or .txt."
        )
    some = [f"hf://datasets/{repo}/{parts[0]}" for parts in (training or groups).values()]
    raise UsageError(
        f"{repo} on the Hub has {len(some)} files to choose from. Name one: {', '.join(some[:6])}{', …' if len(some) > 6 else ''}"
    )


def _check_whole(parts: list[str], repo: str) -> None:
    found = [_PART.search(part) for part in parts]
    numbers = [int(part["number"]) for part in found if part]
    counts = {int(part["count"]) for part in found if part}
    if numbers and (len(counts) > 1 or numbers != list(range(counts.pop()))):
        raise UsageError(
            f"{repo} on the Hub has not all parts of {parts[0]}. Name a file: hf://datasets/{repo}/{parts[0]}"
        )


def _listed(place: Place) -> list[str]:
    from huggingface_hub import HfApi

    with _explained(place.repo):
        # Its list of files is asked for in one request, which fails at once without a network.
        return [file.rfilename for file in HfApi().dataset_info(place.repo, revision=place.revision).siblings or ()]


def _download(place: Place, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    with _explained(f"{place.repo}/{name}"):
        return Path(hf_hub_download(place.repo, name, repo_type="dataset", revision=place.revision))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Says what the Hub, the network or the disk did not give."""
    # HTTPError is of the HTTP library, which is another one in other versions.
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

    try:
        yield
    except (HfHubHTTPError, HTTPError, EntryNotFoundError, OSError, ValueError) as error:
        raise UsageError(
            f"{what} is no file here, and the Hugging Face Hub could not give data of that name: {in_a_line(error)}"
        ) from error
