"""Records as plain data: for people who look one up, and for the person it is about."""

import base64
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from django.apps import apps

from ..conf.settings import configuration
from ..models import IdempotencyRecord, IdempotencyStep
from ..protocol.codecs import Cipher, Owner, Unreadable, decode
from ..protocol.keys import short_digest, short_scope
from ..protocol.record import State, StoredResponse
from ..stores.database.lookup import aware
from ..stores.database.store import DatabaseStore

ASKED = 200
"""Records whose locks one statement asks for."""

Json = dict[str, Any]


def described(
    using: str, records: Iterable[IdempotencyRecord]
) -> Iterator[tuple[IdempotencyRecord, Json]]:
    """Yield each record with what is known of it, without its key, its response, or its request."""
    iterator = iter(records)
    while batch := list(islice(iterator, ASKED)):
        claimed = [each.pk for each in batch if each.state == State.CLAIMED]
        locked = DatabaseStore(using).locked(claimed) if claimed else frozenset()
        for record in batch:
            state = str(record.state)
            if record.state == State.CLAIMED and locked is not None:
                state = "in flight" if record.pk in locked else "interrupted"
            yield (
                record,
                {
                    "record": record.pk,
                    "key_digest": short_digest(record.key),
                    "scope_digest": short_scope(record.scope),
                    "state": state,
                    "outcome_open": record.outcome_open,
                    "method": record.method,
                    "path": record.path,
                    "request_id": record.request_id,
                    "status": record.response_status,
                    "omitted": record.response_omitted,
                    "attempt": record.attempt,
                    "claimed": _time(using, record.created_at),
                    "completed": _time(using, record.completed_at),
                    "expires": _time(using, record.expires_at),
                },
            )


def exported(using: str, record: IdempotencyRecord, with_secrets: bool) -> Json:
    """Return the rest of what is stored of a record.

    :param with_secrets: the response, results of steps, what is kept of the request, and the
        arguments of effects, too, decrypted if they are encrypted
    """
    keyring = configuration().keyring
    found: Json = {
        "key": record.key,
        "scope": record.scope,
        "fingerprint": record.fingerprint,
        "steps": list(_steps(using, record.pk, Cipher(keyring=keyring) if with_secrets else None)),
        "effects": list(_effects(using, record.pk, with_secrets)),
    }
    if with_secrets:
        stored = DatabaseStore(using).response(record.pk)
        found["response"] = stored and _response(record, stored)
    return found


def _response(record: IdempotencyRecord, stored: StoredResponse) -> Json:
    if stored.omitted:
        return {"omitted": str(stored.omitted)}
    try:
        plain = decode(stored, configuration().keyring, Owner(record.scope, record.key))
    except Unreadable as error:
        return {"unreadable": str(error)}
    headers = [list(field) for field in plain.headers]
    try:
        return {"headers": headers, "body": plain.body.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        body = base64.b64encode(plain.body).decode()
        return {"headers": headers, "body": body, "encoding": "base64"}


def _steps(using: str, record_id: int, cipher: Cipher | None) -> Iterator[Json]:
    """Yield attempts and steps of non-atomic mode; with the request that an attempt has kept."""
    for row in IdempotencyStep.rows(using).filter(record_id=record_id).order_by("position"):
        step = {
            "position": row.position,
            "name": row.name,
            "started": _time(using, row.started_at),
            "finished": _time(using, row.finished_at),
        }
        if cipher is not None:
            try:
                step["result"] = row.result and cipher.open(row.result, record_id, row.position)
            except Unreadable as error:
                step["unreadable"] = str(error)
        yield step


def _effects(using: str, record_id: int, with_arguments: bool) -> Iterator[Json]:
    if not apps.is_installed("django_idempotency.effects"):
        return
    from ..effects.errors import ChangedEffect
    from ..effects.rows import of_record
    from ..effects.sealing import opened

    for row in of_record(using, record_id).defer(None):
        effect = {
            "key": str(row.key),
            "name": row.name,
            "state": str(row.state),
            "staged": _time(using, row.staged_at),
            "finished": _time(using, row.finished_at),
        }
        if with_arguments:
            try:
                effect["arguments"] = opened(str(row.key), row.name, row.arguments)
            except (ChangedEffect, Unreadable) as error:
                effect["unreadable"] = str(error)
        yield effect


def _time(using: str, moment: datetime | None) -> str | None:
    """Return a time with its zone, to the second."""
    known = aware(using, moment)
    return None if known is None else known.isoformat(sep=" ", timespec="seconds")
