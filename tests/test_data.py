"""Rows to sequences: shifting, masks, windows, padding, cutting, order, and rows that are refused by their line."""

import json
from pathlib import Path
from typing import Any

import pytest
from mesp.runtime.data import Dataset, load_dataset
from mesp.runtime.errors import UsageError


class Characters:
    """A tokenizer for the tests: a character is a token."""

    eos_token_id = 3

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(character) % 90 + 4 for character in text]}


@pytest.fixture(autouse=True)
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda _: Characters())


def load(path: Path, tokens: int = 4) -> Dataset:
    return load_dataset(path, tokens, 97, path.parent)


def rows(folder: Path, *items: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items))
    return path


def test_labels_are_shifted_and_masked(tmp_path: Path) -> None:
    data = load(rows(tmp_path, {"input_ids": [5, 6, 7, 8], "labels": [-100, 6, -100, 8]}))
    (example,) = data.examples
    assert example.input_ids.tolist() == [5, 6, 7, 8]
    assert example.targets[0] == 6
    assert example.targets[2] == 8
    assert example.token_weight[:, 0].tolist() == [0.5, 0, 0.5, 0]
    assert (example.predictions, example.tokens) == (2, 4)


def test_a_long_row_is_cut_and_counted_and_a_short_one_padded(tmp_path: Path) -> None:
    long, short = list(range(1, 9)), [5, 6]
    data = load(rows(tmp_path, *[{"input_ids": ids, "labels": ids} for ids in (long, short)]))
    assert data.examples[0].targets.tolist() == [2, 3, 4, 5]
    assert (data.cut_rows, data.cut_tokens) == (1, 3)
    assert data.examples[1].token_weight[:, 0].tolist() == [1, 0, 0, 0]
    assert data.examples[1].input_ids.tolist() == [5, 6, 0, 0]


def test_text_is_cut_into_windows_that_predict_every_token_once(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("abcdefghij")
    ids = Characters()("abcdefghij")["input_ids"]
    examples = load(path).examples
    predicted = [
        t for e in examples for t, w in zip(e.targets.tolist(), e.token_weight[:, 0].tolist(), strict=True) if w
    ]
    assert predicted == ids[1:]
    assert [e.predictions for e in examples] == [4, 4, 1]


def test_documents_are_joined_by_the_end_of_text_token(tmp_path: Path) -> None:
    (example, *_) = load(rows(tmp_path, {"text": "ab"}, {"text": "cd"})).examples
    ids = Characters()("abcd")["input_ids"]
    assert example.input_ids.tolist() == [*ids[:2], 3, ids[2]]


def test_the_order_depends_on_seed_and_epoch_alone(tmp_path: Path) -> None:
    data = load(rows(tmp_path, *[{"input_ids": [i, i + 1], "labels": [i, i + 1]} for i in range(20)]))

    def order(**options: Any) -> list[int]:
        return [int(example.input_ids[0]) for example in data.order(**options)]

    assert order(epochs=1, shuffle=False, seed=0) == list(range(20))
    assert order(epochs=2, shuffle=True, seed=1) == order(epochs=2, shuffle=True, seed=1)
    assert order(epochs=1, shuffle=True, seed=1) != order(epochs=1, shuffle=True, seed=2)
    twice = order(epochs=2, shuffle=True, seed=1)
    assert sorted(twice[:20]) == sorted(twice[20:]) == list(range(20))
    assert twice[:20] != twice[20:]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: not JSON"),
        ({"prompt": "a"}, "line 2: a row is"),
        ([1, 2], "line 2: a row is"),
        ({"text": 5}, 'line 2: "text" must be a string'),
        ({"text": "mixed"}, "line 2: rows of"),
        ({"input_ids": [1, 2], "labels": [1]}, "line 2: 2 input_ids but 1 labels"),
        ({"input_ids": [1, "2"], "labels": [1, 2]}, 'line 2: "input_ids" must be a list of whole numbers'),
        ({"input_ids": [1, 97], "labels": [1, 2]}, "line 2: token id 97"),
        ({"input_ids": [1, 2], "labels": [1, -1]}, "line 2: label -1"),
    ],
)
def test_a_row_that_is_neither_kind_is_refused_by_its_line(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(rows(tmp_path, {"input_ids": [1, 2], "labels": [1, 2]}, row))


@pytest.mark.parametrize(
    "content", ["", "\n\n", '{"input_ids": [1, 2], "labels": [-100, -100]}\n', '{"input_ids": [1], "labels": [1]}\n']
)
def test_data_with_nothing_to_predict_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match="no row with a token to predict"):
        load(path)


def test_no_file_and_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data file"):
        load(tmp_path / "absent.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        load(tmp_path / "binary.txt")


def test_text_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abc")
    with pytest.raises(UsageError, match="no tokenizer"):
        load_dataset(tmp_path / "text.txt", 4, 97, tmp_path / "absent")
