"""The two kinds of failure that a person is told about, and their exit statuses."""


class MespError(Exception):
    """The thing asked for failed, or a check missed: exit status 1."""

    exit_status = 1


class UsageError(MespError):
    """Wrong usage or bad input: exit status 2. The message says what was wrong, what was expected and what to do."""

    exit_status = 2
