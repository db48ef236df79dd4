"""Every key of a row is used, refused by its name, or named as not read; other formats, renamed columns, and files as people have them."""

import io
import json
import os
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from mesp.runtime.contract import rows_table
from mesp.runtime.data.dataset import Dataset, load_data
from mesp.runtime.data.records import records
from mesp.runtime.data.rows import KEYS, MASKED, RESERVED, RowReader
from mesp.runtime.errors import UsageError

from .test_data import CHATML, VOCABULARY, ids_row, listed, save_tokenizer, write
from .test_masks import MARKED, TEMPLATES

ASK, ANSWER = {"role": "user", "content": "Who's there?"}, {"role": "assistant", "content": "Nay, answer me."}
CHAT = {"messages": [ASK, ANSWER, ASK, {"role": "assistant", "content": "Long live the king!"}]}
NOW = datetime(2024, 3, 1, 12)


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chatml")
    save_tokenizer(folder, template=CHATML)
    return folder


def load(folder: Path, tokenizer: Path, *rows: Any, columns: str | None = None) -> Dataset:
    return load_data(write(folder, *rows), 100, VOCABULARY, tokenizer, columns=columns, now=NOW)[0]


def read(*values: Any, columns: str | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows' values, and the notes."""
    reader = RowReader(columns)
    return [reader(f"row {number}", value).values for number, value in enumerate(values, 1)], reader.notes


# --- Token ids --------------------------------------------------------------------------------------------------------


def test_padding_is_left_out_and_positions_must_follow_each_other() -> None:
    row = {"input_ids": [0, 0, 1, 2, 0], "labels": [-100, -100, 1, 2, -100], "attention_mask": [0, 0, 1, 1, 0]}
    kept = {"input_ids": [1, 2], "labels": [1, 2]}
    assert read(row)[0] == [kept]
    assert read({**row, "position_ids": [1, 1, 0, 1, 1]})[0] == [kept]
    assert read({**kept, "position_ids": [5, 6], "attention_mask": None})[0] == [kept]
    assert read({**row, "attention_mask": [0] * 5, "labels": [-100] * 5})[0] == [{"input_ids": [], "labels": []}]


@pytest.mark.parametrize(("before", "after"), [(0, 3), (2, 0), (3, 1)])
def test_a_padded_row_has_the_loss_that_transformers_gives_it(before: int, after: int) -> None:
    """The first token has no label: transformers would predict it from the padding."""
    config = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=32
    )
    model = LlamaForCausalLM(config).double()
    ids, labels = [5, 6, 7, 8, 9], [MASKED, 6, 7, 8, 9]
    padded = {
        "input_ids": [0] * before + ids + [0] * after,
        "labels": [MASKED] * before + labels + [MASKED] * after,
        "attention_mask": [0] * before + [1] * len(ids) + [0] * after,
    }

    def loss(row: dict[str, list[int]]) -> torch.Tensor:
        value: torch.Tensor = model(**{name: torch.tensor([numbers]) for name, numbers in row.items()}).loss
        return value

    (kept,), _ = read(padded)
    torch.testing.assert_close(loss(kept), loss(padded), rtol=1e-6, atol=0)
    without_mask = {name: padded[name] for name in ("input_ids", "labels")}
    if before:
        assert abs(loss(without_mask) - loss(padded)) > 1e-4


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"attention_mask": [1, 0, 1]}, '"attention_mask" must be of 1, with 0 for padding before and after'),
        ({"attention_mask": [1, 2, 2]}, '"attention_mask" must be of 1'),
        ({"attention_mask": [1, 1]}, "3 input_ids but 2 attention_mask"),
        ({"attention_mask": [True, True, True]}, '"attention_mask" must be a list of whole numbers'),
        ({"attention_mask": [1, 1, 0]}, 'labels[2] is a target, but "attention_mask" says that it is padding'),
        ({"position_ids": [0, 1, 0]}, '"position_ids" must count up by one'),
        ({"position_ids": [0, 2, 4]}, '"position_ids" must count up by one'),
        ({"position_ids": "0 1 2"}, '"position_ids" must be a list'),
        ({"loss_mask": [0, 1, 1]}, '"loss_mask" would change what is trained on'),
        ({"weights": [0.0, 1.0, 1.0]}, '"weights" would change what is trained on'),
        ({"seq_lengths": [1, 2]}, '"seq_lengths" would change what is trained on'),
    ],
)
def test_keys_of_token_ids_that_change_the_meaning_are_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        read({**ids_row(1, 2, 3), **more})
    assert str(error.value).startswith(f"row 1: {message}")


