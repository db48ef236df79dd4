"""Mutated data, configuration files, states of runs and outputs of phones: each taken, or refused with one sentence."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from mesp.device import dumpsys, kernel_files
from mesp.runtime.contract.run_files import RUN, STEPS
from mesp.runtime.data.dataset import load_data
from mesp.runtime.data.rows import read_columns
from mesp.runtime.training.checkpoints import read_checkpoint
from mesp.runtime.training.config import merged, read_config
from mesp.runtime.training.resume import resumed
from mesp.runtime.training.run_writer import RunWriter
from mesp.runtime.training.settings import TrainSettings

from .fuzzing import VALUES, changed_bytes, changed_json, examples, taken_or_refused
from .test_data import CHATML, save_tokenizer

PHONES = Path(__file__).parents[1] / "android_app" / "tests" / "phones"
PAIR = {"prompt": "to be", "completion": " or not"}
ROWS: dict[str, dict[str, Any]] = {
    "marked": {
        "messages": [
            {"role": "system", "content": "a"},
            {"role": "user", "content": "b", "weight": 0},
            {"role": "assistant", "content": "c", "weight": 1, "train": True},
        ],
        "tools": [],
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "c"},
    "alpaca": {"instruction": "a", "input": "b", "output": "c", "system": "d", "history": None},
    "padded": {
        "input_ids": [0, 5, 6, 7],
        "labels": [-100, 5, 6, 7],
        "attention_mask": [0, 1, 1, 1],
        "position_ids": [1, 0, 1, 2],
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer, and an empty file of each name that is written."""
    root = tmp_path_factory.mktemp("fuzz")
    save_tokenizer(root / "tokenizer", template=CHATML)
    for name in (*FILES, "run.toml", "rows.json", RUN, STEPS, "step-1/trainer_state.json"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    return root


def _text(value: Any) -> bytes:
    return json.dumps(value).encode(errors="surrogatepass")


@pytest.mark.parametrize("name", ROWS)
def test_lists_of_rows(folder: Path, name: str) -> None:
    path = folder / "rows.json"

    @examples(1)
    @given(
        changed_json([ROWS[name], ROWS[name]]) | changed_bytes(_text([ROWS[name]])), st.sampled_from((None, "text=id"))
    )
    def check(changed: Any, columns: str | None) -> None:
        path.write_bytes(changed if isinstance(changed, bytes) else _text(changed))
        taken_or_refused(lambda: load_data(path, 8, 400, folder / "tokenizer", columns=columns), folder)

    check()


def _parquet() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([ROWS["marked"], {**ROWS["marked"], "id": 1}]), file)
    return file.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "rows.csv": lambda: b'prompt,completion,id\n"a ""b"", c","d\ne",1\nf,g,\n',
    "rows.tsv": lambda: b"text\tid\na\t1\n",
    "rows.parquet": _parquet,
    "rows.jsonl.gz": lambda: gzip.compress(_text(PAIR) * 3, mtime=0),
    "text.md": lambda: "# To be\n\nnaïve\n".encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_files(folder: Path, name: str) -> None:
    path = folder / name

    @examples(1)
    @given(changed_bytes(FILES[name]()))
    def check(changed: bytes) -> None:
        path.write_bytes(changed)
        taken_or_refused(lambda: load_data(path, 8, 400, folder / "tokenizer"), folder)

    check()


CONFIG = (
    b'data = "rows.jsonl"\nsteps = 20\nlr = 1e-4\noptimizer = "sgd"\nmomentum = 0.9\nmap = "text=a"\npacking = false\n'
)


def test_configuration_files(folder: Path) -> None:
    path = folder / "run.toml"

    @examples(2)
    @given(changed_bytes(CONFIG))
    def check(changed: bytes) -> None:
        path.write_bytes(changed)
        taken_or_refused(lambda: merged({"steps": 3}, read_config(path)), folder)

    check()


def test_names_of_columns(folder: Path) -> None:
    @examples(1)
    @given(st.text(alphabet="prompt,complein= \0é") | st.text(max_size=8))
    def check(text: str) -> None:
        taken_or_refused(lambda: read_columns(text), folder)

    check()


def test_states_of_runs(folder: Path) -> None:
    settings = TrainSettings(Path("rows.jsonl"), steps=2).to_json()
    run = {
        "settings": settings,
        "bundle": {"path": "bundle", "sha256": {"a": "0"}},
        "data": {},
        "eval_data": None,
        "adapter_sha256": None,
        "started": "2026-01-31T09:05:00",
    }

    @examples(2)
    @given(changed_json(run) | changed_bytes(_text(run)))
    def check(changed: Any) -> None:
        (folder / RUN).write_bytes(changed if isinstance(changed, bytes) else _text(changed))
        taken_or_refused(lambda: (RunWriter.started(folder), resumed(folder, {"lr": 0.1})), folder)

    check()


def test_logs_and_positions(folder: Path) -> None:
    manifest: Any = SimpleNamespace(lora=SimpleNamespace(state="lora"))  # enough to find that there is no adapter
    position = {"step": 1, "evaluated_step": 0, "best_step": 1, "best_loss": 0.5, "worse": 0, "log_bytes": {STEPS: 5}}

    @examples(2)
    @given(changed_json(position), changed_bytes(_text({"step": 1, "loss": 0.5}) + b"\n"))
    def check(state: Any, log: bytes) -> None:
        (folder / STEPS).write_bytes(log)
        (folder / "step-1" / "trainer_state.json").write_bytes(_text(state))
        taken_or_refused(lambda: RunWriter(folder).lines(STEPS), folder)
        taken_or_refused(lambda: read_checkpoint(folder / "step-1", manifest, {"lora": torch.zeros(1)}), folder)

    check()


READERS: dict[str, Callable[[str], Any]] = {
    "battery": dumpsys.battery,
    "thermalservice": dumpsys.thermal,
    "meminfo": dumpsys.meminfo,
    "exit-info": dumpsys.exits,
    "package": dumpsys.package,
    "df": kernel_files.free_bytes,
    "getprop": kernel_files.properties,
    "meminfo-proc": kernel_files.fields,
}


@pytest.mark.parametrize("name", [name for name in READERS if (PHONES / "pixel8-android14" / f"{name}.txt").exists()])
def test_outputs_of_phones(folder: Path, name: str) -> None:
    text = (PHONES / "pixel8-android14" / f"{name}.txt").read_bytes()

    @examples(0.5)
    @given(changed_bytes(text))
    def check(changed: bytes) -> None:
        taken_or_refused(lambda: READERS[name](changed.decode(errors="replace")), folder)

    check()


def test_settings(folder: Path) -> None:
    names = st.sampled_from([*TrainSettings.__dataclass_fields__, "more"])

    @examples(2)
    @given(st.dictionaries(names, VALUES, max_size=4))
    def check(values: dict[str, Any]) -> None:
        data = {"data": "rows.jsonl", **{name: value for name, value in values.items() if name != "more"}}
        taken_or_refused(lambda: merged({}, data), folder)

    check()
