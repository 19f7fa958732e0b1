"""What happens under a key: claim, lock, run, store.

The names that projects import from here are those of functions that run once per key, and
``operation_of()``. They come from other rooms, which use this one, so they are looked up when they
are asked for.
"""

from typing import TYPE_CHECKING, Any

from ..placeholders import KEY

if TYPE_CHECKING:
    from ..functions.errors import (
        KeyExpired,
        KeyReused,
        NotPlainData,
        OperationError,
        OperationInFlight,
        OutcomeUnknown,
        ResultUnavailable,
    )
    from ..functions.run import arun_once, current_operation, idempotent_function, run_once
    from ..guard.status import operation_of

_RUN = ("arun_once", "current_operation", "idempotent_function", "run_once")

__all__ = [
    "KEY",
    "KeyExpired",
    "KeyReused",
    "NotPlainData",
    "OperationError",
    "OperationInFlight",
    "OutcomeUnknown",
    "ResultUnavailable",
    "arun_once",
    "current_operation",
    "idempotent_function",
    "operation_of",
    "run_once",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "operation_of":
        from ..guard import status

        return status.operation_of
    from ..functions import errors, run

    return getattr(run if name in _RUN else errors, name)
