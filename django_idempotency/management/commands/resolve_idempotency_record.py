"""``manage.py resolve_idempotency_record``: what to do about interrupted operations, by hand."""

import logging
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error
from django.utils.timezone import now

from ...contract.resolution import JSON, answer_of, is_json_text, resolve
from ...operations.resolution import ResolutionOutcome
from ...protocol.codecs import NoKeys
from ...protocol.record import StoredResponse
from ...stores.database.interrupted import Interrupted, interrupted
from ..options import alias, number

logger = logging.getLogger("django_idempotency")

_MOST = 1_000_000
_LARGEST_ID = 2**63 - 1

NOT_RESOLVED = {
    ResolutionOutcome.IN_FLIGHT: (
        "An attempt is running, or another operator decides. Nothing was changed."
    ),
    ResolutionOutcome.GONE: "There is no such record.",
    ResolutionOutcome.NOT_INTERRUPTED: (
        "It is not interrupted: it is completed, or free to run again. Nothing was changed."
    ),
}


class Command(BaseCommand):
    """Lists interrupted operations of non-atomic mode, and resolves one of them."""

    help = (
        "Shows operations of views with atomic=False that were interrupted, and resolves one: "
        "'rerun' lets it run again, 'answer' stores a response for its retries, 'refuse' ends it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database",
            metavar="ALIAS",
            help="Alias of the database. Default: the one that guarded views use.",
        )
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        listed = actions.add_parser("list", help="Show interrupted operations, oldest first.")
        listed.add_argument("--key", help="Only those under this key, as it was sent.")
        listed.add_argument("--limit", default=100, help="At most so many. Default: 100.")
        for name, text in (
            ("rerun", "The next retry runs, from the first step that is not done."),
            ("refuse", "Retries get idempotency_operation_refused, and nothing runs."),
        ):
            actions.add_parser(name, help=text).add_argument("record")
        _add_answer(actions.add_parser("answer", help="Retries get this response."))

    def handle(self, *args: Any, **options: Any) -> None:
        using = alias(options["database"])
        try:
            if options["action"] == "list":
                self._list(using, options)
            else:
                self._resolve(using, options)
        except Error as error:
            raise CommandError(f'Database "{using}": {error}.') from error

    def _list(self, using: str, options: dict[str, Any]) -> None:
        limit = number("--limit", options["limit"], "a number of operations", _MOST)
        for each in interrupted(using, limit, options["key"]):
            self.stdout.write(_line(each))

    def _resolve(self, using: str, options: dict[str, Any]) -> None:
        action = options["action"]
        record = number("RECORD", options["record"], "the number of a record", _LARGEST_ID)
        answer = _response(options) if action == "answer" else None
        try:
            resolved = resolve(using, record, action, answer)
        except NoKeys as error:
            raise CommandError(str(error)) from error
        if resolved is not ResolutionOutcome.DONE:
            raise CommandError(f"Record {record}: {NOT_RESOLVED[resolved]}")
        logger.info("Record %d: %s by command", record, action)
        self.stdout.write(f"Record {record}: done ({action}).")


def _add_answer(parser: ArgumentParser) -> None:
    parser.add_argument("record")
    parser.add_argument("--status", type=int, required=True, help="HTTP status, 200 to 499.")
    body = parser.add_mutually_exclusive_group()
    body.add_argument("--body", default="", help="The body, as UTF-8.")
    body.add_argument("--body-file", type=Path, help="A file with the body.")
    parser.add_argument("--content-type", default=JSON, help=f"Of a body. Default: {JSON}.")


def _response(options: dict[str, Any]) -> StoredResponse:
    if not 200 <= options["status"] <= 499:
        raise CommandError(f"--status must be from 200 to 499, not {options['status']}")
    content_type = options["content_type"]
    if not content_type.isprintable() or not content_type.isascii():
        raise CommandError(f"--content-type must be printable ASCII, not {content_type!r}")
    try:
        file = options["body_file"]
        body = file.read_bytes() if file else options["body"].encode()
    except OSError as error:
        raise CommandError(f"--body-file cannot be read: {error}") from error
    if content_type == JSON and not is_json_text(body.decode(errors="replace")):
        raise CommandError("The body is not valid JSON; say what it is with --content-type.")
    return answer_of(options["status"], body, content_type)


def _line(each: Interrupted) -> str:
    done = ", ".join(each.steps) or "none"
    age = str(now() - each.started_at).partition(".")[0]
    return (
        f"{each.record_id}  {each.method} {each.path}  attempt {each.attempt}, started {age} ago; "
        f"steps done: {done}"
    )
