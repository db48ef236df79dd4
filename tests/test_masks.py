"""Which tokens are trained on, against TRL: its SFTTrainer prepares the same rows with the same tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
import trl
from datasets import Dataset
from transformers import AutoTokenizer, ByT5Tokenizer, LlamaConfig, LlamaForCausalLM
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from mesp.runtime.data.dataset import load_data
from mesp.runtime.data.labels import MASKED
from mesp.runtime.errors import UsageError

from .test_data import CHATML, save_tokenizer

Rows = list[dict[str, Any]]
Targets = list[tuple[list[int], list[int]]]

LONG = 400  # tokens, more than any row here has
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
)
TEXTS: Rows = [
    {"text": "to be, or not"},
    {"text": "already closed<|im_end|>"},
    {"text": "naïve, 你好\n\n"},
    {"text": ""},
]
COMPLETIONS: Rows = [
    {"prompt": "Who is there? ", "completion": "nay, answer me"},
    {"prompt": "to b", "completion": "e, or not to be"},  # a token spans the border
    {"prompt": "closed", "completion": " already<|im_end|>"},
    {"prompt": "", "completion": "no prompt"},
    {"prompt": "no completion", "completion": ""},
]
QUESTION, ANSWER = {"role": "user", "content": "Who's there?"}, {"role": "assistant", "content": "Nay, answer me. "}
CHATS: Rows = [
    {"messages": [QUESTION, ANSWER]},
    {
        "messages": [
            QUESTION,
            ANSWER,
            {"role": "user", "content": "\n\nLong live the king!\n"},
            {"role": "assistant", "content": "\n\nBernardo?\n"},
        ]
    },
]
SYSTEM_CHAT = {"messages": [{"role": "system", "content": "You are Hamlet."}, *CHATS[1]["messages"], QUESTION]}


def ours(folder: Path, rows: Rows, tokens: int = LONG, packing: bool = False) -> Targets:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = load_data(path, tokens, 1000, folder, packing)[0].examples
    return [(example.input_ids.tolist(), example.targets.tolist()) for example in examples]


def trainer(folder: Path, rows: Rows, **options: Any) -> tuple[SFTTrainer, Dataset]:
    """TRL's trainer of the rows, and the rows as it prepared them."""
    config = LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=1000
    )
    options = {"max_length": None, **options}
    settings = SFTConfig(str(folder / "trl"), report_to="none", use_cpu=True, bf16=False, **options)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    made = SFTTrainer(
        LlamaForCausalLM(config), settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    return made, made.train_dataset


def theirs(folder: Path, rows: Rows, **options: Any) -> Targets:
    """Each row that has a target, shifted as the model's loss shifts it."""
    _, prepared = trainer(folder, rows, **options)
    shifted = [(row["input_ids"][:-1], row["labels"][1:]) for row in prepared]
    return [(ids, targets) for ids, targets in shifted if any(target != MASKED for target in targets)]


@pytest.mark.parametrize("bos", [False, True], ids=["without BOS", "with BOS"])
@pytest.mark.parametrize("rows", [TEXTS, COMPLETIONS], ids=["text", "completion"])
def test_texts_and_completions_train_on_the_tokens_that_trl_trains_on(tmp_path: Path, rows: Rows, bos: bool) -> None:
    save_tokenizer(tmp_path, bos=bos)
    assert ours(tmp_path, rows) == theirs(tmp_path, rows)


def test_token_ids_train_on_the_labels_that_trl_trains_on(tmp_path: Path) -> None:
    rows = [{"input_ids": [5, 6, 7, 8], "labels": [5, MASKED, 7, MASKED]}]
    save_tokenizer(tmp_path)
    assert ours(tmp_path, rows) == theirs(tmp_path, rows) == [([5, 6, 7], [MASKED, 7, MASKED])]


@pytest.mark.parametrize("tokens", [3, 7, 11])
def test_rows_are_cut_and_left_out_as_trl_does(tmp_path: Path, tokens: int) -> None:
    save_tokenizer(tmp_path)
    kept = ours(tmp_path, COMPLETIONS, tokens)
    assert kept == theirs(tmp_path, COMPLETIONS, max_length=tokens + 1)
    assert all(len(ids) <= tokens for ids, _ in kept)


def test_a_marked_template_trains_on_the_tokens_that_trl_trains_on(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, template=MARKED)
    rows = [*CHATS, SYSTEM_CHAT]
    assert ours(tmp_path, rows) == theirs(tmp_path, rows, assistant_only_loss=True)


def test_turns_are_found_without_marks_where_the_marks_would_be(tmp_path: Path) -> None:
    rows = [*CHATS, SYSTEM_CHAT]
    save_tokenizer(tmp_path, template=MARKED, bos=True)
    marked = theirs(tmp_path, rows, assistant_only_loss=True)
    save_tokenizer(tmp_path, template=CHATML, bos=True)
    assert ours(tmp_path, rows) == marked


# Line feeds that TRL's marked copies of these templates add in CHATS: after the assistant's header, and after the end of its turn.
# There are three turns, but one has a token of both the header's line feed and the content's, which both train on.
MORE = {"llama3": (0, 0), "qwen2_5": (2, 3), "qwen3_instruct_2507": (0, 3), "gemma3": (0, 3), "lfm2": (0, 3)}


@pytest.mark.parametrize("name", MORE)
def test_templates_that_trl_marks_differ_by_its_line_feeds_alone(tmp_path: Path, name: str) -> None:
    save_tokenizer(tmp_path, template=(TEMPLATES / f"{name}.jinja").read_text())
    line_feed = AutoTokenizer.from_pretrained(tmp_path).encode("\n")
    headers = ends = 0
    for (ids, mine), (their_ids, their) in zip(
        ours(tmp_path, CHATS), theirs(tmp_path, CHATS, assistant_only_loss=True), strict=True
    ):
        assert ids == their_ids
        for position, (target, their_target) in enumerate(zip(mine, their, strict=True)):
            if target != their_target:
                assert (target, [their_target]) == (MASKED, line_feed)
                after_end = mine[position - 1] != MASKED
                assert after_end or mine[position + 1] != MASKED
                headers, ends = headers + (not after_end), ends + after_end
    assert (headers, ends) == MORE[name]


THINKING: Rows = [
    {
        "messages": [
            QUESTION,
            {"role": "assistant", "content": "<think>\nA guard?\n</think>\n\nNay, answer me."},
            {"role": "user", "content": "Long live the king!"},
            {"role": "assistant", "content": "<think>\nHis voice.\n</think>\n\nBernardo?"},
            {"role": "user", "content": "He."},
        ]
    }
]


@pytest.mark.parametrize("rows", [CHATS, THINKING], ids=["plain", "reasoning"])
def test_a_template_that_rewrites_earlier_turns_trains_each_turn_as_it_is_asked_for(tmp_path: Path, rows: Rows) -> None:
    """After what the model is given to answer to, on all that it is to answer."""
    save_tokenizer(tmp_path, template=(TEMPLATES / "qwen3.jinja").read_text())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)

    def render(messages: Any, prompt: bool = False) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))

    expected = []
    for messages in (row["messages"] for row in rows):
        for index in (index for index, message in enumerate(messages) if message["role"] == "assistant"):
            asked, answered = render(messages[:index], prompt=True), render(messages[: index + 1])
            expected.append((tokenizer.encode(answered), answered.removeprefix(asked).rstrip("\n")))
    made = ours(tmp_path, rows)
    assert [ids for ids, _ in made] == [ids[:-1] for ids, _ in expected]
    targets = [tokenizer.decode([target for target in targets if target != MASKED]) for _, targets in made]
    assert targets == [text for _, text in expected]
    assert "A guard?" not in tokenizer.decode(made[-1][0])


