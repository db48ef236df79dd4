"""A conversation as tokens, and which of them the assistant writes.

The messages are rendered by the tokenizer's chat template, and tokenized once without special tokens: the template writes its own. Targets
are what the assistant writes: its content and the token that ends its turn. An assistant's turn is found in one of two ways:

- A template with {% generation %} marks says itself what the assistant writes, and transformers' mask is taken as it is.
- Otherwise turn i is the text from the end of the rendering of messages[:i] with a generation prompt to the end of the
  rendering of messages[:i + 1], without the blanks at its end (space, tab, CR, LF). A token is a target if it has a character
  of a turn. Each of these renderings must be a prefix of the rendering of all messages. A template that rewrites
  earlier turns (Qwen3 drops their reasoning) is refused.

A template may also leave something out without a word: reasoning in <think> tags, or all that a tool says. So each message's content must be
found in what it writes, blanks aside. A content that is written as a JSON string counts as found.

TRL trains on the same tokens for marked templates. For some templates without marks it has marked copies, of which some count more: the end
of the generation prompt (Qwen2.5: the header's line feed) or the line feed after the turn (Qwen2.5, Gemma 3; Llama 3 neither). They are not
targets here: the model is given the first, and stops before the second.
"""

import json
import re
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from typing import Any

from ..errors import UsageError, in_a_line
from .rows import Row

BLANKS = " \t\r\n"
MARK = re.compile(r"\{%[-+]?\s*generation\b")
Marked = tuple[list[int], Iterable[bool]]  # token ids, and whether each is a target
Messages = list[dict[str, str]]


class Conversations:
    """Turns rows of messages into tokens.

    Args:
        tokenizer: transformers', with a chat template
        now: what a template takes for the present, if it writes the date
    """

    def __init__(self, tokenizer: Any, now: datetime):
        self._tokenizer, self._now = tokenizer, now

    def __call__(self, row: Row) -> Marked:
        """The tokens of a row, and whether each is a target.

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
            self._check_contents(messages, row.where)
            if MARK.search(template):
                return self._by_marks(messages, trained, row.where)
            text, turns = self._turns(messages, row.where)
        except (TemplateError, TypeError, ValueError) as error:
            raise UsageError(
                f"{row.where}: the tokenizer's chat template refuses the messages ({in_a_line(error)}). Correct or remove the row."
            ) from error
        turns = [turn for turn, train in zip(turns, trained, strict=True) if train]
        tokens = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        # Some tokenizers leave spaces out of their offsets. A token of spaces is empty then, at a place that counts all the same.
        targets = (
            any(first < end and last > start for start, end in turns) for first, last in tokens["offset_mapping"]
        )
        return tokens["input_ids"], targets

    def _render(self, messages: Messages, prompt: bool = False) -> str:
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        return text

    def _check_contents(self, messages: Messages, where: str) -> None:
        """Refuses a row of which the template would not write all."""
        # A mark after each content tells it from the same words elsewhere.
        marks = [f"\uf8ff{index}\uf8ff" for index in range(len(messages))]
        marked = [
            {**message, "content": message["content"] + mark} for message, mark in zip(messages, marks, strict=True)
        ]
        text = _without_blanks(self._render(marked))
        for index, (message, mark) in enumerate(zip(messages, marks, strict=True)):
            content = message["content"]
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

    def _turns(self, messages: Messages, where: str) -> tuple[str, list[tuple[int, int]]]:
        """The rendering of the messages, and where in it the assistant's turns begin and end, in characters."""
        whole, turns = self._render(messages), []
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                before, after = self._render(messages[:index], True), self._render(messages[: index + 1])
                if not (after.startswith(before) and whole.startswith(after)):
                    raise UsageError(
                        f"{where}: the chat template renders messages[{index}] differently before other messages, or after its generation "
                        "prompt, so the assistant's tokens cannot be found. Use prompt and completion, conversations of one answer, or a "
                        "template with {% generation %} marks."
                    )
                turns.append((len(before), len(after.rstrip(BLANKS))))
        return whole, turns


def _set_date(template: str, now: datetime) -> None:
    """Gives a template the date that it writes. transformers compiles it once, and takes no function beside the messages."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    _compile_jinja_template(template).globals["strftime_now"] = now.strftime


def _without_blanks(text: str) -> str:
    return "".join(text.split())
