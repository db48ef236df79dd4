"""What export tells a phone of the tokenizer: resolved chat templates write what the originals do, and what is not exact is refused."""

import json
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mesp.export.bundle.chat import DATE, Chat, Messages, Thinking, Turn, Unsupported, resolve
from mesp.export.bundle.export import _write_model
from mesp.export.bundle.make_plan import make_plan
from mesp.export.bundle.mobile import FILE, notes, write_mobile
from mesp.export.bundle.vocabulary import FILE as VOCABULARY
from mesp.export.export_settings import ExportSettings
from mesp.export.model.checkpoint import open_checkpoint
from mesp.runtime.data.dataset import load_data
from mesp.runtime.data.labels import MASKED

from .android_golden import CONTENTS, DATED, DIALOGUES, LLAMA3_WORDS, ORDERS, QWEN2_WORDS, TOKENIZERS, conversations
from .models import LLAMA, save_checkpoint
from .test_data import CHATML, save_tokenizer
from .test_masks import MARKED, TEMPLATES

# The content and the end of the turn have marks of their own.
TWICE_MARKED = MARKED.replace(
    "message.content + '<|im_end|>' }}{% endg",
    "message.content }}{% endgeneration %}{% generation %}{{ '<|im_end|>' }}{% endg",
)


def mobile(folder: Path) -> Any:
    write_mobile(folder)
    return json.loads((folder / FILE).read_text())


