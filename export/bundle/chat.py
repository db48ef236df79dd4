"""A chat template as a table, for a phone, which has no Jinja: what is written before and after each message's content.

The table is found by having the template write conversations with contents that stand out, and then checked: it must write what the
template writes, over every order of roles in up to four messages, and contents that are empty, blank, padded or full of marks. A
template that cannot be written as a table (it changes what is earlier, or contents, or writes the date) is not resolved.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from mesp.runtime.data.conversations import BLANKS, MARK

Messages = list[dict[str, str]]
Render = Callable[[Messages, bool], str]


class Unsupported(Exception):
    """Why a phone cannot do it: what follows "since"."""


@dataclass(frozen=True)
class Turn:
    """How the messages of a role are written."""

    first: str | None  # before the content of a conversation's first message; None if it cannot be one
    next: str | None  # before that of a later one
    after: str
    trim: bool  # whether blanks around the content are left out


@dataclass(frozen=True)
class Chat:
    """A resolved chat template."""

    turns: dict[str, Turn]  # by role; one that is not there cannot be written
    prompt: str  # what asks the model for the assistant's turn
    skip: int  # characters before an assistant's content that it does not write
    marked: int | None  # those after it that {% generation %} marks; None without marks: all but the blanks at the end

    def allows(self, roles: tuple[str, ...]) -> bool:
        """Whether messages of these roles can be written one after another."""
        turns = [self.turns[role] for role in roles]
        return turns[0].first is not None and all(turn.next is not None for turn in turns[1:])

    def render(self, messages: Messages, prompt: bool = False) -> str:
        """What the template would write."""
        return "".join(part for parts in self._parts(messages) for part in parts) + (self.prompt if prompt else "")

    def spans(self, messages: Messages) -> list[tuple[int, int]]:
        """Where the assistant's turns are, in characters of the rendering."""
        spans, text = [], ""
        for message, (before, content, after) in zip(messages, self._parts(messages), strict=True):
            start, end = len(text) + self.skip, len(text + before + content)
            text += before + content + after
            if message["role"] == "assistant":
                spans.append((start, len(text.rstrip(BLANKS)) if self.marked is None else end + self.marked))
        return spans

    def _parts(self, messages: Messages) -> Iterator[tuple[str, str, str]]:
        for index, message in enumerate(messages):
            turn = self.turns[message["role"]]
            content = message["content"].strip() if turn.trim else message["content"]
            yield (turn.next if index else turn.first) or "", content, turn.after

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def resolve(tokenizer: Any) -> Chat:
    """The tokenizer's chat template as a table.

    Raises:
        Unsupported: it is none.
    """
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        raise Unsupported("it is several, and none is the default") from error
    if "strftime_now" in template:
        raise Unsupported("it writes the date")

    def render(messages: Messages, prompt: bool) -> str:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        return text

    chat = _dialogue(render)
    if difference := _difference(chat, render, ("user", "assistant")):
        raise Unsupported(difference)
    for role in ("system", "tool"):
        chat = _with_role(chat, render, role)
    if MARK.search(template):
        return _marked(chat, lambda messages: _generated(tokenizer, template, messages))
    if not (chat.turns["assistant"].next or "").startswith(chat.prompt):
        raise Unsupported("an assistant's turn does not begin with its generation prompt")
    return chat


def _dialogue(render: Render) -> Chat:
    """The template's users and assistants, and its generation prompt."""
    head, after_user = _gaps(render, "user")
    _, between, after_assistant = _gaps(render, "user", "assistant")
    again = _gaps(render, "user", "assistant", "user")[2]
    prompt = _rest(_gaps(render, "user", prompt=True)[1], after_user)
    turns = {
        "user": Turn(head, _rest(again, after_assistant), after_user, _trims(render, "user")),
        "assistant": Turn(None, _rest(between, after_user), after_assistant, _trims(render, "user", "assistant")),
    }
    return Chat(turns, prompt, len(prompt), None)


def _with_role(chat: Chat, render: Render, role: str) -> Chat:
    """The table with another role, wherever a message of it can be written; as it was if it cannot be anywhere."""
    user, assistant = chat.turns["user"], chat.turns["assistant"]
    try:
        first, gap, _ = _gaps(render, role, "user")
        leading = Turn(first, None, gap.removesuffix(user.next or ""), _trims(render, role))
    except Unsupported:
        leading = None
    try:
        _, before, gap, _ = _gaps(render, "user", role, "assistant")
        after = gap.removesuffix(assistant.next or "")
        later = Turn(None, _rest(before, user.after), after, _trims(render, "user", role))
    except Unsupported:
        later = None
    both = [replace(leading, next=later.next)] if leading and later else []
    for turn in (*both, leading, later):
        if turn:
            wider = replace(chat, turns={**chat.turns, role: turn})
            if not _difference(wider, render, tuple(wider.turns)):
                return wider
    return chat


