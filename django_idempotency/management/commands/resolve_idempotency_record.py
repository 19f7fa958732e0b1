"""``manage.py resolve_idempotency_record``: resolve interrupted operations by hand."""

import logging
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.timezone import now

from ...guard.manual_resolution import JSON, answer_of, is_json_text, resolve
from ...models import IdempotencyRecord
from ...operations.resolution import ResolutionOutcome
from ...protocol.codecs import NoKeys
from ...protocol.keys import name_in_logs
from ...protocol.record import StoredResponse
from ...stores.database.interrupted import interrupted
from ..base import MAX_OPERATIONS, MaintenanceCommand, number

logger = logging.getLogger("django_idempotency")

_LARGEST_ID = 2**63 - 1

NOT_RESOLVED = {
    ResolutionOutcome.IN_FLIGHT: "An attempt is running, or another operator decides. Nothing was "
    "changed.",
    ResolutionOutcome.GONE: "There is no such record.",
    ResolutionOutcome.NOT_INTERRUPTED: "It is not interrupted: it is completed, or free to run "
    "again. Nothing was changed.",
}


class Command(MaintenanceCommand):
    """Lists interrupted operations of non-atomic mode, and resolves one of them."""

    help = (
        "Lists interrupted operations of views with atomic=False, and resolves one: 'rerun' lets "
        "it run again, 'answer' stores a response for its retries, 'refuse' ends it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        listed = actions.add_parser("list", help="List interrupted operations, oldest first.")
        listed.add_argument("--key", help="Only those under this key, as the client sent it.")
        listed.add_argument("--limit", default=100, help="At most so many. Default: 100.")
        for name, text in (
            ("rerun", "The next retry runs, from the first step that is not done."),
            ("refuse", "Retries get idempotency_operation_refused, and nothing runs."),
        ):
            actions.add_parser(name, help=text).add_argument("record")
        _add_answer(actions.add_parser("answer", help="Retries get this response."))

    def run(self, options: dict[str, Any]) -> str:
        action = options["action"]
        if action == "list":
            return self._list(options)
        record = number("RECORD", options["record"], "the number of a record", _LARGEST_ID)
        answer = _response(options) if action == "answer" else None
        try:
            outcome = resolve(self.using, record, action, answer)
        except NoKeys as error:
            raise CommandError(str(error)) from error
        if outcome is not ResolutionOutcome.DONE:
            raise CommandError(f"Record {record}: {NOT_RESOLVED[outcome]}")
        found = IdempotencyRecord.rows(self.using).filter(pk=record).values_list("key", "scope")
        for key, scope in found:
            logger.info("%s: resolved by command (%s)", name_in_logs(key, scope), action)
        return f"Record {record}: done ({action})."

    def _list(self, options: dict[str, Any]) -> str:
        limit = number("--limit", options["limit"], "a number of operations", MAX_OPERATIONS)
        for each in interrupted(self.using, limit, options["key"]):
            age = str(now() - each.started_at).partition(".")[0]
            self.stdout.write(
                f"{each.record_id}  {each.method} {each.path}  attempt {each.attempt}, started "
                f"{age} ago; steps done: {', '.join(each.steps) or 'none'}"
            )
        return ""


def _add_answer(parser: ArgumentParser) -> None:
    parser.add_argument("record")
    parser.add_argument("--status", type=int, required=True, help="HTTP status, 200 to 499.")
    body = parser.add_mutually_exclusive_group()
    body.add_argument("--body", default="", help="The body, as UTF-8.")
    body.add_argument("--body-file", type=Path, help="A file with the body.")
    parser.add_argument("--content-type", default=JSON, help=f"Of a body. Default: {JSON}.")


def _response(options: dict[str, Any]) -> StoredResponse:
    status, content_type, file = (options[k] for k in ("status", "content_type", "body_file"))
    if not 200 <= status <= 499:
        raise CommandError(f"--status must be from 200 to 499, not {status}")
    if not content_type.isprintable() or not content_type.isascii():
        raise CommandError(f"--content-type must be printable ASCII, not {content_type!r}")
    try:
        body = file.read_bytes() if file else options["body"].encode()
    except OSError as error:
        raise CommandError(f"--body-file cannot be read: {error}") from error
    if content_type == JSON and not is_json_text(body.decode(errors="replace")):
        raise CommandError("The body is not valid JSON; say what it is with --content-type.")
    return answer_of(status, body, content_type)