def chat_of(folder: Path, template: str) -> tuple[Any, Chat]:
    save_tokenizer(folder, template=template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer, resolve(tokenizer)


@pytest.mark.parametrize(
    ("name", "orders"),
    [
        *[
            (name, ORDERS)
            for name in (
                "qwen2_5",
                "llama3",
                "llama3_1",
                "qwen3_instruct_2507",
                "lfm2",
                "qwen2_5_training",
                "llama3_training",
            )
        ],
        *[(name, DIALOGUES) for name in ("qwen3", "gemma3", "lfm2_2_5")],
    ],
)
def test_a_resolved_template_writes_and_trains_on_what_the_original_does(
    tmp_path: Path, name: str, orders: tuple[str, ...]
) -> None:
    tokenizer, chat = chat_of(tmp_path, (TEMPLATES / f"{name}.jinja").read_text())
    rows = [row for row in conversations(orders) if chat.allows(row["messages"])]
    assert len(rows) >= 12
    for row in rows:
        messages: Messages = row["messages"]
        for prompt in (False, True):
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            assert chat.render(messages, prompt) == text
        path = tmp_path / "row.jsonl"
        path.write_text(json.dumps(row))
        examples = load_data(path, 10_000, 1000, tmp_path)[0].examples
        assert [example.targets.tolist() for example in examples] == expected_targets(tokenizer, chat, messages)


def expected_targets(tokenizer: Any, chat: Chat, messages: Messages) -> list[list[int]]:
    """Of each sequence of a conversation, by the table."""
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    parts = [messages[: index + 1] for index in answers] if chat.thinking else [messages]
    targets = []
    for part in parts:
        encoded = tokenizer(chat.render(part), add_special_tokens=False, return_offsets_mapping=True)
        spans = chat.spans(part)[-1:] if chat.thinking else chat.spans(part)
        labels = [
            token if any(first < end and last > start for start, end in spans) else MASKED
            for token, (first, last) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]
        targets.append(labels[1:])
    return targets


def test_a_resolved_template_is_a_table(tmp_path: Path) -> None:
    _, chat = chat_of(tmp_path, "{% if messages[0].role != 'system' %}{{ 'Be kind.\n' }}{% endif %}" + CHATML)
    roles = ("user", "assistant", "system", "tool")
    begins = {role: f"<|im_start|>{role}\n" for role in roles}
    turns = {
        role: Turn(dict.fromkeys(roles, start) | {"": f"Be kind.\n{start}"}, "<|im_end|>\n", "")
        for role, start in begins.items()
    }
    turns["assistant"] = replace(turns["assistant"], before=dict.fromkeys(roles, begins["assistant"]))
    turns["system"] = replace(turns["system"], before=dict.fromkeys(("", *roles), begins["system"]))
    assert chat == Chat(turns, begins["assistant"], len(begins["assistant"]))


def test_what_is_written_may_depend_on_the_role_before(tmp_path: Path) -> None:
    """Gemma's user continues the system's turn, and no conversation ends there."""
    _, chat = chat_of(tmp_path, (TEMPLATES / "gemma3.jinja").read_text())
    user, system = chat.turns["user"], chat.turns["system"]
    assert (system.after, user.before["system"], system.last, system.trim, user.trim) == (
        "\n\n",
        "",
        False,
        "",
        "blanks",
    )
    assert not chat.allows([{"role": "system", "content": "be brief"}])
    assert not chat.allows([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])


def test_a_date_is_left_to_be_written(tmp_path: Path) -> None:
    tokenizer, chat = chat_of(tmp_path, DATED)
    assert f"Today is {DATE}%d %B %Y{DATE}, /think.\nYou are a small model.\n\n" in chat.turns["user"].before[""]
    assert (chat.turns["assistant"].trim, chat.turns["user"].trim, chat.skip) == ("lines", "", 0)
    question = [{"role": "user", "content": "a"}]
    today = datetime.now().strftime("%d %B %Y")  # the tokenizer writes the date again
    assert today in tokenizer.apply_chat_template(question, tokenize=False)


def test_contents_that_are_written_in_a_way_of_their_own_are_refused(tmp_path: Path) -> None:
    """What SmolLM3's system turn switches, and where it is empty: another text stands there then. LFM2.5 leaves reasoning out of answers."""
    _, chat = chat_of(tmp_path, DATED)
    system = chat.turns["system"]
    assert (set(system.before), system.trim, system.filled) == ({""}, "end", True)
    assert system.refuses == ["/no_think", "/system_override"]
    assert chat.turns["user"].before["system"] == "<|im_start|>user\n" and not chat.turns["user"].refuses
    question = {"role": "user", "content": "Be /no_think"}
    for content, allowed in (("Be kind. \n", True), ("", False), (" \n", False), ("Be /no_think kind.", False)):
        assert chat.allows([{"role": "system", "content": content}, question]) == allowed
    _, chat = chat_of(tmp_path, (TEMPLATES / "lfm2_2_5.jinja").read_text())
    assert (chat.turns["assistant"].refuses, chat.turns["system"].filled) == (["</think>"], True)


def test_a_content_that_the_template_refuses_is_refused(tmp_path: Path) -> None:
    refusing = "{% if 'jester' in messages[0].content %}{{ raise_exception('no jesters') }}{% endif %}" + CHATML
    assert chat_of(tmp_path, refusing)[1].turns["user"].refuses == ["jester"]


def test_the_last_answer_may_be_written_in_a_way_of_its_own(tmp_path: Path) -> None:
    _, chat = chat_of(tmp_path, (TEMPLATES / "qwen3.jinja").read_text())
    assert chat.thinking == Thinking("<think>\n", "\n</think>\n\n")
    assert set(chat.turns["assistant"].before) == {"user"}
    assert not chat.allows([{"role": "user", "content": "<tool_response>x</tool_response>"}])


def test_marks_are_resolved_to_what_is_before_and_after_the_content(tmp_path: Path) -> None:
    _, chat = chat_of(tmp_path, MARKED)
    assert (chat.prompt, chat.skip, chat.marked) == ("", len("<|im_start|>assistant\n"), len("<|im_end|>"))


def test_a_role_that_depends_on_its_neighbours_is_left_out_where_it_does(tmp_path: Path) -> None:
    _, chat = chat_of(tmp_path, (TEMPLATES / "qwen2_5.jinja").read_text())
    assert "tool" not in chat.turns["assistant"].before
    _, chat = chat_of(
        tmp_path,
        CHATML.replace("{{ '<", "{% if message.role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ '<", 1),
    )
    assert set(chat.turns) == {"user", "assistant", "tool"}


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ strftime_now('%H:%M') }}" + CHATML, "it writes the date as %H:%M"),
        (CHATML.replace("assistant\n", "assistant\n<think>"), "an assistant's turn does not begin with its generation prompt"),
        (CHATML.replace("message.content", "message.content.replace('t', '')"), "with their contents as they are"),
        (CHATML.replace("message.content", "(message.content if loop.last else message.content[:3])"), "with their contents as they are"),
        (CHATML + "{% if not add_generation_prompt %}{{ 'end' }}{% endif %}", "it writes the end of a message by what follows"),
        ("{{ messages[-1].content }}" + CHATML, "does not write each message once"),
        (TWICE_MARKED, "marks are not one"),
        ((TEMPLATES / "qwen3_5_think.jinja").read_text(), "it writes an answer in more than one way"),
        ("{{ 1 // 0 }}", "it refuses the messages user (integer"),
        ("{{ raise_exception('no jesters') }}", "it refuses the messages user (no jesters)"),
    ],
)  # fmt: skip
def test_a_template_that_is_no_table_is_refused(tmp_path: Path, template: str, why: str) -> None:
    with pytest.raises(Unsupported) as error:
        chat_of(tmp_path, template)
    assert why in str(error.value)
    assert why in mobile(tmp_path)["chat"]["unsupported"]
    (note,) = notes(tmp_path)
    assert note.startswith("On a phone it does not train on messages: ") and why in note