def _marked(chat: Chat, generated: Callable[[Messages], list[tuple[int, int]]]) -> Chat:
    """The table with what the template's own marks say that the assistant writes."""
    messages = _messages(("user", "assistant"), "one", "two")
    before, content = len(chat.render(messages[:1])), len(chat.turns["assistant"].next or "")
    spans = generated(messages)
    if len(spans) != 1:
        raise Unsupported("its {% generation %} marks are not one for each turn of an assistant")
    chat = replace(chat, skip=spans[0][0] - before, marked=spans[0][1] - before - content - len("two"))
    if not (0 <= chat.skip <= content and 0 <= (chat.marked or 0) <= len(chat.turns["assistant"].after)):
        raise Unsupported("its {% generation %} marks are not around the content")
    for roles in _orders(chat, tuple(chat.turns)):
        for messages in _conversations(roles):
            if chat.spans(messages) != generated(messages):
                raise Unsupported("its {% generation %} marks depend on the messages")
    return chat


def _generated(tokenizer: Any, template: str, messages: Messages) -> list[tuple[int, int]]:
    """The parts that the template marks, in characters, as transformers finds them for its mask of the assistant's tokens."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered: Any = render_jinja_template(  # declared to return texts alone
        conversations=[messages],
        chat_template=template,
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    _, (spans,) = rendered
    return [(start, end) for start, end in spans]


def _messages(roles: tuple[str, ...], *contents: str) -> Messages:
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]


def _rendered(render: Render, messages: Messages, prompt: bool = False) -> str:
    try:
        return render(messages, prompt)
    except Exception as error:  # a template is a program and may fail in any way, which is no reason to not export
        roles = ", ".join(message["role"] for message in messages)
        raise Unsupported(f"it refuses the messages {roles} ({error})") from error


def _gaps(render: Render, *roles: str, prompt: bool = False) -> list[str]:
    """What is written before, between and after the contents of messages of these roles."""
    contents = [f"\uf8ff{index}\uf8ff" for index in range(len(roles))]
    text, gaps = _rendered(render, _messages(roles, *contents), prompt), []
    for content in contents:
        if text.count(content) != 1:
            raise Unsupported(f"it does not write each message once, in order ({', '.join(roles)})")
        before, _, text = text.partition(content)
        gaps.append(before)
    return [*gaps, text]


def _rest(text: str, start: str) -> str:
    if not text.startswith(start):
        raise Unsupported("it writes the end of a message by what follows")
    return text.removeprefix(start)


def _trims(render: Render, *roles: str) -> bool:
    """Whether the last message's content loses the blanks around it."""
    contents = ["one"] * (len(roles) - 1) + [" \uf8ff \n"]
    return contents[-1] not in _rendered(render, _messages(roles, *contents))


# What a template may take apart, escape, or leave out.
_CONTENTS = (
    "Who's there?",
    "",
    " ",
    "\n",
    " \t padded \n\n",
    "one\ntwo\r\n\u2028three",
    "<think>\nwell\n</think>\n\nnaïve, 你好 👍",
    "<|im_start|>user\n<|im_end|>",
    "{{ 'x' }} {% if %} <b>&amp;\"'</b> \\n",
    "```json\n{\"a\": [1]}\n```",
)  # fmt: skip


def _conversations(roles: tuple[str, ...]) -> Iterator[Messages]:
    """Messages of these roles whose contents are each of those above once in each place."""
    for start in range(len(_CONTENTS)):
        yield _messages(roles, *(_CONTENTS[(start + 3 * index) % len(_CONTENTS)] for index in range(len(roles))))


def _orders(chat: Chat, roles: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for count in range(1, 5):
        yield from (order for order in product(roles, repeat=count) if chat.allows(order))


def _difference(chat: Chat, render: Render, roles: tuple[str, ...]) -> str | None:
    """How the template writes conversations of these roles otherwise than the table; None if it does not."""
    for order in _orders(chat, roles):
        for messages in _conversations(order):
            for prompt in (False, True):
                try:
                    text = _rendered(render, messages, prompt)
                except Unsupported as error:
                    return str(error)
                if text != chat.render(messages, prompt):
                    return f"it does not write {', '.join(order)} as one message after another with their contents as they are"
    return None
