"""Errors of operations, and notes on errors that a view would not have met without a key."""

import re

from django.db import DatabaseError
from django.db.transaction import TransactionManagementError

from ..stores.database.dialects import is_refused_in_transactions


class EndsTransaction(TransactionManagementError):
    """A statement of the view, or function, would end the transaction of its key, or that has ended
    already. The statement is not sent."""


class LostWrites(RuntimeError):
    """A view, a function or a step succeeded, and its writes are undone. Nothing is stored."""


class LostRecord(RuntimeError):
    """A record vanished, or another attempt took it over, while its attempt ran."""


class StepError(RuntimeError):
    """A step was used in a way that cannot work. Nothing of it is stored."""


class NotResumable(RuntimeError):
    """The payload of an interrupted attempt cannot be used to finish its operation."""


class ChangedRecipe(StepError):
    """An earlier attempt has stored other steps than are now taken."""


IN_ONE_TRANSACTION = (
    "django_idempotency: a guarded view, or a function under a key, runs in one transaction with "
    "its record, which began before (atomic mode). Nothing in it can commit on its own, be retried "
    "as a transaction, or choose an isolation level. Use atomic() without durable=True and without "
    "such options, or @idempotent(atomic=False), or run_once(..., atomic=False), for what owns its "
    "transactions."
)

# django.db.transaction says "durable"; django-pgtransaction says what it does not retry.
_NESTED = re.compile(r"durable atomic block|nested atomic transaction")
# django.db.backends.base.base.BaseDatabaseWrapper.validate_no_atomic_block
_FORBIDDEN = "forbidden when an 'atomic' block is active"


def explain(error: BaseException, loss: str = "") -> None:
    """Add a note, once, to an error that the view would not have met without a key.

    :param loss: how the transaction was lost, if it was
    """
    note = f"django_idempotency: {loss}" if loss else _note(error)
    if note and note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def _note(error: BaseException) -> str:
    if isinstance(error, TransactionManagementError):
        return IN_ONE_TRANSACTION if _FORBIDDEN in str(error) else ""
    if isinstance(error, DatabaseError):
        return IN_ONE_TRANSACTION if is_refused_in_transactions(error) else ""
    nested = isinstance(error, RuntimeError) and _NESTED.search(str(error))
    return IN_ONE_TRANSACTION if nested else ""
