"""From request to effect: views and a function that stage effects, and the world that sees them.

The world is a file, which outlives whoever is killed. Its gateway honours keys, so that it charges
once per key; its mail server does not; and a server is provisioned by a function that runs once.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from io import StringIO
from tempfile import NamedTemporaryFile
from typing import Any

from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.effects import KEY, after_commit, current_effect, effect
from django_idempotency.effects.models import EffectState, IdempotencyEffect
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations import OperationInFlight, idempotent_function, run_once
from proof import world
from tests.shop.models import Order

LEASES = timedelta(minutes=2)
"""When so much time has passed, what was interrupted is taken again, and what has failed."""
RETENTION = timedelta(days=1)
DATA = {"item": "vm"}
declared = partial(effect, max_tries=1000)
"""Nobody decides here about what was killed too often."""

_seen = NamedTemporaryFile(prefix="proof-", suffix=".world")  # noqa: SIM115  (as long as the process)


def tell(what: str) -> None:
    """Something happens out there, under the key of the effect that runs."""
    with open(_seen.name, "ab", buffering=0) as file:
        file.write(f"{what} {current_effect().key}\n".encode())


def forget() -> None:
    """Nothing has happened yet."""
    os.truncate(_seen.name, 0)
    IdempotencyEffect.objects.all().delete()
    world.empty()


@declared(name="proof.charge")
def charge(order: int, key: str) -> None:
    tell("charge")


@declared(name="proof.provision")
@idempotent_function(scope="provision")
def provision(order: int) -> int:
    return Order.objects.create(item="server").pk


@declared(name="proof.mail")
def mail(order: int) -> None:
    tell("mail")


def _order(stage: Callable[..., Any] = after_commit) -> int:
    """One order, and the effects that belong to it."""
    order = Order.objects.create(item="vm")
    stage(charge, order.pk, key=KEY)
    stage(provision, order.pk)
    stage(mail, order.pk)
    return order.pk


@csrf_exempt
def bare(request: Any) -> HttpResponse:
    """Guarded by the middleware alone."""
    return JsonResponse({"id": _order(request.idempotency.after_commit)}, status=201)


guarded = csrf_exempt(idempotent(scope=world.everybody, retention=RETENTION)(bare))


@csrf_exempt
@idempotent(scope=world.everybody, retention=RETENTION)
async def in_loop(request: Any) -> HttpResponse:
    order = await sync_to_async(_order)()
    return JsonResponse({"id": order}, status=201)


@csrf_exempt
@idempotent(
    scope=world.everybody,
    retention=RETENTION,
    atomic=False,
    on_interrupted="run",
    resumable=True,
)
def by_steps(request: Any) -> HttpResponse:
    operation = request.idempotency
    order = operation.step("order", _order, operation.after_commit)
    return JsonResponse({"id": order}, status=201)


urlpatterns = [
    path("bare/", bare),
    path("guarded/", guarded),
    path("async/", in_loop),
    path("steps/", by_steps),
]


@dataclass
class Answer:
    status_code: int
    content: bytes
    replayed: bool = False


def _posted(to: str) -> Answer:
    response = world.post(world.client(), "k", DATA, to)
    replayed = response.get("Idempotency-Replayed") == "true"
    return Answer(response.status_code, response.content, replayed)


def _called() -> Answer:
    try:
        order = run_once(_order, key="k", scope="proof", retention=RETENTION)
    except OperationInFlight:
        return Answer(409, b"")
    except Exception as error:
        return Answer(500, repr(error).encode())
    return Answer(201, str(order).encode())


def _without_key() -> Answer:
    with transaction.atomic():
        order = _order()
    return Answer(201, str(order).encode())


@dataclass(frozen=True)
class Way:
    """How an order is placed.

    :ivar send: what the client does, and does again
    :ivar has_key: doing it again is no second order
    :ivar is_resumed: an interrupted one goes on without its client
    """

    name: str
    send: Callable[[], Answer]
    atomic_requests: bool = False
    middleware: tuple[str, ...] = ()
    policy: dict[str, Any] = field(default_factory=dict)
    has_key: bool = True
    is_resumed: bool = False

    def __str__(self) -> str:
        return self.name

    @contextmanager
    def surrounded(self) -> Iterator[None]:
        settings = {"ROOT_URLCONF": __name__, "IDEMPOTENCY": self.policy}
        with world.surrounded(self.atomic_requests, *self.middleware, **settings):
            yield


OURS = ("django_idempotency.middleware.IdempotencyMiddleware",)
BY_ALL = {"SCOPE": world.everybody, "RETENTION": RETENTION}
WAYS = [
    Way("decorator", partial(_posted, "/guarded/")),
    Way("decorator in ATOMIC_REQUESTS", partial(_posted, "/guarded/"), atomic_requests=True),
    Way("middleware", partial(_posted, "/bare/"), False, OURS, BY_ALL),
    Way("middleware, ATOMIC_REQUESTS", partial(_posted, "/bare/"), True, OURS, BY_ALL),
    Way("a step, atomic=False", partial(_posted, "/steps/"), is_resumed=True),
    Way("run_once", _called),
    Way("async view", partial(_posted, "/async/")),
    Way("atomic(), no key", _without_key, has_key=False),
]


@dataclass(frozen=True)
class Seen:
    """What there is after all: here, and out there.

    :ivar charges: of the gateway, which counts a key once
    :ivar keys: under which keys anything was asked of the gateway
    """

    orders: int
    servers: int
    charges: int
    mails: int
    records: tuple[str, ...]
    effects: tuple[str, ...]

    @property
    def is_nothing(self) -> bool:
        return not (self.orders or self.servers or self.charges or self.mails or self.effects)


def look() -> Seen:
    with open(_seen.name, encoding="ascii") as file:
        told = [tuple(line.split()) for line in file]
    rows = Counter(Order.objects.values_list("item", flat=True))
    # The function that provisions has a record of its own.
    records = IdempotencyRecord.objects.exclude(path__endswith=".provision")
    return Seen(
        orders=rows["vm"],
        servers=rows["server"],
        charges=len({key for what, key in told if what == "charge"}),
        mails=sum(what == "mail" for what, _ in told),
        records=tuple(records.values_list("state", flat=True)),
        effects=tuple(sorted(IdempotencyEffect.objects.values_list("state", flat=True))),
    )


def is_marked(name: str) -> bool:
    return IdempotencyEffect.objects.filter(name=name, state=EffectState.DONE).exists()


def work() -> None:
    """What nobody's request does any more. What is left is seen by :func:`look`."""
    with suppress(CommandError):
        call_command("run_idempotent_work", older_than="0", verbosity=0, stderr=StringIO())
