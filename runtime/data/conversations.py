"""A conversation as tokens, and which of them the assistant writes.

The messages are rendered by the tokenizer's chat template, and tokenized once without special tokens: the template writes its own. Targets
are what the assistant writes: its content and the token that ends its turn. An assistant's turn is found in one of two ways:

- A template with {% generation %} marks says itself what the assistant writes, and transformers' mask is taken as it is.
- Otherwise turn i is the text from the end of the rendering of messages[:i] with a generation prompt to the end of the
  rendering of messages[:i + 1], without the blanks at its end (space, tab, CR, LF). A token is a target if it has a character
  of a turn.

Where each of these renderings is a prefix of the rendering of all messages, the conversation is one sequence. Some templates write a turn
otherwise once others follow it: Qwen3's drops its reasoning. Then each trained turn is a sequence of its own, messages[:i + 1], with itself
as the target: so every turn is trained on after what the model will be given before it, and none after what it will never see. (TRL marks a
copy of Qwen3's template that keeps the reasoning of all turns, which is one sequence, but not what the model is given.)

A template may also leave something out without a word: reasoning in <think> tags, or all that a tool says. So each message's content must be
found in what it writes, blanks aside. A content that is written as a JSON string counts as found, and of an assistant's turn that others
follow, unless by marks all are trained on at once, what is behind its reasoning.

TRL trains on the same tokens for marked templates. For some templates without marks it has marked copies, of which some count more: the end
of the generation prompt (Qwen2.5: the header's line feed) or the line feed after the turn (Qwen2.5, Gemma 3; Llama 3 neither). They are not
targets here: the model is given the first, and stops before the second.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from ..errors import UsageError, in_a_line
from .rows import Row

BLANKS = " \t\r\n"
MARK = re.compile(r"\{%[-+]?\s*generation\b")
Marked = tuple[list[int], Iterable[bool]]  # token ids, and whether each is a target
Messages = list[dict[str, str]]
Turn = tuple[int, int]  # where it begins and ends, in characters


class Conversations:
    """Turns rows of messages into tokens.

    Args:
        tokenizer: transformers', with a chat template
        now: what a template takes for the present, if it writes the date
    """

    def __init__(self, tokenizer: Any, now: datetime):
        self._tokenizer, self._now = tokenizer, now

    def __call__(self, row: Row) -> list[Marked]:
        """The sequences of a row: the tokens of each, and whether each token is a target.

        Raises:
            UsageError: by the row's place: no template, or one that refuses the messages or leaves some of their content out.
        """
        from jinja2 import TemplateError

        if not self._tokenizer.chat_template:
            raise UsageError(
                f"{row.where}: the bundle's tokenizer has no chat template. Train on rows of prompt and completion instead."
            )
        if not self._tokenizer.is_fast:
            raise UsageError(
                f"{row.where}: the bundle's tokenizer does not tell where its tokens are in the text (no tokenizer.json), so the assistant's "
                "cannot be found. Train on rows of prompt and completion instead."
            )
        messages = [{"role": message["role"], "content": message["content"]} for message in row.values["messages"]]
        trained = [message["train"] for message in row.values["messages"] if message["role"] == "assistant"]
        try:
            template = self._tokenizer.get_chat_template()
            _set_date(template, self._now)
            marked = bool(MARK.search(template))
            self._check_contents(messages, marked, row.where)
            if marked:
                return [self._by_marks(messages, trained, row.where)]
            return self._by_prefixes(messages, trained, row.where)
        except (TemplateError, TypeError, ValueError) as error:
            raise UsageError(
                f"{row.where}: the tokenizer's chat template refuses the messages ({in_a_line(error)}). Correct or remove the row."
            ) from error

    def _render(self, messages: Messages, prompt: bool = False) -> str:
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        return text

    def _check_contents(self, messages: Messages, at_once: bool, where: str) -> None:
        """Refuses a row of which the template would not write all.

        Args:
            at_once: the turns are trained on in one rendering; else each in one where no other follows
        """
        # A mark after each content tells it from the same words elsewhere.
        marks = [f"\uf8ff{index}\uf8ff" for index in range(len(messages))]
        marked = [
            {**message, "content": message["content"] + mark} for message, mark in zip(messages, marks, strict=True)
        ]
        text = _without_blanks(self._render(marked))
        for index, (message, mark) in enumerate(zip(messages, marks, strict=True)):
            content = message["content"]
            if message["role"] == "assistant" and index < len(messages) - 1 and not at_once:
                content = content.rpartition("</think>")[2]
            spellings = (content, json.dumps(content, ensure_ascii=False)[1:-1])
            if not any(_without_blanks(spelling) + mark in text for spelling in spellings):
                raise UsageError(
                    f"{where}: the chat template leaves out some of what messages[{index}] ({message['role']}) says. Take that out of the "
                    "row, use prompt and completion, or export with a template that writes it."
                )

    def _by_marks(self, messages: Messages, trained: list[bool], where: str) -> Marked:
        tokens = self._tokenizer.apply_chat_template(
            messages,
            return_dict=True,
            return_assistant_tokens_mask=True,
            tokenizer_kwargs={"verbose": False},
        )
        mask: list[int] = tokens["assistant_masks"]
        if all(trained):
            return tokens["input_ids"], map(bool, mask)
        runs = [(value, len(list(items))) for value, items in groupby(mask)]
        if sum(value for value, _ in runs) != len(trained):
            raise UsageError(
                f"{where}: the chat template's {{% generation %}} marks are not one for each of the assistant's messages, so those that are "
                "not trained on cannot be told. Split the conversation."
            )
        turns = iter(trained)
        return tokens["input_ids"], [
            target for value, length in runs for target in [bool(value and next(turns))] * length
        ]

    def _by_prefixes(self, messages: Messages, trained: list[bool], where: str) -> list[Marked]:
        answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        texts = [self._answered(messages, index, where) for index in answers]
        whole = self._render(messages)
        wanted = [text for text, train in zip(texts, trained, strict=True) if train]
        if not wanted or all(whole.startswith(text) for text, _ in texts):
            return [self._tokenized(whole, [turn for _, turn in wanted])]
        return [self._tokenized(text, [turn]) for text, turn in wanted]

    def _answered(self, messages: Messages, index: int, where: str) -> tuple[str, Turn]:
        """The conversation up to an assistant's message, and where in it that message's turn is."""
        before, text = self._render(messages[:index], True), self._render(messages[: index + 1])
        if not text.startswith(before):
            raise UsageError(
                f"{where}: the chat template renders messages[{index}] otherwise than its generation prompt begins it, so the assistant's "
                "tokens cannot be found. Use prompt and completion, or a template with {% generation %} marks."
            )
        return text, (len(before), len(text.rstrip(BLANKS)))

    def _tokenized(self, text: str, turns: list[Turn]) -> Marked:
        tokens = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return tokens["input_ids"], touching(tokens["offset_mapping"], turns)


def touching(offsets: Iterable[tuple[int, int]], turns: Sequence[Turn]) -> Iterator[bool]:
    """Of each token whether it has a character of a turn. Tokens and turns are in the order of the text, so each is looked at once.

    Some tokenizers leave spaces out of their offsets. A token of spaces is empty then, at a place that counts all the same.
    """
    place = 0
    for first, last in offsets:
        while place < len(turns) and turns[place][1] <= first:
            place += 1
        yield place < len(turns) and turns[place][0] < last


def _set_date(template: str, now: datetime) -> None:
    """Gives a template the date that it writes. transformers compiles it once, and takes no function beside the messages."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    _compile_jinja_template(template).globals["strftime_now"] = now.strftime


def _without_blanks(text: str) -> str:
    return "".join(text.split())