def test_turns_that_are_not_trained_on_are_no_sequences(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, template=(TEMPLATES / "qwen3.jinja").read_text())
    question, answer, *rest = THINKING[0]["messages"]
    both, second = ours(tmp_path, THINKING), [{"messages": [question, {**answer, "train": False}, *rest]}]
    assert ours(tmp_path, second) == both[1:]


def test_held_out_conversations_are_whole(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, template=(TEMPLATES / "qwen3.jinja").read_text())
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(THINKING[0]) + "\n" + json.dumps(CHATS[1]) + "\n")
    rest, held_out = load_data(path, LONG, 1000, tmp_path, eval_split=0.5)
    assert held_out and [len(rest.examples), len(held_out.examples)] == [2, 2]
    assert any("2 conversations became 4 sequences" in note for note in rest.notes)


def test_joined_texts_train_on_the_tokens_that_trl_packs_and_trains_on(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, bos=True)
    rows = [{"text": text} for text in ("to be, or not to be, that is the question", "Long live the king!", "He.")]
    packer, packed = trainer(tmp_path, rows, packing=True, max_length=LONG)
    batch = packer.data_collator([packed[0]])
    assert ours(tmp_path, rows, packing=True) == [
        (batch["input_ids"][0, :-1].tolist(), batch["labels"][0, 1:].tolist())
    ]


def test_offsets_without_spaces_find_the_same_turns(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, template=CHATML)
    targets = ours(tmp_path, CHATS)
    save_tokenizer(tmp_path, template=CHATML, trim_offsets=True)
    offsets = AutoTokenizer.from_pretrained(tmp_path)("a ", return_offsets_mapping=True)["offset_mapping"]
    assert offsets == [(0, 1), (2, 2)]
    assert ours(tmp_path, CHATS) == targets


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "the bundle's tokenizer has no chat template. Train on rows of prompt and completion"),
        ("{{ raise_exception('no jesters') }}", "the tokenizer's chat template refuses the messages (no jesters)"),
        ("{{ messages[0].content + 1 }}", "the tokenizer's chat template refuses the messages (can only concatenate"),
        (CHATML.replace("assistant\n", "assistant\n<think>"), "the chat template renders messages[1] otherwise"),
    ],
    ids=["absent", "refuses", "fails", "prompts with what it does not render"],
)
def test_a_template_that_cannot_be_used_is_refused(tmp_path: Path, template: str | None, message: str) -> None:
    save_tokenizer(tmp_path, template=template)
    with pytest.raises(UsageError) as error:
        ours(tmp_path, CHATS[1:])
    assert f"{tmp_path / 'rows.jsonl'}, line 1: {message}" in str(error.value)


def test_messages_need_a_tokenizer_with_offsets(tmp_path: Path) -> None:
    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"line 1: .*does not tell where its tokens are"):
        ours(tmp_path, CHATS)
