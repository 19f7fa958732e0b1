"""The tables and the facts of ``docs/settings.md``, from the declarations in ``conf/``."""

import re
from datetime import timedelta
from enum import StrEnum

from django_idempotency.conf.settings import POLICY_SETTINGS, SETTINGS
from django_idempotency.contract import words

TOPICS = {
    "Which requests are guarded": [
        "PATHS",
        "EXEMPT_PATHS",
        "POLICIES",
        "METHODS",
        "REQUIRED",
    ],
    "Keys": [
        "HEADER",
        "KEY_FROM",
        "KEY_FORMAT",
        "KEY_MAX_LENGTH",
        "KEY_PATTERN",
        "NEW_KEYS_PER_HOUR",
    ],
    "Callers": [
        "SCOPE",
        "TENANT",
        "ANONYMOUS",
        "RECHECK",
        "SECRET",
    ],
    "Equal requests": [
        "FINGERPRINT",
        "FINGERPRINT_FIELDS",
        "FINGERPRINT_IGNORED_FIELDS",
        "FINGERPRINT_IGNORED_PARAMETERS",
        "FINGERPRINT_HOST",
        "MAX_REQUEST_SIZE",
        "MISMATCH_STATUS",
    ],
    "Duplicates in flight": [
        "IN_FLIGHT",
        "IN_FLIGHT_STATUS",
        "WAIT_TIMEOUT",
        "WAIT_LIMIT",
        "RETRY_AFTER",
    ],
    "How long keys hold": [
        "RETENTION",
        "TOMBSTONE",
        "EXPIRED_STATUS",
    ],
    "What is stored": [
        "NOT_STORED",
        "STORE_BODY",
        "MAX_RESPONSE_SIZE",
        "EXCLUDED_HEADERS",
        "REDACTED_FIELDS",
        "CODEC",
        "ENCRYPTION_KEYS",
        "SAVE_SESSION",
    ],
    "What clients are told": [
        "REPLAY_HEADER",
        "REPLAY_VALUE",
        "KEY_HEADER",
        "COMPLETED_HEADER",
        "EXPIRES_HEADER",
        "STATUS_HEADER",
        "ERRORS",
        "DOCS_URL",
    ],
    "Where records live": [
        "STORE",
        "USING",
        "CACHE",
        "OUTAGE",
        "LEASE",
    ],
    "Effects outside the database": [
        "ATOMIC",
        "ON_INTERRUPTED",
        "RESOLVER",
        "RESUMABLE",
        "RESUME_DATA",
        "LOCK_CONNECTIONS",
        "EFFECTS_BUDGET",
    ],
    "For operators": [
        "REQUEST_ID",
        "DOCUMENTATION",
    ],
}
"""The sections of the page, and their settings, in the order of the page."""


def written(page: str) -> str:
    """Return the page with its tables, and what stands first in each section, made anew."""
    page = re.sub(r"^\| topic \|.*?\n\n", lambda _: f"{contents()}\n\n", page, flags=BLOCK)
    tables = iter(map(table, TOPICS.values()))
    page = re.sub(r"^\| setting \|.*?\n\n", lambda _: f"{next(tables)}\n\n", page, flags=BLOCK)
    for name in SETTINGS:
        pattern = rf"^(### {name}\n\n)(?:Default: .*?\n\n)?"
        page = re.sub(pattern, lambda found, name=name: found[1] + facts(name), page, flags=BLOCK)
    return page


def contents() -> str:
    rows = []
    for topic, names in TOPICS.items():
        links = ", ".join(f"[`{name}`](#{name.lower()})" for name in names)
        rows.append(f"| [{topic}](#{topic.lower().replace(' ', '-')}) | {links} |")
    return "\n".join(["| topic | settings |", "| --- | --- |", *rows])


def table(names: list[str]) -> str:
    rows = [
        f"| [`{name}`](#{name.lower()}) | {SETTINGS[name].meaning} | `{default(name)}` |"
        for name in names
    ]
    return "\n".join(["| setting | meaning | default |", "| --- | --- | --- |", *rows])


def facts(name: str) -> str:
    where = "Not for the decorator."
    if name in POLICY_SETTINGS:
        where = f"Decorator: `{name.lower()}`."
    return f"Default: `{default(name)}`. {SETTINGS[name].value.words}. {where}\n\n"


def default(name: str) -> str:
    if name == "SECRET":
        return "SECRET_KEY"
    return spelled(SETTINGS[name].default)


def spelled(value: object) -> str:
    """Return the expression that one would write into the settings."""
    if isinstance(value, timedelta):
        number, unit = words.duration(value).split()
        return f"timedelta({unit}={number})" if value else "timedelta(0)"
    if isinstance(value, frozenset) and all(isinstance(each, int) for each in value):
        codes = [int(each) if each.isdigit() else each for each in words.statuses(value)]
        return spelled(codes)
    if isinstance(value, frozenset | list):
        items = value if isinstance(value, list) else sorted(value)
        return f"[{', '.join(map(spelled, items))}]"
    if isinstance(value, str | StrEnum):
        return f'"{value}"'
    return repr(value)


BLOCK = re.DOTALL | re.MULTILINE
