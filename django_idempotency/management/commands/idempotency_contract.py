"""``manage.py idempotency_contract``: the write endpoints and their policies."""

import json
import re
import shutil
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...conf.settings import SettingError, configuration
from ...contract.endpoints import Endpoint, endpoints
from ...contract.guide import Guide, guide_as_markdown, guide_to
from ...contract.tables import as_data, for_markdown, for_terminal, why

OPEN = "These endpoints are neither guarded for everybody nor exempt with a reason:"
ADVICE = (
    "Use @idempotent, @idempotency_exempt(reason=...), or EXEMPT_PATHS with reasons. Where "
    "anonymous callers are admitted: permissions that demand authentication, required=True, or "
    "ANONYMOUS."
)


class Command(BaseCommand):
    """Lists endpoints in one of several formats, or checks them."""

    help = (
        "Lists the write endpoints of the URLconf: which are guarded, by which policy, and which "
        "are not. With --check, fails if one is neither guarded nor exempt with a reason."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--format",
            choices=sorted(FORMATS),
            default="table",
            help="table for a terminal, markdown, json, or guide: the retry guide for clients, as "
            "Markdown (default: table)",
        )
        parser.add_argument(
            "--path",
            type=_pattern,
            default="",
            help="only endpoints whose path matches this regular expression",
        )
        parser.add_argument(
            "--check",
            action="store_true",
            help="show nothing; exit with 1 if endpoints are neither guarded for all callers nor "
            "exempt with a reason, and list them",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = [each for each in endpoints() if re.search(options["path"], each.path)]
        except SettingError as error:
            raise CommandError(str(error)) from error
        if options["check"]:
            self._check(found, options["verbosity"])
        else:
            self.stdout.write(FORMATS[options["format"]](found))

    def _check(self, found: list[Endpoint], verbosity: int) -> None:
        open_ends = [each for each in found if not each.is_settled]
        if open_ends:
            lines = [f"  {each.method} {each.path} ({why(each)})" for each in open_ends]
            raise CommandError("\n".join([OPEN, *lines, ADVICE]))
        if verbosity:
            guarded = sum(each.protection.guards is not None for each in found)
            self.stdout.write(f"Guarded: {guarded}. Exempt: {len(found) - guarded}. Open: 0.")


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ArgumentTypeError(f"not a regular expression: {error}") from None
    return text


def _table(found: list[Endpoint]) -> str:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return for_terminal(found, width)


def _json(found: list[Endpoint]) -> str:
    data = {"version": 1, "endpoints": as_data(found), "guide": asdict(_guide(found))}
    return json.dumps(data, indent=2)


def _guide(found: list[Endpoint]) -> Guide:
    return guide_to(lambda endpoint: True, found, configuration().policy)


FORMATS: dict[str, Callable[[list[Endpoint]], str]] = {
    "table": _table,
    "markdown": for_markdown,
    "json": _json,
    "guide": lambda found: guide_as_markdown(_guide(found)),
}
