"""Operations that are interrupted, and resumed without their clients."""

from typing import Any

from django_idempotency.adapters.resumed import resume
from django_idempotency.contract.endpoints import policy_to_resume, resumable_handlers
from django_idempotency.guard.resuming import Resumed
from django_idempotency.models import IdempotencyRecord
from django_idempotency.stores.database.interrupted import resumable_operations
from tests.conftest import Caller
from tests.shop import effects


def breaks(operation: Any) -> None:
    raise RuntimeError("a broken network")


def interrupt(
    caller: Caller, monkeypatch: Any, path: str, data: Any = None, key: str = "k-1", **extra: Any
) -> int:
    """A client's only attempt breaks after its charge, and nobody retries. Return its record."""
    with monkeypatch.context() as patch:
        patch.setattr(effects, "after_charge", breaks)
        answer = caller.post(path, data or {"item": "vm"}, key, **extra)
        assert answer.status_code == 500, answer.content
    return int(IdempotencyRecord.objects.get(key=key).pk)


def resume_all() -> list[Resumed | None]:
    """Resume what there is, as the command does. ``None``: no view says how."""
    handlers = resumable_handlers("default")
    done: list[Resumed | None] = []
    for found in resumable_operations("default"):
        policy = policy_to_resume(found, handlers, "default")
        done.append(None if policy is None else resume(found, policy, "default"))
    return done
