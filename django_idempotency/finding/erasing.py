"""Erase records, with everything that is stored of their operations."""

import logging
from collections.abc import Collection
from enum import StrEnum

from django.apps import apps

from ..models import IdempotencyRecord
from ..protocol.keys import name_in_logs
from ..protocol.record import State
from ..stores.base import Busy, Outage
from ..stores.database.store import DatabaseStore
from ..stores.database.transactions import write_transaction
from .clients import model_of_statistics

logger = logging.getLogger("django_idempotency")


class Erasure(StrEnum):
    """What has become of a record that was to be erased; its value says why it is left."""

    DONE = "erased"
    BUSY = "in flight, changed meanwhile, or its outcome is unknown"
    EFFECTS = "effects are pending or have failed"
    NO_CACHE = "the cache with its copy does not answer"


def erase(using: str, record: IdempotencyRecord) -> Erasure:
    """Erase a record, its copies in the cache, its steps, and the effects that have ended.

    Only as it was read (I12). A record whose effects may still run is left, because with it would
    go what tells whose they are, and dropped they must not be (I19).

    :param record: with its state and attempt as they were read
    """
    try:
        with write_transaction(using):
            if _has_open_effects(using, record.pk):
                return Erasure.EFFECTS
            if not DatabaseStore(using).remove(record.pk, State(record.state), record.attempt):
                return Erasure.BUSY
            _forget_effects(using, record.pk)
    except Busy:
        return Erasure.BUSY
    except Outage:
        return Erasure.NO_CACHE
    logger.info("%s: erased by an operator", name_in_logs(record.key, record.scope))
    return Erasure.DONE


def erase_reuses(scopes: Collection[str]) -> int:
    """Erase what the statistics say of callers: how often they have reused keys.

    :param scopes: whole, or the first digits of one
    :return: the number of rows
    """
    model = model_of_statistics("ReusedKeys")
    if model is None:
        return 0
    removed: int = model.of_scopes(scopes).delete()[0]
    return removed


def _has_open_effects(using: str, record_id: int) -> bool:
    if not apps.is_installed("django_idempotency.effects"):
        return False
    from ..effects.rows import open_of_record

    return open_of_record(using, record_id).exists()


def _forget_effects(using: str, record_id: int) -> None:
    if apps.is_installed("django_idempotency.effects"):
        from ..effects.rows import forget_ended

        forget_ended(using, record_id)
