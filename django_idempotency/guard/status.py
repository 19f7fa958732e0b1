"""What became of a key, as clients and views are told."""

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from django.http.response import HttpResponseBase

from ..conf.policy import Policy
from ..effects.staging import stage_alone
from ..operations.base import Operation, Response
from ..threads import on_request_thread

UNPROTECTED = "Idempotency-Unprotected"
"""Header field of a response whose view ran without a record although a key was sent: a retry may
run again. The store was out of reach (``outage="open"``), the caller is anonymous, or the view is
not guarded."""


class Status(StrEnum):
    """What the status header says."""

    STORED = "stored"
    WITHOUT_RESPONSE = "stored-without-response"
    NOT_STORED = "not-stored"
    NOT_DONE = "not-done"
    REPLAYED = "replayed"
    REFUSED = "refused"
    UNPROTECTED = "unprotected"
    IGNORED = "ignored"


class NotGuarded(AttributeError):
    """A view has asked for its operation, and there is none."""


class NoOperation:
    """``request.idempotency`` of a request that no key protects; it says why, and is false.

    :param reason: ends a sentence that begins with "it has no operation, because"
    :param is_unprotected: the view runs although a key was sent, so the client is told
    """

    __slots__ = ("is_unprotected", "reason")

    def __init__(self, reason: str, is_unprotected: bool = False) -> None:
        self.reason = reason
        self.is_unprotected = is_unprotected

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return f"<NoOperation: {self.reason}>"

    def not_done(self, response: Response) -> Response:
        """Return the response: there is nothing to free."""
        return response

    def after_commit(self, effect: Any, /, *args: Any, **kwargs: Any) -> str:
        """Stage an effect, as :meth:`.Operation.after_commit`: in the ``atomic()`` block that is
        open. If there is none, it is stored at once, and runs."""
        return stage_alone(effect, args, kwargs, at_once=True)

    async def aafter_commit(self, effect: Any, /, *args: Any, **kwargs: Any) -> str:
        """The same for an async view."""
        return await on_request_thread(self.after_commit, effect, *args, **kwargs)

    if not TYPE_CHECKING:  # a checker objects to what is not there

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__") or name in self.__slots__:  # what copies and debuggers ask
                raise AttributeError(name)
            raise NotGuarded(
                f"request.idempotency.{name}: this request has no operation, because "
                f"{self.reason}. Ask `if request.idempotency:` first, or demand a key with "
                "@idempotent(required=True)."
            )


NO_KEY = NoOperation("it has no key")
LEFT_ALONE = NoOperation("its view is exempt, or not guarded for this method or path", True)
ANONYMOUS_CALLER = NoOperation("its caller is anonymous, so the key is ignored", True)
NO_STORE = NoOperation("the store of keys is out of reach, so the view runs without a record", True)
NOT_BEGUN = NoOperation("the guard has not begun, or has answered instead of the view")
NOT_GUARDED = NoOperation("neither the middleware nor @idempotent guards its view")


def operation_of(request: Any) -> Operation | NoOperation:
    """Return ``request.idempotency``, typed, also where nothing guards the view.

    ::

        if operation := operation_of(request):
            charge(order, idempotency_key=operation.derive_key("charge"))

    :param request: Django's, or Django REST framework's
    :return: the operation, or what is false and says why there is none
    """
    found: Operation | NoOperation = getattr(request, "idempotency", NOT_GUARDED)
    return found


def runs_unprotected(request: Any) -> bool:
    """Whether the request's view ran although a key was sent that protects nothing."""
    why = getattr(request, "idempotency", None)
    return isinstance(why, NoOperation) and why.is_unprotected


def set_status_header(response: HttpResponseBase, policy: Policy, status: Status) -> None:
    """Set the status header, if policy wants one and it is not set yet."""
    if policy.status_header is not None and policy.status_header not in response:
        response[policy.status_header] = str(status)
