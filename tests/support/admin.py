"""Records, people and pages for tests of the admin."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from html import unescape

from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.record import State
from django_idempotency.stores.database.store import DatabaseStore
from django_idempotency.stores.database.transactions import write_transaction

LIST = "admin:django_idempotency_idempotencyrecord_changelist"
BODY = b"the body of a stored response"


HEADERS = '[["X-Secret", "a header of a stored response"]]'


def remember(key: str, **values: object) -> IdempotencyRecord:
    now = timezone.now()
    given = {
        "scope": "0123456789abcdef" * 4,
        "fingerprint": "a fingerprint",
        "state": State.COMPLETED,
        "method": "POST",
        "path": "/orders/",
        "response_status": 201,
        "response_headers": HEADERS,
        "response_body": BODY,
        "created_at": now,
        "completed_at": now,
        "expires_at": now + timedelta(days=1),
    }
    given |= values
    return IdempotencyRecord.objects.create(key=key, purge_at=given["expires_at"], **given)


def listed(client, **query: str) -> list[str]:
    """Return the keys on the list page."""
    response = client.get(reverse(LIST), query)
    assert response.status_code == 200
    return [record.key for record in response.context["cl"].result_list]


def badges(page: str) -> list[str]:
    """Return the words of the state badges."""
    found = re.findall(r'class="idempotency-badge .*?</span>&nbsp;(.*?)</span>', page)
    return [unescape(words) for words in found]


def staff(*permissions: str) -> User:
    user = User.objects.create_user("staff", is_staff=True)
    grant(user, *permissions)
    return user


def grant(user: User, *permissions: str) -> None:
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))


def page(client: Client, **query: object) -> str:
    return client.get(reverse(LIST), query).content.decode()


def figures(client: Client, **query: object) -> dict[str, str]:
    """Return the line above the list."""
    found = re.findall(r"<dt>(.*?)</dt> <dd>(.*?)</dd>", page(client, **query))
    return {name: unescape(figure) for name, figure in found}


@contextmanager
def in_flight(record: IdempotencyRecord, alias: str = "rival") -> Iterator[None]:
    """Hold a record like an attempt does, on another connection."""
    connections[alias] = connections.create_connection("default")
    try:
        with write_transaction(alias):
            assert DatabaseStore(alias).lock(record.pk)
            yield
    finally:
        connections[alias].close()
        del connections[alias]
