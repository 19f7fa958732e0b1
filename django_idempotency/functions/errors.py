"""What stands in the way of a function's run.

All of them can be pickled, so a task queue can carry them.
"""


class OperationError(Exception):
    """The function did not run under this key."""


class OperationInFlight(OperationError):
    """Another run under this key has not ended yet: do not acknowledge a message as done, try it
    again later.

    :ivar retry_after: seconds to wait, as the policy says
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message, retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return str(self.args[0])


class KeyReused(OperationError):
    """The key belongs to a run of another function, or with other arguments."""


class KeyExpired(OperationError):
    """The result under this key has expired, and the policy refuses such keys for a while."""


class OutcomeUnknown(OperationError):
    """An earlier run was interrupted (``atomic=False``), and its outcome is unknown (I11)."""


class ResultUnavailable(OperationError):
    """The function has run, but its result cannot be returned: its encryption key is gone, it is
    damaged, or an operator has refused the operation."""


class NotPlainData(TypeError):
    """Arguments or a result are not plain data: ``None``, bool, finite numbers, text, lists, and
    dicts with text as keys."""
