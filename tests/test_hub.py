"""Data from the Hugging Face Hub: huggingface_hub against a server on this machine that stands for it."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from mesp.runtime.data.dataset import load_data
from mesp.runtime.data.hub import Place, check_data, data_files, place_of, spelled
from mesp.runtime.errors import UsageError
from mesp.runtime.training.settings import TrainSettings

COMMIT = "0" * 39 + "1"
Files = dict[str, bytes]


def row(number: int) -> bytes:
    return json.dumps({"input_ids": [number, 1], "labels": [number, 1]}).encode() + b"\n"


SETS: dict[str, Files] = {
    "play/one": {"README.md": b"# One", "data.jsonl": row(5), "dataset_info.json": b"{}"},
    "play/split": {"data/train.jsonl": row(6), "data/test.jsonl": row(7), "LICENSE.txt": b"free"},
    "play/parts": {f"data/train-{n:05}-of-00003.jsonl": row(10 + n) for n in (2, 0, 1)} | {"data/test.jsonl": row(7)},
    "play/broken": {"train-00001-of-00002.jsonl": row(5)},
    "play/several": {"a/train.jsonl": row(5), "b/train.jsonl": row(6)},
    "play/text": {"README.md": b"# Text", "hamlet.txt": b"To be", "requirements.txt": b"torch"},
    "play/none": {"README.md": b"# None", "image.png": b""},
}


class _Hub(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[1:3])
        files = SETS.get(name)
        file = "/".join(parts[5:])
        if files is None or (parts[0] != "api" and file not in files):
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound" if files is None else "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        about = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]}
        content = json.dumps(about).encode() if parts[0] == "api" else files[file]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_GET = do_HEAD = _answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", address)
    monkeypatch.chdir(tmp_path)
    yield
    server.shutdown()
    server.server_close()


def first_ids(data: str) -> list[int]:
    examples = load_data(Path(data), 10, 100, Path("no tokenizer"))[0].examples
    return [int(example.input_ids[0]) for example in examples]


def test_a_file_of_a_data_set_is_read() -> None:
    assert first_ids("hf://datasets/play/several/b/train.jsonl") == [6]
    assert first_ids("hf://datasets/play/several@main/a/train.jsonl") == [5]


def test_a_data_set_is_read_where_one_file_is_to_train_on() -> None:
    assert first_ids("play/one") == [5]
    assert first_ids("hf://datasets/play/split") == [6]
    assert first_ids("play/parts") == [10, 11, 12]
    notes = load_data(Path("play/parts"), 10, 100, Path("no tokenizer"))[0].notes
    assert notes == ("play/parts on the Hub: data/train-00000-of-00003.jsonl and 2 more parts",)
    assert [path.name for path in data_files(Path("play/text"))[0]] == ["hamlet.txt"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "play/several",
            "2 files to choose from. Name one: hf://datasets/play/several/a/train.jsonl, hf://datasets/play/several/b",
        ),
        ("play/none", "has no data file that is read"),
        ("play/broken", "has not all parts of train-00001-of-00002.jsonl"),
        ("play/absent", "play/absent is no file here, and the Hugging Face Hub could not give data of that name"),
        (
            "hf://datasets/play/one/absent.csv",
            "play/one/absent.csv is no file here, and the Hugging Face Hub could not",
        ),
        ("hf://datasets/play/one/image.png", ".png files are not read"),
        ("hf://models/play/one", "hf://models/play/one is no data on the Hub. Expected hf://datasets/OWNER/NAME/FILE"),
        ("hf://datasets/play", "is no data on the Hub"),
        ("absent.jsonl", "There is no data file at absent.jsonl"),
        ("play/absent.jsonl", "There is no data file at play/absent.jsonl"),
    ],
)
def test_what_cannot_be_chosen_or_had_is_refused(data: str, message: str) -> None:
    def read() -> None:
        check_data(Path(data))
        first_ids(data)

    with pytest.raises(UsageError) as error:
        read()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_no_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match="play/one is no file here, and the Hugging Face Hub could not give"):
        data_files(Path("play/one"))


def test_files_here_come_first(tmp_path: Path) -> None:
    assert place_of(Path("play/one")) == Place("play/one")
    (tmp_path / "play").mkdir()
    assert place_of(Path("play/one")) is None  # a name that is mistyped below a folder that is here is none of the Hub
    assert place_of(Path("/play/one")) is None
    assert place_of(Path("hf://datasets/a/b@v1/c/d.csv")) == Place("a/b", "v1", "c/d.csv")


def test_an_address_keeps_its_spelling_in_run_json() -> None:
    settings = TrainSettings(Path("hf://datasets/play/one"), eval_data=Path("held/out.txt"))
    assert settings.to_json()["data"] == spelled(settings.data) == "hf://datasets/play/one"
    assert settings.to_json()["eval_data"] == "held/out.txt"
