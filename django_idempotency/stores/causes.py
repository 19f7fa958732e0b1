"""What an error of a server says, for the people who operate it."""

import re

from django.db import DataError, IntegrityError

LONGEST = 200
"""Characters of a cause."""

_SECRETS = (
    (re.compile(r"(?i)\b((?:\w*password|passwd|pwd|secret|token)\s*[=:]\s*)[^\s,;)]+"), r"\1..."),
    (re.compile(r"(?<=://)[^/\s@]+@"), "...@"),
)


def cause_of(error: BaseException) -> str:
    """Return the cause of an outage in one line: "connection refused", and by which server.

    Hosts, users and tables are what an operator looks for, so they stay. Passwords go; and so do
    errors about data and constraints, which quote the values that were sent.
    """
    kind = type(error).__name__
    if isinstance(error, (DataError, IntegrityError)):
        return kind
    text = str(error)
    if len(error.args) == 2 and isinstance(error.args[0], int):  # MySQL and the system: code, text
        text = f"{error.args[1]} ({error.args[0]})"
    # Further lines of PostgreSQL are details and hints: "Is the server running on that host?"
    text = text.strip().partition("\n")[0].removeprefix("connection failed: ").rstrip(" .")
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text[:LONGEST] or kind
