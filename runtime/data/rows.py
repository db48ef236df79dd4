"""From the records of a file to checked rows. Every key of a row is used, refused by its name, or named once as not read.

The keys of a row tell its kind. All rows of a file are of one kind. contract/rows.json has the keys, for the app too:

    text                  a document
    prompt, completion    two strings
    messages              a list of {"role", "content"}, strings; roles are system, user, assistant and tool. One is the assistant's,
                          but not the first. "weight": 0 or "train": false beside an assistant's content mean that it is not trained on
    input_ids, labels     token ids, and what each token is as a target: its id, or -100 if it is none. Tokens whose "attention_mask"
                          is 0 are padding, and left out; "position_ids" must count up by one

Two other formats are read as messages, where a row is of none of these kinds:

    conversations             ShareGPT's: a list of {"from", "value"}, and an optional "system"
    instruction, output       Alpaca's: the user's turn is the instruction, and after a line feed the "input" if there is one; "system" may
                              be there too

``columns`` renames: "prompt=question,completion=answer" takes the row's question for its prompt. The other keys of kinds are then
ordinary columns.

A key that other trainers know, and that would change what is trained on, is refused ("reserved" in rows.json) unless its value says
nothing. All other keys are ordinary columns, such as an id or a source: they are not read, and ``RowReader.notes`` names them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from ..contract import rows_table
from ..errors import UsageError
from .records import Text

Kind = Literal["file", "text", "completion", "messages", "ids"]  # "file" is a text file: a text that does not end
_TABLE = rows_table()
KEYS: dict[Kind, list[str]] = {kind: _TABLE["kinds"][kind] for kind in get_args(Kind) if kind != "file"}
FOREIGN: dict[str, list[str]] = _TABLE["foreign"]
OPTIONAL: dict[str, list[str]] = _TABLE["optional"]
RESERVED: dict[str, dict[str, Any]] = _TABLE["reserved"]
ROLES: list[str] = _TABLE["roles"]
SPEAKERS: dict[str, str] = _TABLE["speakers"]
EXPECTED = 'A row has "text", or "prompt" and "completion", or "messages", or "input_ids" and "labels"'
RENAME = "Rename its keys, or say which they are: --map prompt=question,completion=answer"
_ALL: dict[str, list[str]] = {**_TABLE["kinds"], **FOREIGN}  # the keys of each format of rows
_TARGETS = list(dict.fromkeys(key for table in (KEYS, FOREIGN, OPTIONAL) for keys in table.values() for key in keys))
MASKED = -100  # the label of what is no target
_HOW = {
    "ShareGPT": "ShareGPT's conversations are read as messages",
    "Alpaca": "Alpaca's fields are read as messages: the instruction and its input are the user's, the output the assistant's",
}


@dataclass(frozen=True)
class Row:
    """A checked row.

    Args:
        where: file and line, or file and row
        values: the keys of its kind. "file" has "text". Each of the messages has role, content and, of the assistant's, train
    """

    where: str
    kind: Kind
    values: dict[str, Any]


def read_columns(text: str | None) -> dict[str, str]:
    """``--map``: what a row calls each key of a kind, as in "prompt=question,completion=answer".

    Raises:
        UsageError: it is not of that form, or what is left of a "=" is no key of a kind.
    """
    columns: dict[str, str] = {}
    for part in text.split(",") if text is not None else ():
        key, equals, column = (word.strip() for word in part.partition("="))
        if not (key and equals and column):
            raise UsageError(f"--map {text}: {part!r} is not KEY=COLUMN, as in prompt=question,completion=answer.")
        if key not in _TARGETS or key in columns:
            problem = "is there twice" if key in columns else f"is no key of a row. Keys are {', '.join(_TARGETS)}"
            raise UsageError(f"--map {text}: {key} {problem}.")
        columns[key] = column
    return columns


class RowReader:
    """Turns a file's records into rows, and remembers which of their keys it did not read.

    Args:
        columns: of ``--map``
    """

    def __init__(self, columns: str | None = None):
        self._columns = read_columns(columns)
        self._kind: Kind | None = None
        self._unread: Counter[str] = Counter()
        self._foreign: set[str] = set()

    def __call__(self, where: str, values: Any) -> Row:
        """The row of a record.

        Raises:
            UsageError: it is malformed, of another kind than the first, or has a key that would change what is trained on.
        """
        if isinstance(values, Text):
            return Row(where, "file", {"text": values})
        kind, used, others, format_ = self._taken_apart(values, where)
        if self._kind not in (None, kind):
            assert self._kind
            before = _quoted(KEYS[self._kind])
            raise UsageError(f"{where}: {_quoted(KEYS[kind])} after rows of {before}. Keep one kind in a file.")
        _refuse_reserved(kind, others, where)
        row = Row(where, kind, _CHECKS[format_](used, where))
        self._kind = kind
        self._unread.update(name for name, value in others.items() if value is not None)
        self._foreign.update({format_} & FOREIGN.keys())
        return row

    def _taken_apart(self, values: Any, where: str) -> tuple[Kind, dict[str, Any], dict[str, Any], str]:
        """A record's kind, the values that make it one, all others, and the format that they are in: a kind or a foreign one."""
        if not isinstance(values, dict):
            raise UsageError(f"{where}: {_short(values)} is not an object. {EXPECTED}.")
        named, others = self._named(values, where)
        formats = _matching(KEYS, named) or _matching(FOREIGN, named)
        if len(formats) > 1:
            both = " and of ".join(_quoted(_ALL[name]) for name in formats)
            raise UsageError(
                f"{where}: the row is one of {both}. Keep the keys of one kind only, or choose with --map, as in --map text=text."
            )
        if not formats:
            raise UsageError(f"{where}: {EXPECTED}; this one has {_quoted(values) or 'nothing'}. {RENAME}.")
        (format_,) = formats
        keys = [*_ALL[format_], *OPTIONAL.get(format_, ())]
        used = {key: named.pop(key) for key in keys if key in named}
        return _kind_of(format_), used, {**others, **named}, format_

    def _named(self, values: dict[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The record by the keys of kinds, and what is left of it. Without ``--map`` that is nothing."""
        if not self._columns:
            return dict(values), {}
        if missing := [column for column in self._columns.values() if column not in values]:
            raise UsageError(
                f'{where}: the row has no "{missing[0]}", which --map names; it has {_quoted(values) or "nothing"}.'
            )
        named = {key: values[column] for key, column in self._columns.items()}
        taken = set(self._columns.values())
        return named, {name: value for name, value in values.items() if name not in taken}

    @property
    def notes(self) -> list[str]:
        """What a person should know of how the rows were read: a sentence each, without its full stop."""
        notes = [_HOW[name] for name in sorted(self._foreign)]
        if self._unread:
            names = sorted(self._unread)
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            rows = max(self._unread.values())
            notes.append(
                f"columns that are not read: {_quoted(names[:8])}{more}, in {rows} row{'s' if rows > 1 else ''}"
            )
        return notes


def _matching(table: Mapping[Any, Sequence[str]], values: Mapping[str, Any]) -> list[str]:
    return [name for name, keys in table.items() if set(keys) <= values.keys()]


def _kind_of(format_: str) -> Kind:
    return next((kind for kind in KEYS if kind == format_), "messages")


def _refuse_reserved(kind: Kind, others: Mapping[str, Any], where: str) -> None:
    """Refuses keys that are no ordinary columns: other trainers give them a meaning, which they would lose here."""
    for name, value in others.items():
        rule = RESERVED.get(name)
        if rule is None or kind not in rule.get("kinds", KEYS) or _is_nothing(value):
            continue
        if str(value) in rule.get("harmless", ()) or ("harmful" in rule and str(value) not in rule["harmful"]):
            continue
        raise UsageError(
            f'{where}: "{name}" would change what is trained on, and is not supported. {rule["instead"]} Or leave the key out.'
        )


def _is_nothing(value: Any) -> bool:
    # Parquet gives every row and message the keys of all, null where one has none.
    return value is None or (isinstance(value, str | list | dict) and not value)


# --- The values of each format, checked -------------------------------------------------------------------------------


def _strings(values: dict[str, Any], where: str) -> dict[str, Any]:
    for name, value in values.items():
        _check_string(value, f'"{name}"', where)
    return values


def _check_string(value: Any, name: str, where: str) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{where}: {name} must be a string, not {_short(value)}. Correct or remove the row.")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair, which no tokenizer takes
        raise UsageError(f"{where}: {name} is not Unicode text ({error.reason}). Correct or remove the row.") from error


def _messages(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Those of either key, each with a role and content or, as ShareGPT has them, a speaker and a value."""
    name = "messages" if "messages" in values else "conversations"
    items = values[name]
    if not isinstance(items, list) or not items:
        expected = '{"role", "content"}' if name == "messages" else '{"from", "value"}'
        raise UsageError(f'{where}: "{name}" must be a list of {expected}, not {_short(items)}.')
    messages = [
        _message(_with_role(item, f"{name}[{i}]", where), f"{name}[{i}]", where) for i, item in enumerate(items)
    ]
    return _conversation(_after_system(values.get("system"), messages, where), where)


def _with_role(item: Any, name: str, where: str) -> Any:
    """ShareGPT's {"from", "value"} as {"role", "content"}; anything else as it is."""
    if not isinstance(item, dict) or "from" not in item or item.keys() & {"role", "content"}:
        return item
    speaker = item["from"]
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        raise UsageError(f"{where}: {name} is from {_short(speaker)}. Known are {', '.join(SPEAKERS)}.")
    others = {key: value for key, value in item.items() if key not in ("from", "value")}
    return {"role": SPEAKERS[speaker], "content": item.get("value"), **others}


def _alpaca(values: dict[str, Any], where: str) -> dict[str, Any]:
    texts = {name: value for name, value in values.items() if not _is_nothing(value)}
    _strings({"instruction": values["instruction"], "output": values["output"], **texts}, where)
    question = "\n".join(text for text in (values["instruction"], values.get("input")) if text)
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": values["output"], "train": True},
    ]
    return _conversation(_after_system(values.get("system"), messages, where), where)


def _after_system(system: Any, messages: list[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """The messages after the system's, if the row has one beside them."""
    if _is_nothing(system):
        return messages
    _check_string(system, '"system"', where)
    if messages[0]["role"] == "system":
        raise UsageError(f'{where}: "system" stands beside a first message of the system. Keep one of both.')
    return [{"role": "system", "content": system}, *messages]


def _message(message: Any, name: str, where: str) -> dict[str, Any]:
    """A message with its role, content and, if it is the assistant's, whether it is trained on."""
    if not isinstance(message, dict):
        raise UsageError(f'{where}: {name} must be {{"role", "content"}}, not {_short(message)}.')
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise UsageError(f"{where}: {name} has the role {role!r}. Roles are {', '.join(ROLES)}.")
    _check_string(content, f'{name}["content"]', where)
    known = ("role", "content", "weight", "train")
    if extra := [key for key, value in message.items() if key not in known and not _is_nothing(value)]:
        raise UsageError(f"{where}: {name} has {_quoted(extra)}. Write it into the content, or remove it.")
    train = _train(message, name, where)
    if role == "assistant":
        return {"role": role, "content": content, "train": train is not False}
    if train:
        raise UsageError(
            f"{where}: {name} is marked to be trained on, but only the assistant's messages are. Remove the mark."
        )
    return {"role": role, "content": content}


def _train(message: dict[str, Any], name: str, where: str) -> bool | None:
    """What "weight" (0 or 1) and "train" (a boolean) say; None if they are not there."""
    marks = []
    for key, allowed in (("weight", (0, 1)), ("train", (False, True))):
        value = message.get(key)
        if value is None:
            continue
        if isinstance(value, bool) != (key == "train") or value not in allowed:
            words = "true or false" if key == "train" else "0 or 1"
            raise UsageError(f'{where}: {name}["{key}"] must be {words}, not {_short(value)}.')
        marks.append(bool(value))
    if len(set(marks)) > 1:
        raise UsageError(f'{where}: {name} has a "weight" and a "train" that say the opposite. Keep one of both.')
    return marks[0] if marks else None


def _conversation(messages: list[dict[str, Any]], where: str) -> dict[str, Any]:
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise UsageError(f"{where}: no message is the assistant's, to learn from. Add one, or remove the row.")
    if roles[0] == "assistant":
        raise UsageError(f"{where}: the first message is the assistant's. Put the message that it answers before it.")
    return {"messages": messages}


def _ids(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Token ids and labels without padding."""
    values = {name: value for name, value in values.items() if name in KEYS["ids"] or value is not None}
    for name, numbers in values.items():
        if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
            raise UsageError(f'{where}: "{name}" must be a list of whole numbers, not {_short(numbers)}.')
    ids, labels = values["input_ids"], values["labels"]
    if len(ids) != len(labels):
        raise UsageError(
            f"{where}: {len(ids)} input_ids but {len(labels)} labels. Give each token its own label, not shifted."
        )
    for name in OPTIONAL["ids"]:
        if name in values and len(values[name]) != len(ids):
            raise UsageError(f"{where}: {len(ids)} input_ids but {len(values[name])} {name}. Give each token its own.")
    kept = _unmasked(values.get("attention_mask"), labels, where)
    positions = values.get("position_ids", [])[kept]
    if any(after != before + 1 for before, after in pairwise(positions)):
        raise UsageError(
            f'{where}: "position_ids" must count up by one, but do not: {_short(positions)}. Make each sequence a row of its own.'
        )
    return {"input_ids": ids[kept], "labels": labels[kept]}


def _unmasked(mask: list[int] | None, labels: list[int], where: str) -> slice:
    """Where the tokens are that attention sees: all in one piece, with padding before and after. Padding is no target."""
    if mask is None:
        return slice(0, len(labels))
    seen = [place for place, value in enumerate(mask) if value == 1]
    start, end = (seen[0], seen[-1] + 1) if seen else (0, 0)
    if set(mask) - {0, 1} or end - start != len(seen):
        raise UsageError(
            f'{where}: "attention_mask" must be of 1, with 0 for padding before and after, not {_short(mask)}. '
            "Make each sequence a row of its own."
        )
    if padded := [place for place in range(len(labels)) if not start <= place < end and labels[place] != MASKED]:
        raise UsageError(
            f'{where}: labels[{padded[0]}] is a target, but "attention_mask" says that it is padding. Give it the label -100.'
        )
    return slice(start, end)


_CHECKS = {
    "text": _strings,
    "completion": _strings,
    "messages": _messages,
    "ids": _ids,
    "ShareGPT": _messages,
    "Alpaca": _alpaca,
}


def _quoted(names: Iterable[str]) -> str:
    """Some of the names, in quotes; one that no terminal can show is escaped."""
    some = [json.dumps(name, ensure_ascii=not name.isprintable()) for name in names]
    return ", ".join(some[:12]) + (", …" if len(some) > 12 else "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