# --- Keys that other trainers know ------------------------------------------------------------------------------------

BASES: dict[str, dict[str, Any]] = {
    "text": {"text": "a"},
    "completion": {"prompt": "a", "completion": "b"},
    "messages": CHAT,
    "ids": ids_row(1, 2),
}


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_keys_are_refused_where_they_mean_something(name: str) -> None:
    rule = RESERVED[name]
    bad = rule["harmful"][0] if "harmful" in rule else [0.5]
    for kind, base in BASES.items():
        good = [None, "", [], {}, *rule.get("harmless", [])]
        if kind in rule.get("kinds", KEYS):
            with pytest.raises(UsageError, match=f'row 1: "{name}" would change what is trained on'):
                read({**base, name: bad})
        else:
            good.append(bad)
        for value in good:
            assert read({**base, name: value})[0] == read(base)[0]


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"prompt": "a", "completion": "b", "label": False}, "label"),
        ({"prompt": "a", "completion": "b", "label": "False"}, "label"),
        ({"prompt": "a", "completion": "b", "weight": 0}, "weight"),
        ({"text": "a", "weight": "0.5"}, "weight"),
        ({**CHAT, "train": False}, "train"),
        ({**CHAT, "system": "Be brief."}, "system"),
        ({**CHAT, "chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs"),
    ],
)
def test_a_value_that_says_something_is_refused(row: dict[str, Any], key: str) -> None:
    with pytest.raises(UsageError, match=f'"{key}" would change what is trained on'):
        read(row)
    assert read({"prompt": "a", "completion": "b", "label": 3, "weight": 1.0})[0]


def test_other_columns_are_named_once_with_a_count() -> None:
    rows = [{"text": "a", "id": 1, "source": "play"}, {"text": "b", "id": 2, "source": None}, {"text": "c"}]
    assert read(*rows)[1] == ['columns that are not read: "id", "source", in 2 rows']
    many = {"text": "a", **{f"c{number}": 1 for number in range(12)}}
    assert read(many)[1][0].endswith('"c3", "c4", "c5" and 4 more, in 1 row')
    assert read({"text": "a"})[1] == []


def test_names_that_no_terminal_can_show_are_escaped() -> None:
    row = {"text": "a", "line\nfeed": 1, "\ud800": 2, "[/bold]": 3, "naïve": 4}
    (note,) = read(row)[1]
    assert note == 'columns that are not read: "[/bold]", "line\\nfeed", "naïve", "\\ud800", in 1 row'
    with pytest.raises(UsageError) as error:
        read({f"{number}\n": 1 for number in range(100)})
    assert str(error.value).isprintable() and len(str(error.value)) < 400


# --- Messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"weight": 0, "train": False, "name": None}])
@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["without marks", "with marks"])
def test_a_turn_that_is_not_to_be_trained_on_is_no_target(tmp_path: Path, template: str, mark: dict[str, Any]) -> None:
    save_tokenizer(tmp_path, template=template)
    first, second = ({**CHAT, "messages": [*CHAT["messages"]]} for _ in range(2))
    first["messages"][1] = {**ANSWER, **mark}
    second["messages"][3] = {**CHAT["messages"][3], **mark}
    (_, targets), (_, only_second), (_, only_first) = listed(load(tmp_path, tmp_path, CHAT, first, second))
    assert [a if b == MASKED else b for a, b in zip(only_first, only_second, strict=True)] == targets
    assert all(MASKED in pair for pair in zip(only_first, only_second, strict=True))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert str(tokenizer.decode([token for token in only_second if token != MASKED])).startswith("Long live the king!")
    assert str(tokenizer.decode([token for token in only_first if token != MASKED])).startswith("Nay, answer me.")
    neither = {"messages": [ASK, {**ANSWER, **mark}]}
    assert load(tmp_path, tmp_path, CHAT, neither).masked_rows == 1


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({**ANSWER, "weight": 0.5}, '["weight"] must be 0 or 1, not 0.5'),
        ({**ANSWER, "weight": True}, '["weight"] must be 0 or 1'),
        ({**ANSWER, "train": 1}, '["train"] must be true or false'),
        ({**ANSWER, "weight": 1, "train": False}, ' has a "weight" and a "train" that say the opposite'),
        ({**ASK, "train": True}, " is marked to be trained on, but only the assistant's messages are"),
        ({**ANSWER, "reasoning_content": "hm"}, ' has "reasoning_content". Write it into the content'),
        ({**ANSWER, "role": ["assistant"]}, " has the role ['assistant']"),
    ],
)
def test_marks_of_messages_that_cannot_be_followed_are_refused(message: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        read({"messages": [ASK, ANSWER, message]})
    assert f"messages[2]{words}" in str(error.value)


THINKING = CHATML.replace("message.content", "message.content.split('</think>')[-1]")
NO_TOOLS = CHATML.replace(
    "{{ '<|im_start|>' + ", "{% if message.role == 'tool' %}{% continue %}{% endif %}{{ '<|im_start|>' + "
)
SHORT = CHATML.replace("message.content", "message.content[:40]")
THOUGHT = {"role": "assistant", "content": "<think>Who might it be?</think>\n\nNay, answer me."}
TOOL = {"role": "tool", "content": "me"}  # whose words are also elsewhere


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (THINKING, [ASK, THOUGHT], "messages[1] (assistant)"),
        (NO_TOOLS, [ASK, ANSWER, TOOL, ANSWER], "messages[2] (tool)"),
        (SHORT, [{**ASK, "content": "Who is there? " * 9}, ANSWER], "messages[0] (user)"),
    ],
    ids=["reasoning", "role", "length"],
)
@pytest.mark.parametrize("marks", [False, True])
def test_a_template_that_leaves_content_out_is_refused_with_a_count(
    tmp_path: Path, template: str, messages: list[dict[str, str]], message: str, marks: bool
) -> None:
    if marks:
        template += "{% generation %}{% endgeneration %}"
    save_tokenizer(tmp_path, template=template)
    with pytest.raises(UsageError) as error:
        load(tmp_path, tmp_path, {"messages": [ASK, ANSWER]}, *[{"messages": messages}] * 3)
    assert f"line 2: the chat template leaves out some of what {message} says" in str(error.value)
    assert str(error.value).endswith("So it is with 2 of the 2 rows after it.")


