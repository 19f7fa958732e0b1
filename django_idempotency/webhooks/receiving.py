"""``@webhook``: a view that receives the deliveries of one sender."""

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    JsonResponse,
)
from django.views.decorators.csrf import csrf_exempt

from ..adapters.base import error_response
from ..conf.policy import key_alone
from ..conf.settings import configuration
from ..decorators import idempotent
from ..http.principal import name_of
from ..protocol.problems import Code, Problem
from ..threads import on_request_thread
from .signatures import UNAUTHORIZED, InvalidSignature, Verify, lacks_secret

if TYPE_CHECKING:
    from ..options import KeyFunction, WebhookOptions

logger = logging.getLogger("django_idempotency")

View = TypeVar("View", bound=Callable[..., Any])

_receivers: dict[str, tuple[str, Any]] = {}
"""Which function receives from a sender: its name, and its code."""

RECEIVER = "_idempotency_receiver"
"""Attribute of a view: the sender's name, and the function that verifies."""

EVENT = "_idempotency_event"
"""Attribute of a request: its event, for the function that finds the key."""

RETENTION = timedelta(days=35)
"""Longer than any sender of those that are known here delivers again, also by hand."""

_POLICY: dict[str, Any] = {
    # A sender is not a caller who could correct anything: an error is a delivery that is lost, or
    # that comes again. So whatever would refuse a client here does not refuse an event.
    "methods": ["POST"],
    "required": True,
    "key_format": "printable",
    "key_max_length": 255,
    "key_pattern": None,
    "tenant": None,
    "recheck": "all",
    "fingerprint_host": "never",
    "not_stored": [*range(300, 400), "4xx", "5xx"],
    "new_keys_per_hour": None,
    "max_request_size": None,
    "tombstone": timedelta(0),
    "in_flight": "wait",
    # Only senders wait, not strangers, and one that finds no place is a delivery that is lost.
    "wait_limit": 100,
    "resumable": None,
}
"""What every receiver has, whatever the settings say."""

_FIXED = {
    "methods": "a receiver takes POST",
    "recheck": "a stored answer would be sent before the signature is verified",
    "header": "say key_header",
    "key_from": "say key",
}
"""Options that ``@webhook`` does not take, and why."""


def webhook(
    name: str,
    *,
    verify: Verify,
    key: "KeyFunction | None" = None,
    key_header: str | None = None,
    retention: timedelta = RETENTION,
    **options: "Unpack[WebhookOptions]",
) -> Callable[[View], View]:
    """Make a function a receiver of webhooks, which handles each event once.

    The function gets the request and the event. It is exempt from CSRF, takes POST only, and runs
    when the signature is right; otherwise nothing is looked up and nothing is stored. A delivery
    of an event that was handled gets the stored answer, whatever else in it has changed. One that
    failed (any status that is no 2xx, an exception) runs again. One that comes while the first is
    handled waits for that.

    :param name: of the sender; its keys are apart from those of other senders
    :param verify: checks the signature and returns the event, such as ``stripe_signature(...)``;
        yours may raise :class:`~django_idempotency.webhooks.InvalidSignature`
    :param key: returns the event's id, which is the same in each delivery of one event
    :param key_header: the header field that has this id
    :param retention: how long deliveries of a handled event get its answer: longer than the sender
        delivers again
    :param options: further options of ``@idempotent``
    :raises TypeError: at import, unless there is either ``key`` or ``key_header``; if another
        function has the name: an event for one would count as handled for the other; for an
        async ``verify`` or ``key``; for ``resumable=True``, because no signature is kept; for
        options that would get round the signature
    :raises PolicyError: at import, if an option is unknown or has a bad value
    """
    if not name or not callable(verify):
        raise TypeError("@webhook needs the sender's name and a function that verifies requests.")
    if (key is None) == (key_header is None):
        raise TypeError("@webhook needs either key=..., a function of the event, or key_header=...")
    for function in (verify, key):
        if iscoroutinefunction(function):
            raise TypeError("@webhook calls verify and key in a thread: they must not be async.")
    for option in _FIXED.keys() & options:
        raise TypeError(f"@webhook does not take the option {option}: {_FIXED[option]}.")
    resumable: object = options.get("resumable")
    if resumable is True:  # what the types forbid
        raise TypeError(
            "@webhook(resumable=True): a receiver cannot run again without its sender, because no "
            "signature is kept. Give resumable a function, with resume_data."
        )
    policy = {
        **_POLICY,
        "header": key_header,
        "key_from": None if key is None else _key_from(key, name),
        "scope": _scope_of(name),
        "fingerprint": key_alone,  # senders change fields between deliveries, and partners paths
        "errors": _error_of,
        "retention": retention,
        **options,
    }

    def decorate(handler: View) -> View:
        return cast(View, _receiver(handler, name, verify, policy))

    return decorate


