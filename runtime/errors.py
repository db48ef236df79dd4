"""The two kinds of failure that a person is told about, and their exit statuses."""


class MespError(Exception):
    """The thing asked for failed, or a check missed: exit status 1."""

    exit_status = 1


class UsageError(MespError):
    """Wrong usage or bad input: exit status 2. The message says what was wrong, what was expected and what to do."""

    exit_status = 2


def in_a_line(error: BaseException) -> str:
    """What another program's error says, as a part of a sentence: its lines joined, and not all of a long one."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"