@pytest.mark.parametrize("name", [name for name in TOKENIZERS if name != "characters"])
def test_a_byte_level_tokenizer_is_described(tmp_path: Path, name: str) -> None:
    TOKENIZERS[name](tmp_path)
    described = mobile(tmp_path)["tokenizer"]
    assert "unsupported" not in described
    assert described["end"] == 2
    assert described["special"] == {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
    assert described["before"] == ([0] if name in ("marked", "llama3") else [])
    assert described["after"] == []
    assert described["nfc"] == (name == "qwen2")
    assert described["trim_offsets"] == (name == "byte_level")
    last = {"qwen2": QWEN2_WORDS, "shuffled": QWEN2_WORDS, "llama3": LLAMA3_WORDS}.get(name)
    assert last is None or described["splits"] == [last]
    assert described["letters"].startswith("41-5a 61-7a aa b5 ba c0-d6")
    assert described["numbers"].startswith("30-39 b2-b3 b9 bc-be 660-669")
    assert described["spaces"] == "9-d 20 85 a0 1680 2000-200a 2028-2029 202f 205f 3000"
    assert bool(described.get("digits")) == (name == "digits")
    assert notes(tmp_path) == []


def save(folder: Path, model: Any = None, **changes: Any) -> None:
    """A tokenizer of a hundred tokens with changes to its parts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(CONTENTS, trainers.BpeTrainer(vocab_size=100, show_progress=False))
    if model is not None:
        tokenizer.model = model
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)


def words(pattern: str, behavior: str = "isolated") -> Any:
    from tokenizers import Regex

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


AB = {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": models.WordLevel(AB, unk_token="a")}, "its model is WordLevel and not BPE"),
        ({"model": models.BPE(AB, [], unk_token="a")}, "its BPE has unk_token"),
        ({"model": models.BPE(AB, [], byte_fallback=True)}, "its BPE has byte_fallback, and not all bytes are tokens"),
        ({"model": models.BPE(AB, [], continuing_subword_prefix="##")}, "its BPE has continuing_subword_prefix"),
        ({"normalizer": normalizers.Replace(" ", "__")}, "it normalizes text with Replace"),
        ({"normalizer": normalizers.NFKC()}, "it normalizes text with NFKC"),
        ({"normalizer": normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])}, "with NFC, Lowercase"),
        ({"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)}, "without a prefix space"),
        ({"pre_tokenizer": pre_tokenizers.Whitespace()}, "not those of a byte-level tokenizer"),
        ({"pre_tokenizer": words(r"\w+")}, "may differ in Java"),
        ({"pre_tokenizer": words(r"\p{Lu}+")}, "may differ in Java"),
        ({"pre_tokenizer": words(r"a++")}, "may differ in Java"),
        ({"pre_tokenizer": words(r"[a&&b]")}, "may differ in Java"),
        ({"pre_tokenizer": words(r"[a[bc]]")}, "may differ in Java"),
        ({"pre_tokenizer": words(r"(?<=a)b")}, "may differ in Java"),
        ({"pre_tokenizer": words(r"\s+", "merged_with_next")}, "it cuts text with Split MergedWithNext"),
    ],
)
def test_a_tokenizer_that_cannot_be_reproduced_is_refused(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    save(tmp_path, **changes)
    unsupported = mobile(tmp_path)["tokenizer"]["unsupported"]
    assert any(part in unsupported for part in why.split("|"))
    (note,) = notes(tmp_path)
    assert note.startswith("On a phone it trains on rows of token ids alone: ") and unsupported in note


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (AddedToken("<a>", lstrip=True, normalized=False), "its token <a> is matched with lstrip"),
        (AddedToken("<a>", single_word=True, normalized=False), "its token <a> is matched with single_word"),
        (AddedToken("<a>", normalized=True), "some of its added tokens are matched after normalization"),
    ],
)
def test_added_tokens_that_are_matched_in_other_ways_are_refused(tmp_path: Path, token: AddedToken, why: str) -> None:
    save_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens([token])
    tokenizer.save_pretrained(tmp_path)
    assert mobile(tmp_path)["tokenizer"] == {"unsupported": why}


def test_several_templates_without_a_default_are_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.chat_template = {"tools": CHATML, "plain": CHATML}
    with pytest.raises(Unsupported, match="it is several, and none is the default"):
        resolve(tokenizer)


def test_the_vocabulary_is_the_tokens_and_their_merges(tmp_path: Path) -> None:
    tokens = AB | {"ab": 7, "abc": 4, "bc": 5}
    save(tmp_path, model=models.BPE(tokens, [("b", "c"), ("a", "b"), ("ab", "c"), ("a", "bc")], ignore_merges=True))
    assert mobile(tmp_path)["tokenizer"]["whole"]
    stored = load_file(tmp_path / VOCABULARY)
    spellings, starts = stored["spellings"].tobytes(), stored["starts"].tolist()
    assert {
        number: spellings[start:end].decode() for number, (start, end) in enumerate(pairwise(starts)) if end > start
    } == {number: token for token, number in tokens.items()}
    of_abc = slice(*stored["merges"].tolist()[4:6])
    assert list(zip(stored["cuts"][of_abc].tolist(), stored["ranks"][of_abc].tolist(), strict=True)) == [(1, 3), (2, 2)]


def test_characters_that_are_no_tokens_become_bytes(tmp_path: Path) -> None:
    TOKENIZERS["characters"](tmp_path)
    described = mobile(tmp_path)["tokenizer"]
    assert (described["space"], described["splits"], described["nfc"]) == ("▁", [], False)
    assert described["fallback"] == list(range(4, 260))
    assert {"\n", "\n\n", "\n\n\n"} <= set(described["special"])


def test_the_file_is_a_part_of_the_bundle(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint", **LLAMA)
    save_tokenizer(tmp_path / "checkpoint", template=CHATML)
    checkpoint, settings = open_checkpoint(str(tmp_path / "checkpoint")), ExportSettings(seq_len=(8,))
    (tmp_path / "bundle").mkdir()
    _write_model(tmp_path / "bundle", make_plan(checkpoint.config, settings), checkpoint, checkpoint.tokenizer())
    described = json.loads((tmp_path / "bundle" / "tokenizer" / FILE).read_text())
    assert described["format_version"] == 3
    assert set(described["chat"]["turns"]) == {"user", "assistant", "system", "tool"}
    assert notes(tmp_path / "checkpoint") == []