REASONED = [ASK, {"role": "assistant", "content": "<think>\nWho?\n</think>\n\nI."}]
CALLED = [ASK, ANSWER, {"role": "tool", "content": '{"who": "me\\n"}'}, ANSWER]


@pytest.mark.parametrize(
    ("name", "messages", "left_out"),
    [
        ("deepseek_r1_distill", REASONED, "messages[1] (assistant)"),
        ("nemotron_3_nano_training", [*REASONED, ASK, ANSWER], "messages[1] (assistant)"),
        ("phi3", CALLED, "messages[2] (tool)"),
        ("idefics3", [ASK, ANSWER], "messages[0] (user)"),
        ("qwen2_5", CALLED, None),
        ("llama3_1", CALLED, None),
        ("llama3_2", CALLED, None),
        ("qwen3", REASONED, None),
        ("qwen3", [*REASONED, ASK, ANSWER], None),
    ],
)
def test_what_real_templates_leave_out(
    tmp_path: Path, name: str, messages: list[dict[str, str]], left_out: str | None
) -> None:
    save_tokenizer(tmp_path, template=(TEMPLATES / f"{name}.jinja").read_text())
    if left_out is None:
        assert load_data(write(tmp_path, {"messages": messages}), 1000, VOCABULARY, tmp_path)[0].examples
        return
    with pytest.raises(UsageError) as error:
        load(tmp_path, tmp_path, {"messages": messages})
    assert f"the chat template leaves out some of what {left_out} says" in str(error.value)


def test_blanks_that_a_template_trims_and_json_that_it_makes_leave_nothing_out(tmp_path: Path) -> None:
    template = CHATML.replace(
        "message.content", "(message.content | trim if message.role != 'tool' else message.content | tojson)"
    )
    save_tokenizer(tmp_path, template=template)
    tool = {"role": "tool", "content": '{"a": "b"}\n'}
    assert load(
        tmp_path,
        tmp_path,
        {"messages": [{**ASK, "content": " \n Who? \n"}, ANSWER, tool, ANSWER, {**ASK, "content": ""}]},
    ).examples


def test_a_template_that_writes_the_date_writes_the_given_one(tmp_path: Path) -> None:
    for name, template in (
        ("plain", "{{ strftime_now('%d %b %Y') }}" + CHATML),
        ("marked", "{{ strftime_now('%H %Y') }}" + MARKED),
    ):
        folder = tmp_path / name
        save_tokenizer(folder, template=template)
        ((ids, _),) = listed(load(tmp_path, folder, CHAT))
        text = str(AutoTokenizer.from_pretrained(folder).decode(ids))
        assert text.startswith("01 Mar 2024<|im_start|>" if name == "plain" else "12 2024<|im_start|>")


