"""The tables and the facts of ``docs/settings.md``, from the declarations in ``conf/``."""

import re
from datetime import timedelta
from enum import StrEnum

from django_idempotency.conf.policy import Setting
from django_idempotency.conf.settings import POLICY_SETTINGS, PROJECT_SETTINGS, SETTINGS
from django_idempotency.contract import words


def written(page: str) -> str:
    """Return the page with its tables, and what stands first in each section, made anew."""
    tables = iter([table(POLICY_SETTINGS), table(PROJECT_SETTINGS)])
    page = re.sub(r"^\| setting \|.*?\n\n", lambda _: f"{next(tables)}\n\n", page, flags=BLOCK)
    for name in SETTINGS:
        pattern = rf"^(## {name}\n\n)(?:Default: .*?\n\n)?"
        page = re.sub(pattern, lambda found, name=name: found[1] + facts(name), page, flags=BLOCK)
    return page


def table(settings: dict[str, Setting]) -> str:
    rows = [
        f"| [`{name}`](#{name.lower()}) | `{default(name)}` | {setting.meaning} |"
        for name, setting in settings.items()
    ]
    return "\n".join(["| setting | default | meaning |", "| --- | --- | --- |", *rows])


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
