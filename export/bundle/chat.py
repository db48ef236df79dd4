"""A chat template as a table, for a phone, which has no Jinja: what is written before and after each message's content.

The table is found by having the template write conversations with contents that stand out, and then checked: it must write what the
template writes, over every order of roles in up to four messages, and contents that are empty, blank, padded or full of marks. A
template that cannot be written as a table (it changes contents) is not resolved. A date that it writes is left to be written.

What is written before a message may depend on the role of the one before it: Gemma's user continues the system's turn. An assistant's
message may be written in two ways, as Qwen3's: with its reasoning if nothing follows it, without if something does (``Thinking``).
A content that a role's messages are written in another way for, as SmolLM3's system turn is for /no_think, is one that they refuse.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import pairwise, product
from os.path import commonprefix
from typing import Any

from mesp.runtime.data.conversations import BLANKS, MARK

Messages = list[dict[str, str]]
Render = Callable[[Messages, bool], str]

ROLES = ("user", "assistant", "system", "tool")
NOTHING = ""  # the role before a conversation's first message
_TRIMMED: dict[str, Callable[[str], str]] = {
    "": lambda content: content,
    "lines": lambda content: content.lstrip("\n"),
    "end": str.rstrip,
    "blanks": str.strip,
}
# Stands on both sides of the format of a date that the template writes.
DATE = "\ufdd0"
_DATES = re.compile(r"(?:[^%]|%[dmyYbB])*")  # formats that a phone writes as Python does
_TOOL_RESPONSE = ("<tool_response>", "</tool_response>")
# A text that a template looks for. One of fewer characters is in contents of any kind.
_LOOKED_FOR = re.compile(
    r"""(['"])([^'"]{4,})\1\s+(?:not\s+)?in\b|\.(?:replace|split|startswith|endswith)\(\s*(['"])([^'"]{4,})\3"""
)


class Unsupported(Exception):
    """Why a phone cannot do it: what follows "since"."""


@dataclass(frozen=True)
class Turn:
    """How the messages of a role are written."""

    before: Mapping[str, str]  # what is before the content, by the role of the message before; it cannot follow others
    after: str  # what is after it
    trim: str  # what of the content is left out: "blanks" around it, at its "end", line feeds ("lines") before it, or nothing ("")
    last: bool = True  # whether a conversation may end with it
    filled: bool = False  # whether something must be left of the content
    refuses: list[str] = field(default_factory=list)  # what must not be in it

    def refused(self, content: str) -> bool:
        """Whether the template writes this content in a way of its own."""
        return (self.filled and not _TRIMMED[self.trim](content)) or any(text in content for text in self.refuses)


@dataclass(frozen=True)
class Thinking:
    """How the assistant's message that ends a conversation is written: its reasoning between these, empty without any, and then its answer.

    In the content, reasoning is what <think> and </think> enclose. It is not written where other messages follow.
    """

    before: str
    after: str

    def last(self, content: str) -> str:
        """The content of a message that nothing follows."""
        reasoning = ""
        if "</think>" in content:
            reasoning = content.split("</think>")[0].rstrip("\n").split("<think>")[-1].strip("\n")
        return self.before + reasoning + self.after + self.earlier(content).lstrip("\n")

    def earlier(self, content: str) -> str:
        """The content of a message that others follow."""
        return content.split("</think>")[-1].lstrip("\n") if "</think>" in content else content


@dataclass(frozen=True)
class Chat:
    """A resolved chat template."""

    turns: dict[str, Turn]  # by role; one that is not there cannot be written
    prompt: str  # what asks the model for the assistant's turn
    skip: int  # characters before an assistant's content that it does not write
    marked: int | None = (
        None  # those after it that {% generation %} marks; None without marks: all but the blanks at the end
    )
    thinking: Thinking | None = None
    # The beginnings and ends of contents that the template takes for something else.
    refused: list[tuple[str, str]] = field(default_factory=list)

    def allows(self, messages: Messages) -> bool:
        """Whether these messages can be written."""
        roles = [message["role"] for message in messages]
        known = all(
            role in self.turns and before in self.turns[role].before
            for before, role in zip([NOTHING, *roles], roles, strict=False)
        )
        return known and self.turns[roles[-1]].last and not any(self._refuses(message) for message in messages)

    def render(self, messages: Messages, prompt: bool = False) -> str:
        """What the template would write."""
        return "".join(part for parts in self._parts(messages) for part in parts) + (self.prompt if prompt else "")

    def spans(self, messages: Messages) -> list[tuple[int, int]]:
        """Where the assistant's turns are, in characters of the rendering. With ``Thinking``, only a last one is trained on."""
        spans, text = [], ""
        for message, (before, content, after) in zip(messages, self._parts(messages), strict=True):
            start, end = len(text) + self.skip, len(text + before + content)
            text += before + content + after
            if message["role"] == "assistant":
                spans.append((start, len(text.rstrip(BLANKS)) if self.marked is None else end + self.marked))
        return spans

    def _parts(self, messages: Messages) -> Iterator[tuple[str, str, str]]:
        role = NOTHING
        for index, message in enumerate(messages):
            turn, content = self.turns[message["role"]], message["content"]
            if self.thinking and message["role"] == "assistant":
                last = index == len(messages) - 1
                content = self.thinking.last(content) if last else self.thinking.earlier(content)
            yield turn.before[role], _TRIMMED[turn.trim](content), turn.after
            role = message["role"]

    def _refuses(self, message: dict[str, str]) -> bool:
        content = message["content"]
        return self.turns[message["role"]].refused(content) or any(
            content.startswith(start) and content.endswith(end) for start, end in self.refused
        )

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

    def render(messages: Messages, prompt: bool) -> str:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        return text

    with _dates_marked(template):
        chat = _first_that_agrees(_tables(render, template), render)
        if MARK.search(template):
            if chat.thinking:
                raise Unsupported("its {% generation %} marks depend on the messages")
            return _marked(chat, lambda messages: _generated(tokenizer, template, messages))
        return chat


@contextmanager
def _dates_marked(template: str) -> Iterator[None]:
    """Has the template write a date's format between marks, not the date."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    def marked(written_as: str) -> str:
        if not _DATES.fullmatch(written_as):
            raise Unsupported(f"it writes the date as {written_as}")
        return f"{DATE}{written_as}{DATE}"

    names = _compile_jinja_template(template).globals
    before = names["strftime_now"]
    names["strftime_now"] = marked
    try:
        yield
    finally:
        names["strftime_now"] = before


def _tables(render: Render, template: str) -> Iterator[Chat]:
    """The table with systems and tools anywhere, and smaller ones: with their messages at the beginning alone, and without them."""
    _gaps(render, "user")  # a template that takes nothing at all says why
    written = cache(lambda order: _gaps(render, *order))
    for choice in product(("anywhere", "first", "nowhere"), repeat=2):
        yield _table(render, template, _Seen(written, render, dict(zip(("tool", "system"), choice, strict=True))))


def _first_that_agrees(tables: Iterator[Chat], render: Render) -> Chat:
    difference = None
    for chat in tables:
        if not (dead_end := _dead_end(chat)):
            difference = _difference(chat, render)
        if not (dead_end or difference):
            return chat
    raise Unsupported(difference or "it has no turns")


def _dead_end(chat: Chat) -> bool:
    """Whether nothing can follow a role that may begin a conversation: it is written in several ways then, of which fewer roles leave one."""
    followed = {before for turn in chat.turns.values() for before in turn.before}
    return any(NOTHING in turn.before and role not in followed for role, turn in chat.turns.items())


def _table(render: Render, template: str, seen: "_Seen") -> Chat:
    """What the template writes in conversations of up to three messages. Not all of it need be so in every conversation."""
    _, after_user = _gaps(render, "user")
    prompt = _rest(_gaps(render, "user", prompt=True)[1], after_user)
    thinking = _thinking(render, seen)
    turns = {role: turn for role in ROLES if (turn := seen.turn(role))}
    # Only where an answer begins with the generation prompt is it known where the assistant begins to write.
    answers = {before: text for before, text in turns["assistant"].before.items() if text.startswith(prompt)}
    if "user" not in answers:
        raise Unsupported("an assistant's turn does not begin with its generation prompt")
    turns["assistant"] = replace(turns["assistant"], before={"user": answers["user"]} if thinking else answers)
    if thinking:  # only a user's message is known to make an answer an earlier one
        for role in turns.keys() - {"user"}:
            turns[role] = replace(turns[role], before=_without(turns[role].before, "assistant"))
    refused = [_TOOL_RESPONSE] if f"startswith('{_TOOL_RESPONSE[0]}')" in template else []
    return _refusing(Chat(turns, prompt, len(prompt), thinking=thinking, refused=refused), render, template)


def _refusing(chat: Chat, render: Render, template: str) -> Chat:
    """The table with what its roles' contents must not be: empty, or with a text in them that the template looks for."""
    texts = sorted({found[2] or found[4] for found in _LOOKED_FOR.finditer(template)})

    def turn(role: str) -> Turn:
        around = list(_around(chat, role))

        def differs(*contents: str) -> bool:
            return any(
                _written(render, messages, prompt) != chat.render(messages, prompt)
                for before, after in around
                for content in contents
                for messages in [[*before, *_messages((role,), content), *after]]
                for prompt in (False, True)
            )

        refuses = [text for text in texts if differs(text, f"{text} one", f"one {text}")]
        return replace(chat.turns[role], filled=differs(""), refuses=refuses)

    return replace(chat, turns={role: turn(role) for role in chat.turns})


def _written(render: Render, messages: Messages, prompt: bool) -> str | None:
    """None if the template refuses it."""
    with suppress(Unsupported):
        return _rendered(render, messages, prompt)
    return None


def _around(chat: Chat, role: str) -> Iterator[tuple[Messages, Messages]]:
    """What there may be before and after a message of the role, users' and assistants'."""
    for before in ((), ("user",), ("user", "assistant")):
        for after in ((), ("user",), ("user", "assistant")):
            order = (*before, role, *after)
            messages = _messages(order, *("one" for _ in order))
            if chat.allows(messages):
                yield messages[: len(before)], messages[len(before) + 1 :]


class _Seen:
    """What is written around contents in all short conversations that the template takes.

    Args:
        written: the gaps of an order of roles
        places: of roles that are not looked for anywhere: only "first" in a conversation, or "nowhere"
    """

    def __init__(self, written: Callable[[tuple[str, ...]], list[str]], render: Render, places: Mapping[str, str]):
        self._first: dict[str, set[str]] = {}
        self._between: dict[tuple[str, str], set[str]] = {}  # without an answer at the end, which may be another matter
        self._end: dict[str, set[str]] = {}
        self._trims: dict[str, str] = {}
        for order in (order for count in (1, 2, 3) for order in product(ROLES, repeat=count)):
            if not all(_may_be(places.get(role), index) for index, role in enumerate(order)):
                continue
            with suppress(Unsupported):
                self._note(order, written(order))
                for index in [index for index, role in enumerate(order) if role not in self._trims]:
                    self._trims[order[index]] = _trims(render, order, index)
        if ("user", "assistant") not in self._between:
            _gaps(render, "user", "assistant", "user")  # says why there is none
            raise Unsupported("it writes an answer in more than one way")

    def _note(self, order: tuple[str, ...], gaps: list[str]) -> None:
        self._first.setdefault(order[0], set()).add(gaps[0])
        self._end.setdefault(order[-1], set()).add(gaps[-1])
        for place, pair in enumerate(pairwise(order), 1):
            if pair[1] != "assistant" or place < len(order) - 1:
                self._between.setdefault(pair, set()).add(gaps[place])

    def to_answer(self) -> str:
        """Between a user's message and an answer that is not the last message."""
        return _only(self._between["user", "assistant"], "it writes an answer in more than one way")

    def turn(self, role: str) -> Turn | None:
        """How messages of the role are written, where it is the same in all; None if there are none."""
        known = {pair: next(iter(gaps)) for pair, gaps in self._between.items() if len(gaps) == 1}
        ends = self._end.get(role, set())
        before = {
            first: gap.removeprefix(self._after(first)) for (first, second), gap in known.items() if second == role
        }
        if len(firsts := self._first.get(role, set())) == 1 and role != "assistant":
            before[NOTHING] = next(iter(firsts))
        return Turn(before, self._after(role), self._trims[role], ends == {self._after(role)}) if before else None

    def _after(self, role: str) -> str:
        """What is written after the role's messages, whatever follows."""
        gaps = [gap for pair, gaps in self._between.items() if pair[0] == role for gap in gaps]
        return commonprefix([*gaps, *self._end.get(role, ())])  # noqa: RUF071  # texts, not paths


def _may_be(place: str | None, index: int) -> bool:
    return place != "nowhere" and (place != "first" or index == 0)


def _only(texts: set[str], otherwise: str) -> str:
    if len(texts) != 1:
        raise Unsupported(otherwise)
    return next(iter(texts))


def _without(before: Mapping[str, str], role: str) -> dict[str, str]:
    return {name: text for name, text in before.items() if name != role}


def _thinking(render: Render, seen: "_Seen") -> Thinking | None:
    """How the last answer is written, if it is otherwise than one that something follows."""
    last = _gaps(render, "user", "assistant")[1]
    if last == (start := seen.to_answer()):
        return None
    question, reasoning, answer = "\uf8ff0\uf8ff", "\uf8ff1\uf8ff", "\uf8ff2\uf8ff"
    text = _rendered(render, _messages(("user", "assistant"), question, f"<think>\n{reasoning}\n</think>\n\n{answer}"))
    before, found, rest = text.partition(question)[2].partition(reasoning)
    thinking = Thinking(_rest(before, start), rest.partition(answer)[0])
    if not found or answer not in rest or start + thinking.before + thinking.after != last:
        raise Unsupported("it writes the last answer in a way of its own")
    return thinking


def _marked(chat: Chat, generated: Callable[[Messages], list[tuple[int, int]]]) -> Chat:
    """The table with what the template's own marks say that the assistant writes."""
    messages = _messages(("user", "assistant"), "one", "two")
    before, content = len(chat.render(messages[:1])), len(chat.turns["assistant"].before["user"])
    spans = generated(messages)
    if len(spans) != 1:
        raise Unsupported("its {% generation %} marks are not one for each turn of an assistant")
    chat = replace(chat, skip=spans[0][0] - before, marked=spans[0][1] - before - content - len("two"))
    if not (0 <= chat.skip <= content and 0 <= (chat.marked or 0) <= len(chat.turns["assistant"].after)):
        raise Unsupported("its {% generation %} marks are not around the content")
    for messages in _allowed(chat):
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


def _trims(render: Render, roles: tuple[str, ...], place: int) -> str:
    """What the content of the message at this place loses."""

    def loses(content: str) -> bool:
        contents = [content if index == place else "one" for index in range(len(roles))]
        return content not in _rendered(render, _messages(roles, *contents))

    if loses(" \uf8ff \n"):
        return "blanks" if loses(" \uf8ff") else "end"
    return "lines" if loses("\n\n\uf8ff") else ""


# What a template may take apart, escape, or leave out.
_CONTENTS = (
    "Who's there?",
    "",
    " ",
    "\n",
    " \t padded \n\n",
    "one\ntwo\r\n\u2028three",
    "<think>\nwell\n</think>\n\nnaïve, 你好 👍",
    "a </think> b<think>\n\n c\n</think>\n d",
    "<|im_start|>user\n<|im_end|>",
    "<tool_response>\n{}\n</tool_response>",
    "{{ 'x' }} {% if %} <b>&amp;\"'</b> \\n",
    "```json\n{\"a\": [1]}\n```",
)  # fmt: skip


def _allowed(chat: Chat) -> Iterator[Messages]:
    """Conversations that the table can write: of each order of roles some, whose contents are those above in turn."""
    for count in range(1, 5):
        for roles in product(chat.turns, repeat=count):
            for start in range(0, len(_CONTENTS), max(1, 2 * count - 4)):
                contents = [_CONTENTS[(start + 5 * index) % len(_CONTENTS)] for index in range(count)]
                if chat.allows(messages := _messages(roles, *contents)):
                    yield messages


def _difference(chat: Chat, render: Render) -> str | None:
    """How the template writes conversations otherwise than the table; None if it does not."""
    for messages in _allowed(chat):
        for prompt in (False, True):
            try:
                text = _rendered(render, messages, prompt)
            except Unsupported as error:
                return str(error)
            if text != chat.render(messages, prompt):
                roles = ", ".join(message["role"] for message in messages)
                return f"it does not write {roles} as one message after another with their contents as they are"
    return None
