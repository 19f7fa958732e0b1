"""What ``request.idempotency`` is where no key protects the request."""

from typing import Any, NoReturn


class NotGuarded(AttributeError):
    """A view has asked for its operation, and there is none."""


class NoOperation:
    """Stands in for the operation of a request that has none, and says why. It is false.

    :param reason: ends a sentence that begins with "it has no operation, because"
    :param is_unprotected: the view runs although a key was sent, so the client is told
    """

    __slots__ = ("is_unprotected", "reason")

    def __init__(self, reason: str, is_unprotected: bool = False) -> None:
        self.reason = reason
        self.is_unprotected = is_unprotected

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<NoOperation: {self.reason}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") or name in self.__slots__:  # what copies and debuggers ask
            raise AttributeError(name)
        raise NotGuarded(
            f"request.idempotency.{name}: this request has no operation, because {self.reason}. "
            "Ask `if request.idempotency:` first, or demand a key with @idempotent(required=True)."
        )


NO_KEY = NoOperation("it has no key")
LEFT_ALONE = NoOperation("its view is exempt, or not guarded for this method or path", True)
ANONYMOUS_CALLER = NoOperation("its caller is anonymous, so the key is ignored", True)
NO_STORE = NoOperation("the store of keys is out of reach, so the view runs without a record", True)
NOT_BEGUN = NoOperation("the guard has not begun, or has answered instead of the view")


def without_operation(request: Any, why: NoOperation) -> None:
    """Say why a request has no operation, until it has one.

    :param request: Django's
    """
    request.idempotency = why


def runs_unprotected(request: Any) -> bool:
    """Whether the request's view ran although a key was sent that protects nothing."""
    why = getattr(request, "idempotency", None)
    return isinstance(why, NoOperation) and why.is_unprotected