# --- Other formats, and columns by other names ------------------------------------------------------------------------


def test_sharegpt_is_read_as_messages(tmp_path: Path, chatml: Path) -> None:
    speakers = {"user": "human", "assistant": "gpt"}
    turns = [{"from": speakers[m["role"]], "value": m["content"]} for m in CHAT["messages"]]
    told = load(tmp_path, chatml, {"id": "a", "conversations": turns, "system": "Be brief."})
    system = {"role": "system", "content": "Be brief."}
    assert listed(told) == listed(load(tmp_path, chatml, {"messages": [system, *CHAT["messages"]]}))
    assert told.notes == ("ShareGPT's conversations are read as messages", 'columns that are not read: "id", in 1 row')
    assert read({"conversations": CHAT["messages"]})[0] == read(CHAT)[0] == read({"messages": turns})[0]


def test_alpaca_is_read_as_messages() -> None:
    def messages(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
        return [
            {"role": role, "content": content, **({"train": True} if role == "assistant" else {})}
            for role, content in pairs
        ]

    row = {"instruction": "Add.", "input": "1 2", "output": "3"}
    assert read(row)[0] == [{"messages": messages(("user", "Add.\n1 2"), ("assistant", "3"))}]
    assert read({**row, "input": "", "system": "You add."})[0] == [
        {"messages": messages(("system", "You add."), ("user", "Add."), ("assistant", "3"))}
    ]
    assert read(row)[1][0].startswith("Alpaca's fields are read as messages")
    # As tatsu-lab/alpaca has them: a row's own kind comes first, and what is not read is named.
    values, notes = read({**row, "text": "Add. 1 2: 3"})
    assert values == [{"text": "Add. 1 2: 3"}]
    assert notes == ['columns that are not read: "input", "instruction", "output", in 1 row']


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"conversations": [{"from": "human", "value": "a"}]}, "no message is the assistant's"),
        ({"conversations": [{"from": "narrator", "value": "a"}]}, "conversations[0] is from 'narrator'. Known are system,"),
        ({"conversations": [{"from": "human"}]}, 'conversations[0]["content"] must be a string'),
        ({"conversations": [{"from": "human", "value": "a", "content": "b"}]}, "conversations[0] has the role None"),
        ({"conversations": []}, '"conversations" must be a list of {"from", "value"}'),
        ({"conversations": [ASK, ANSWER], "tools": "[]x"}, '"tools" would change'),
        ({"conversations": [{"role": "system", "content": "a"}, ASK, ANSWER], "system": "b"}, '"system" stands beside'),
        ({"instruction": "a", "output": "b", "history": [["c", "d"]]}, '"history" would change'),
        ({"instruction": "a", "output": 5}, '"output" must be a string'),
        ({"instruction": "a", "input": 5, "output": "b"}, '"input" must be a string'),
        ({"instruction": "a", "output": "b", "conversations": []}, 'the row is one of "conversations" and of "instruction", "output"'),
        ({"question": "a", "answer": "b"}, 'this one has "question", "answer". Rename its keys, or say which they are: --map'),
    ],
)  # fmt: skip
def test_other_formats_are_refused_by_name(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        read(row)
    assert message in str(error.value)


def test_columns_are_renamed() -> None:
    row = {"question": "a", "answer": "b", "prompt": "c", "messages": 1, "id": 2}
    values, notes = read(row, columns="prompt=question, completion=answer")
    assert values == [{"prompt": "a", "completion": "b"}]
    assert notes == ['columns that are not read: "id", "messages", "prompt", in 1 row']
    both = {"text": "a", "prompt": "b", "completion": "c"}
    assert read(both, columns="text=text")[0] == [{"text": "a"}]
    alpaca = {"query": "a", "context": "b", "response": "c"}
    assert (
        read(alpaca, columns="instruction=query,input=context,output=response")[0][0]["messages"][0]["content"]
        == "a\nb"
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("prompt", "'prompt' is not KEY=COLUMN"),
        ("", "'' is not KEY=COLUMN"),
        ("prompt=a,,completion=b", "'' is not KEY=COLUMN"),
        ("question=prompt", "question is no key of a row. Keys are text, prompt, completion, messages"),
        ("prompt=a,prompt=b", "prompt is there twice"),
        ("prompt=text,completion=gone", 'row 1: the row has no "gone", which --map names; it has "text"'),
        ("prompt=text", 'row 1: A row has "text", or "prompt" and "completion"'),
        ("text=text,prompt=text,completion=text", "the row is one of"),
    ],
)
def test_columns_that_cannot_be_are_refused(columns: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read({"text": "a"}, columns=columns)
    assert message in str(error.value)


# --- Files ------------------------------------------------------------------------------------------------------------


def contents(folder: Path, name: str, content: str | bytes) -> list[Any]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [value for _, value in records(path)]


def test_lists_tabs_and_markdown_are_read(tmp_path: Path) -> None:
    rows = [{"text": "a\nb"}, {"text": "c"}]
    for name in ("a.json", "a.jsonl", "a"):
        assert contents(tmp_path, name, "\n \n" + json.dumps(rows, indent=1)) == rows
        assert contents(tmp_path, name, "".join(json.dumps(row) + "\n" for row in rows)) == rows
    assert contents(tmp_path, "a.tsv", 'text\tid\n"a\nb"\t1\nc, d\t2\n') == [
        {"text": "a\nb", "id": "1"},
        {"text": "c, d", "id": "2"},
    ]
    assert contents(tmp_path, "a.md", "# One\n") == ["# One\n"]
    assert [where for where, _ in records(tmp_path / "a.json")] == [f"{tmp_path}/a.json, line {n}" for n in (1, 2)]


def test_zstandard_is_read_through_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(packed, "zstd") as file:
        file.write(b'{"text": "a"}\n' * 3)
    content = packed.getvalue().to_pybytes()
    assert contents(tmp_path, "a.jsonl.zst", content) == [{"text": "a"}] * 3
    with pytest.raises(UsageError, match="a.jsonl.zst, after line 0: cannot be read"):
        contents(tmp_path, "a.jsonl.zst", content[:-5])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"\.zst files need pyarrow. Install it .* or decompress the file: zstd -d"):
        contents(tmp_path, "a.jsonl.zst", content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.docx", "PK", "a.docx: .docx files are not read. Data is text (.txt, .md), JSON lines"),
        ("a.tar.gz", "", "a.tar.gz: .tar files are not read"),
        ("a.zip", "", ".zip files are not read"),
        ("a.yaml", "text: a", ".yaml files are not read"),
        ("a.json", "[1, 2", "a.json: not a JSON list"),
        ("a.json", '[{"text": "a"}]\n[]', "a.json: not a JSON list (Extra data"),
        ("a.json", '{\n "text": "a"\n}', "a.json, line 1: not JSON"),
        ("a.json", "[" * 100_000, "a.json: not a JSON list"),
        ("a.csv", "text,text\na,b\n", 'a.csv, line 1: the header has "text" twice'),
    ],
)
def test_files_that_are_not_read_are_refused_by_name(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        contents(tmp_path, name, content)
    assert message in str(error.value)


def test_a_string_of_json_is_no_text_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rows.jsonl, line 1: 'abc' is not an object"):
        load(tmp_path, tmp_path, '"abc"')


def test_a_folder_is_refused_with_what_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder. Give one data file of it, but there is none in it"):
        list(records(tmp_path))
    for name in ("b.csv", "a.jsonl", "c.bin", "d"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"is a folder. Give one data file of it: a.jsonl, b.csv\."):
        list(records(tmp_path))


def test_a_pipe_is_read(tmp_path: Path, chatml: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    rows = "".join(json.dumps(CHAT) + "\n" for _ in range(2))
    writer = threading.Thread(target=pipe.write_text, args=(rows,), daemon=True)
    writer.start()
    data = load_data(pipe, 100, VOCABULARY, chatml)[0]
    writer.join(timeout=5)
    assert listed(data) == listed(load(tmp_path, chatml, CHAT, CHAT))


def test_a_pipe_that_is_gone_is_asked_for() -> None:
    with pytest.raises(UsageError, match="no data file at /dev/fd/999. What came through a pipe has to come again"):
        list(records(Path("/dev/fd/999")))


def test_a_terminal_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tty").touch()
    opened: Callable[..., Any] = lambda *_: _Terminal(b"")  # noqa: E731
    monkeypatch.setattr("builtins.open", opened)
    with pytest.raises(UsageError, match="tty is the terminal. Pipe the rows into it"):
        list(records(tmp_path / "tty"))


class _Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def test_the_shared_table_is_sound() -> None:
    table = rows_table()
    assert set(table["speakers"].values()) <= set(table["roles"])
    assert set(table["optional"]) <= {*table["kinds"], *table["foreign"]}
    for rule in table["reserved"].values():
        assert rule.keys() <= {"instead", "kinds", "harmless", "harmful"}
        assert set(rule.get("kinds", ())) <= table["kinds"].keys()