def _receiver(handler: Any, name: str, verify: Verify, policy: dict[str, Any]) -> Any:
    code = getattr(handler, "__code__", None)
    if isinstance(handler, type) or (code is not None and code.co_varnames[:1] == ("self",)):
        raise TypeError("@webhook decorates a function, not a class or a method.")
    function = f"{handler.__module__}.{handler.__qualname__}"
    # A module that is imported again has new code; a function that makes receivers has not.
    other, known = _receivers.get(name, (function, None))
    if other != function or (code is not None and code is known):
        raise TypeError(
            f"{other} and {function} are both @webhook({name!r}). Give each receiver its own name: "
            "an event that one has handled would count as handled for the other."
        )
    _receivers[name] = (function, code)
    guarded = idempotent(**policy)(handler)

    def refusal_of(request: HttpRequest) -> HttpResponseBase | None:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        try:
            setattr(request, EVENT, verify(request))
        except InvalidSignature as error:
            logger.warning("Refused a delivery of the webhook %s: %s", name, error.reason)
            return _refusal(error)
        return None

    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        refusal = refusal_of(request)
        event = getattr(request, EVENT, None)
        return guarded(request, event, *args, **kwargs) if refusal is None else refusal

    async def aview(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        refusal = await on_request_thread(refusal_of, request)
        event = getattr(request, EVENT, None)
        return await guarded(request, event, *args, **kwargs) if refusal is None else refusal

    received = csrf_exempt(wraps(guarded)(aview if iscoroutinefunction(guarded) else view))
    setattr(received, RECEIVER, (name, verify))
    return received


def sender_without_secret(view: Any) -> str:
    """Return the name of the sender whose deliveries would all fail, because a setting of the
    receiver has no secret; empty if it has one, and for a view that is no receiver."""
    name, verify = getattr(view, RECEIVER, ("", None))
    return name if verify is not None and lacks_secret(verify) else ""


def _refusal(error: InvalidSignature) -> HttpResponseBase:
    response = JsonResponse({"detail": error.reason}, status=error.status)
    response["Cache-Control"] = "no-store"
    if error.status == UNAUTHORIZED:
        response["WWW-Authenticate"] = "Signature"  # RFC 9110, section 11.6.1
    return response


def _error_of(problem: Problem, request: Any) -> HttpResponseBase:
    """A delivery of an event that was handled is no error, also where no answer is kept."""
    if problem.code is Code.RESPONSE_UNAVAILABLE and problem.original_status:
        return HttpResponse(status=problem.original_status)
    return error_response(problem, configuration().policy_for(request.path_info), request)


def _key_from(key: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    def key_of_event(request: Any) -> Any:
        """The id of the event."""
        try:
            return key(getattr(request, EVENT))
        except (AttributeError, LookupError, TypeError):
            # What is signed need not be an event. Whether the function is wrong, people can see.
            logger.warning("A delivery of the webhook %s has no id", name, exc_info=True)
            return None

    return key_of_event


def _scope_of(name: str) -> Callable[[Any], tuple[str, ...]]:
    def scope(request: Any) -> tuple[str, ...]:
        match = request.resolver_match
        if match is None:
            return ("webhook", name)
        # One view behind several paths: an event for one tenant is none for another.
        parts = [*enumerate(match.args), *sorted(match.kwargs.items())]
        return ("webhook", name, *(f"{each}={_text_of(value)}" for each, value in parts))

    scope.__doc__ = f"The sender {name}."
    return scope


def _text_of(value: Any) -> str:
    """Return the text of a path's parameter, the same one in every process.

    :raises ImproperlyConfigured: for an object without one
    """
    text = name_of(value) or str(value)
    if isinstance(value, (FunctionType, type)) or text == object.__repr__(value):
        raise ImproperlyConfigured(
            f"The path of a webhook has a parameter of type {type(value).__qualname__}, which "
            "has no stable text. The scope of its events needs text, a number, or a model's row."
        )
    return text
