"""Rows to sequences: files, bad rows by their line, packing, cutting, the held-out part, order and padding."""

import bz2
import csv
import gzip
import hashlib
import itertools
import json
import lzma
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mesp.runtime.data.conversations import touching
from mesp.runtime.data.dataset import Dataset, inputs, load_data, spread
from mesp.runtime.data.labels import MASKED
from mesp.runtime.engine.sizes import Size, sizes, smallest
from mesp.runtime.errors import UsageError

TEXT = """Who's there? Nay, answer me. Stand and unfold yourself. Long live the king! Bernardo? He.
to be, or not to be, that is the question\n\n\n\nnaïve 你好 already closed no prompt\n\n\n\n"""
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
END = 2
VOCABULARY = 400


def save_tokenizer(folder: Path, template: str | None = None, bos: bool = False, trim_offsets: bool = False) -> None:
    """A byte-level BPE tokenizer with merges of its own, ChatML's special tokens, and <|im_end|> as EOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
        )
    if trim_offsets:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=template,
    ).save_pretrained(folder)


def ids_row(*ids: int, masked: int = 0) -> dict[str, list[int]]:
    return {"input_ids": list(ids), "labels": [MASKED] * masked + list(ids[masked:])}


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
    )
    return path


def load(path: Path, tokens: int = 100, **options: Any) -> Dataset:
    return load_data(path, tokens, VOCABULARY, path.parent, **options)[0]


def encode(folder: Path, text: str) -> list[int]:
    ids: list[int] = AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    return ids


def listed(dataset: Dataset | None) -> list[tuple[list[int], list[int]]]:
    assert dataset is not None
    return [(example.input_ids.tolist(), example.targets.tolist()) for example in dataset.examples]


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(["", *(json.dumps(row, ensure_ascii=False) for row in rows)]))


# U+2028 and a lone CR end a line for str.splitlines, but not in JSON, CSV or here.
PAIRS = [
    {"prompt": 'Who\'s "there",\n\n', "completion": "Nay,\u2028answer me"},
    {"prompt": "to be\r", "completion": "你好"},
]


@pytest.mark.parametrize(
    ("name", "writer"),
    [
        ("rows.jsonl", write_json_lines),
        ("rows.json", write_json_lines),
        ("rows", write_json_lines),
        ("rows.csv", write_csv),
        ("rows.CSV", write_csv),
        ("rows.parquet", write_parquet),
    ],
)
def test_every_format_holds_the_same_rows(tmp_path: Path, name: str, writer: Any) -> None:
    save_tokenizer(tmp_path)
    writer(tmp_path / name, PAIRS)
    assert listed(load(tmp_path / name)) == listed(load(write(tmp_path, *PAIRS)))
    assert load(tmp_path / name).examples[1].tokens == len(encode(tmp_path, "to be\r你好"))


def test_parquet_holds_messages_and_token_ids(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, template=CHATML)
    question, answer = {"role": "user", "content": "Who?", "name": None}, {"role": "assistant", "content": "Nay."}
    for rows in ([{"messages": [question, answer], "source": "play"}], [ids_row(5, 6, 7, masked=1)] * 2):
        write_parquet(tmp_path / "rows.parquet", rows)
        assert listed(load(tmp_path / "rows.parquet")) == listed(load(write(tmp_path, *rows)))


@pytest.mark.parametrize(("suffix", "module"), [(".gz", gzip), (".bz2", bz2), (".xz", lzma)])
@pytest.mark.parametrize("name", ["text.txt", "rows.csv", "rows.jsonl"])
def test_files_may_be_compressed_and_begin_with_a_byte_order_mark(
    tmp_path: Path, name: str, suffix: str, module: Any
) -> None:
    save_tokenizer(tmp_path)
    content = {"text.txt": "to be\n", "rows.csv": "text\nto be\n", "rows.jsonl": '{"text": "to be"}\n'}[name]
    (tmp_path / name).write_text(content)
    with module.open(tmp_path / (name + suffix), "wb") as file:
        file.write(b"\xef\xbb\xbf" + content.encode())
    assert listed(load(tmp_path / (name + suffix))) == listed(load(tmp_path / name))


def test_a_large_csv_field_is_read(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    write_csv(tmp_path / "rows.csv", [{"text": "to be, " * 30_000}])
    assert len(load(tmp_path / "rows.csv").examples) > 100


def damaged(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


LINES = b"".join(b'{"text": "%d"}\n' % number for number in range(200))
LINES_GZ = gzip.compress(LINES)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl.gz",
            LINES_GZ[:-20],
            r"a.jsonl.gz, after line \d+: cannot be read \(Compressed file ended",
        ),
        ("a.txt.gz", LINES_GZ[:100] + b"\xff" * 100, r"a.txt.gz, after line \d+: cannot be read \(Error -3"),
        ("a.txt.gz", b"not compressed", "a.txt.gz, after line 0: cannot be read .Not a gzipped file"),
        (
            "a.jsonl.bz2",
            bz2.compress(LINES)[:-9],
            r"a.jsonl.bz2, after line \d+: cannot be read \(Compressed file ended",
        ),
        ("a.jsonl.xz", b"not compressed", "a.jsonl.xz, after line 0: cannot be read .Input format not supported"),
        ("a.txt", b"one\ntw\xff", "a.txt, line 2: not UTF-8 text"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "a.jsonl, line 2: not UTF-8 text"),
        ("a.parquet", b"PAR1", "a.parquet, after row 0: not sound Parquet"),
        ("a.parquet.gz", b"", "a.parquet.gz: Parquet is compressed inside"),
        ("a.csv", b'text,more\na,b\n"c\nd",e\nf\n', "a.csv, line 5: 1 fields, but the header has 2"),
        ("a.csv", b'text\n"a"b\n', "a.csv, line 2: not CSV"),
        ("a.csv", b'text\na\n"b\n', "a.csv, line 3: not CSV"),
        ("a.csv", b"prompt,answer\na,b\n", 'a.csv, line 2: A row has .* this one has "prompt", "answer"'),
        ("a.csv", b"text\n", "a.csv has no rows"),
        ("a.txt", b" \n", "a.txt has no rows"),
        ("a.jsonl", b"\n\n", "a.jsonl has no rows"),
    ],
)
def test_a_damaged_or_empty_file_is_refused_by_its_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    save_tokenizer(tmp_path)
    with pytest.raises(UsageError, match=message):
        load(damaged(tmp_path, name, content))


def test_parquet_text_that_is_not_utf_8_is_refused_by_its_row(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    column = pyarrow.array([b"a", b"b", b"\xff"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": column}), tmp_path / "rows.parquet")
    with pytest.raises(UsageError, match=r"rows.parquet, after row \d: not sound Parquet .*utf-8"):
        load(tmp_path / "rows.parquet")


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data file"):
        load(tmp_path / "absent.txt")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "rows.parquet", [{"text": "a"}])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'mesp\[parquet\]'"):
        load(tmp_path / "rows.parquet")


USER, ASSISTANT = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        (ids_row(1, 2), "{", "not JSON"),
        (ids_row(1, 2), "[" * 100_000, "not JSON"),
        (ids_row(1, 2), [1, 2], r"\[1, 2\] is not an object"),
        (ids_row(1, 2), {"prompt": "a"}, 'A row has .* this one has "prompt"'),
        (ids_row(1, 2), {}, "this one has nothing"),
        (ids_row(1, 2), {"text": "a", "messages": []}, 'the row is one of "text" and of "messages"'),
        (ids_row(1, 2), {"text": "a"}, '"text" after rows of "input_ids", "labels"'),
        (ids_row(1, 2), {"input_ids": [1, 2], "labels": [1]}, "2 input_ids but 1 labels"),
        (ids_row(1, 2), {"input_ids": [1, "2"], "labels": [1, 2]}, '"input_ids" must be a list of whole numbers'),
        (ids_row(1, 2), {"input_ids": [1, 2], "labels": [1, True]}, '"labels" must be a list of whole numbers'),
        (ids_row(1, 2), ids_row(1, VOCABULARY), f"token id {VOCABULARY} is not in the model's vocabulary"),
        (ids_row(1, 2), {"input_ids": [1, 2], "labels": [1, -1]}, "label -1 is not in the model's vocabulary"),
        ({"text": "a"}, {"text": 5}, '"text" must be a string, not 5'),
        ({"text": "a"}, r'{"text": "\ud800"}', '"text" is not Unicode text'),
        ({"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": None}, '"completion" must be a string'),
        ({"prompt": "a", "completion": "b"}, {"prompt": [USER], "completion": "b"}, '"prompt" must be a string'),
        ({"messages": [USER, ASSISTANT]}, {"messages": []}, '"messages" must be a list of'),
        ({"messages": [USER, ASSISTANT]}, {"messages": "a"}, '"messages" must be a list of'),
        ({"messages": [USER, ASSISTANT]}, {"messages": [USER, "b"]}, r"messages\[1\] must be"),
        ({"messages": [USER, ASSISTANT]}, {"messages": [USER, {**ASSISTANT, "role": "bot"}]}, "has the role 'bot'. Roles are"),
        ({"messages": [USER, ASSISTANT]}, {"messages": [USER, {**ASSISTANT, "content": ["b"]}]}, "must be a string, not .'b'."),
        ({"messages": [USER, ASSISTANT]}, {"messages": [USER, {"role": "assistant"}]}, "must be a string, not None"),
        ({"messages": [USER, ASSISTANT]}, {"messages": [USER, {**ASSISTANT, "tool_calls": [1]}]}, r'messages\[1\] has "tool_calls"'),
        ({"messages": [USER, ASSISTANT]}, {"messages": [USER, ASSISTANT], "tools": [1]}, '"tools" would change what is trained on'),
        ({"messages": [USER, ASSISTANT]}, {"messages": [USER]}, "no message is the assistant's"),
        ({"messages": [USER, ASSISTANT]}, {"messages": [ASSISTANT, USER]}, "the first message is the assistant's"),
    ],
)  # fmt: skip
def test_a_malformed_row_is_refused_by_its_line(tmp_path: Path, good: Any, bad: Any, message: str) -> None:
    save_tokenizer(tmp_path, template=CHATML)
    with pytest.raises(UsageError, match="rows.jsonl, line 3: .*" + message):
        load(write(tmp_path, good, "", bad))


def test_a_token_that_the_model_does_not_have_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    with pytest.raises(UsageError, match="line 1: token id .* is not in the model's vocabulary of 50"):
        load_data(write(tmp_path, {"text": "to be"}), 100, 50, tmp_path)


def test_text_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 1: the row is text, but this bundle has no tokenizer"):
        load_data(write(tmp_path, {"text": "to be"}), 100, VOCABULARY, tmp_path / "absent")


def test_a_text_file_is_cut_into_windows_that_predict_every_token_once(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    path = damaged(tmp_path, "text.txt", TEXT.encode())
    ids = encode(tmp_path, TEXT)
    for packing in (True, False):
        examples = load(path, tokens=7, packing=packing).examples
        assert [token for example in examples for token in example.targets.tolist()] == ids[1:]
        assert [token for example in examples for token in example.input_ids.tolist()] == ids[:-1]
        assert [example.tokens for example in examples[:-1]] == [7] * (len(examples) - 1)
    whole = load(path, tokens=len(ids) - 1)
    assert (len(whole.examples), whole.cut_rows, whole.masked_rows) == (1, 0, 0)


def test_texts_are_closed_and_joined_and_none_predicts_the_next(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    path = write(tmp_path, {"text": "ab"}, {"text": "cd"})
    (a, b), (c, d) = encode(tmp_path, "ab"), encode(tmp_path, "cd")
    joined = [([a, b, END, c, d], [b, END, MASKED, d, END])]
    assert listed(load(path)) == joined
    assert listed(load(path, tokens=3)) == [([a, b, END], [b, END, MASKED]), ([c, d], [d, END])]
    assert listed(load(path, packing=False)) == [([a, b], [b, END]), ([c, d], [d, END])]


def test_a_long_row_is_cut_and_counted_and_one_without_targets_left_out(tmp_path: Path) -> None:
    rows = [
        ids_row(*range(1, 9)),
        ids_row(5),
        ids_row(5, 6, 7, masked=3),
        ids_row(*range(1, 9), masked=5),
        ids_row(5, 6),
    ]
    data = load(write(tmp_path, *rows), tokens=4)
    assert listed(data) == [([1, 2, 3, 4], [2, 3, 4, 5]), ([5], [6])]
    assert (data.cut_rows, data.cut_tokens, data.masked_rows) == (2, 6, 3)


def test_data_with_nothing_to_predict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rows.jsonl has no token to predict.* cut at 5 tokens"):
        load(write(tmp_path, ids_row(*range(9), masked=5), ids_row(1)), tokens=4)


def split(path: Path, fraction: float, seed: int = 0, **options: Any) -> tuple[Dataset, Dataset | None]:
    return load_data(path, 4, VOCABULARY, path.parent, eval_split=fraction, seed=seed, **options)


def test_held_out_rows_are_chosen_by_the_seed_and_keep_their_order(tmp_path: Path) -> None:
    path = write(tmp_path, *[ids_row(i, i + 1) for i in range(10)])
    first = sorted(range(10), key=lambda i: hashlib.sha256(f"7 split {i}".encode()).hexdigest())[:3]
    rest, held_out = split(path, 0.25, seed=7)
    assert [ids for ids, _ in listed(held_out)] == [[i] for i in sorted(first)]
    assert [ids for ids, _ in listed(rest)] == [[i] for i in range(10) if i not in first]
    assert listed(split(path, 0.25, seed=8)[1]) != listed(held_out)


def test_texts_are_split_before_they_are_joined(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    texts = [{"text": letter} for letter in "abcd"]
    rest, held_out = split(write(tmp_path, *texts), 0.5)
    held = sorted(sorted(range(4), key=lambda i: hashlib.sha256(f"0 split {i}".encode()).hexdigest())[:2])
    assert listed(held_out) == listed(load(write(tmp_path, *[texts[i] for i in held])))
    assert listed(rest) == listed(load(write(tmp_path, *[texts[i] for i in range(4) if i not in held])))


def test_a_text_file_is_split_at_its_end(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    ids = encode(tmp_path, TEXT)
    rest, held_out = split(damaged(tmp_path, "text.txt", TEXT.encode()), 0.2)
    held = int(len(ids) * 0.2 + 0.5)
    assert [token for _, targets in listed(rest) for token in targets] == ids[1:-held]
    assert [token for _, targets in listed(held_out) for token in targets] == ids[-held:][1:]


def test_held_out_data_may_be_a_file_of_another_kind(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    held = damaged(tmp_path, "held.txt", b"to be")
    data, held_out = load_data(write(tmp_path, ids_row(5, 6)), 100, VOCABULARY, tmp_path, eval_path=held)
    assert listed(data) == [([5], [6])]
    assert listed(held_out) == listed(load(held))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_split": 0.0}, "--eval-split 0.0 must be a fraction above 0 and below 1"),
        ({"eval_split": 1.0}, "--eval-split 1.0 must be a fraction above 0 and below 1"),
        ({"eval_split": float("nan")}, "--eval-split nan must be a fraction"),
        ({"eval_split": 0.1}, "holds out 0 of the 4 rows .* both parts need one"),
        ({"eval_split": 0.9}, "holds out 4 of the 4 rows .* both parts need one"),
        ({"eval_split": 0.5, "eval_path": Path("held.jsonl")}, "--eval-data or --eval-split, not both"),
        ({"eval_split": 0.75}, "What --eval-split 0.75 (leaves|holds out) of .*rows.jsonl has no token to predict"),
        ({"eval_path": Path("absent.jsonl")}, "no data file at absent.jsonl"),
    ],
)
def test_a_held_out_part_that_cannot_be_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    rows = [ids_row(5, 6), *[ids_row(5, 6, masked=2)] * 3]
    with pytest.raises(UsageError, match=message):
        load_data(write(tmp_path, *rows), 4, VOCABULARY, tmp_path, **options)


def test_the_shuffled_order_is_that_of_the_hashes(tmp_path: Path) -> None:
    data = load(write(tmp_path, *[ids_row(i, 0) for i in range(5)]))

    def order(start: int, count: int, shuffle: bool = True, seed: int = 3) -> list[int]:
        return [int(example.input_ids[0]) for example in islice(data.order(start, shuffle, seed), count)]

    assert order(0, 12, shuffle=False) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    # In a shell: for i in 0 1 2 3 4; do echo "$(printf "3 0 $i" | sha256sum) $i"; done | sort, and with "3 1 $i"
    assert order(0, 10) == [4, 2, 0, 1, 3, 4, 0, 3, 1, 2]
    assert [order(start, 10) for start in range(12)] == [order(0, 22)[start : start + 10] for start in range(12)]
    assert order(0, 5, seed=4) != order(0, 5)


def test_the_fingerprint_changes_with_any_value_and_any_border(tmp_path: Path) -> None:
    rows = [
        [ids_row(1, 2, 3), ids_row(4, 5)],
        [ids_row(1, 2, 3), ids_row(4, 6)],
        [ids_row(1, 2, 3, masked=2), ids_row(4, 5)],
        [ids_row(4, 5), ids_row(1, 2, 3)],
    ]
    prints = [load(write(tmp_path, *some)).fingerprint for some in rows]
    assert len(set(prints)) == len(rows)
    numbers = [2, 1, 2, 2, 3, 1, 4, 5]  # n, input_ids and targets of both examples
    assert prints[0] == hashlib.sha256(b"".join(n.to_bytes(4, "little") for n in numbers)).hexdigest()


def test_inputs_are_padded_and_weighted_for_the_whole_step(tmp_path: Path) -> None:
    (example,) = load(write(tmp_path, ids_row(5, 6, 7, 8, masked=2))).examples
    assert (example.tokens, example.predictions) == (3, 2)
    made = inputs(example, Size(5, 5), predictions=8)
    assert made["input_ids"].tolist() == [5, 6, 7, 0, 0]
    assert made["targets"].tolist() == [0, 7, 8, 0, 0]
    assert made["token_weight"].tolist() == [[0], [0.125], [0.125], [0], [0]]
    assert {name: str(value.dtype).removeprefix("torch.") for name, value in made.items()} == {
        "input_ids": "int64",
        "targets": "int64",
        "token_weight": "float32",
        "head_positions": "int64",
        "head_places": "int64",
    }


def test_inputs_of_a_shorter_head_are_the_targets_alone(tmp_path: Path) -> None:
    (example,) = load(write(tmp_path, ids_row(5, 6, 7, 8, masked=2))).examples
    made = inputs(example, Size(5, 3), predictions=2)
    assert made["input_ids"].tolist() == [5, 6, 7, 0, 0]
    assert made["targets"].tolist() == [7, 8, 0]
    assert made["token_weight"].tolist() == [[0.5], [0.5], [0]]
    assert made["head_positions"].tolist() == [1, 2, 0]
    assert made["head_places"].tolist() == [3, 0, 1, 3, 3]  # 3 is the row of zeros after the head's


def test_the_smallest_size_holds_the_tokens_and_then_the_targets() -> None:
    there = sizes((128, 32, 64), (16, 100))
    assert [size.name for size in there if size.tokens == 64] == ["64.16", "64.32", "64"]
    cases = {(1, 1): "32.16", (32, 17): "32", (33, 17): "64.32", (64, 33): "64", (65, 65): "128.100", (128, 101): "128"}
    assert {case: smallest(there, *case).name for case in cases} == cases


def test_an_evaluation_takes_some_examples_spread_over_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"input_ids": [{i}, 0], "labels": [{i}, 0]}}\n' for i in range(10)))
    examples = load_data(tmp_path / "rows.jsonl", 8, 100, tmp_path)[0].examples
    assert [int(example.input_ids[0]) for example in spread(examples, 4)] == [0, 2, 5, 7]
    assert spread(examples, None) is examples and spread(examples, 10) is examples


def test_tokens_of_turns_are_found_in_one_pass() -> None:
    class Counted(list[tuple[int, int]]):
        looks = 0

        def __getitem__(self, index: Any) -> Any:
            Counted.looks += 1
            return super().__getitem__(index)

    turns = Counted((start, start + 7) for start in range(3, 50_000, 20))
    offsets = [
        (start, start + length)
        for start, length in zip(range(0, 50_000, 3), itertools.cycle((3, 0, 1, 5)), strict=False)
    ]
    expected = [any(first < end and last > start for start, end in turns[:50]) for first, last in offsets[:300]]
    Counted.looks = 0
    found = list(touching(offsets, turns))
    assert found[:300] == expected and {*found} == {True, False}
    assert Counted.looks < 3 * (len(offsets) + len(turns))
