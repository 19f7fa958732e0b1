"""What runs in place of a client that does not come back: the handler that its view declares, or
the view itself. What either returns is rendered as in a request to that view."""

import logging
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.conf import settings
from django.core.handlers.exception import get_exception_response
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import get_resolver
from django.utils.translation import get_language, get_language_from_request, override

from ..compat.frameworks import response_of
from ..conf.policy import Policy
from ..guard.guard import Guard
from ..guard.request_state import state_of
from ..guard.resuming import Resumed, Substitute
from ..guard.resuming import resume as resume_by
from ..http.kept_request import rebuilt, request_to
from ..http.responses import LOCALE_MIDDLEWARE, Render
from ..http.statuses import SERVER_ERROR, status_raised
from ..operations.errors import NotResumable
from ..operations.resumed import ResumedOperation, Work
from ..protocol.keys import name_in_logs
from ..stores.database.interrupted import ResumableOperation
from .base import rendered_alone
from .dispatch import class_of, drf_adapters
from .ninja import operations_behind

logger = logging.getLogger("django_idempotency")


def resume(found: ResumableOperation, policy: Policy, using: str) -> Resumed:
    """Finish an interrupted operation. Where its response could not be rendered, nothing runs.

    :param policy: of its view, which says how
    :param using: alias of the database of its record
    """
    try:
        request = request_to(found.method, found.path)
        render = _render_as_view(request, policy)
    except Exception:
        name = name_in_logs(found.key, found.scope)
        logger.exception("%s: not resumed: its view does not render", name)
        return Resumed.IMPOSSIBLE
    if policy.resumable is True:
        prepare = partial(_view_of, policy, found.key)
    else:
        prepare = partial(_handler_of, policy, render)
    return resume_by(found, policy, using, Substitute(request, render, prepare))


def _render_as_view(request: HttpRequest, policy: Policy) -> Render:
    """Return what makes responses as the view of a request does; where it has moved, as JSON."""
    if request.resolver_match is None:
        return rendered_alone
    view: Any = request.resolver_match.func
    if hasattr(class_of(view), "initialize_request"):
        render: Render = drf_adapters().render_as(view, request, policy)
        return render
    for operation in operations_behind(view):
        if request.method in operation.methods:
            return lambda answer: response_of(operation, request, rendered_alone(answer))
    return rendered_alone


def _handler_of(policy: Policy, render: Render, data: Any) -> Work:
    """Return the handler, ready to run.

    :param data: what the view's ``resume_data`` has returned
    """
    handler: Any = policy.resumable

    def work(operation: ResumedOperation) -> HttpResponseBase:
        call = async_to_sync(handler) if iscoroutinefunction(handler) else handler
        return _response(render(call(operation, data)), "handler")

    return work


def _view_of(policy: Policy, key: str, kept: Any) -> Work:
    """Return the view, ready to be called with the request that was interrupted.

    :param kept: what that attempt has kept of it
    :raises NotResumable: if there is no such view or caller any more
    """
    try:
        request = rebuilt(kept)
    except LookupError as error:
        raise NotResumable(str(error)) from error
    match = request.resolver_match
    if match is None:
        raise NotResumable("no view is at its path any more")
    if policy.key_from is None:
        request.META[policy.meta_key] = key

    def work(operation: ResumedOperation) -> HttpResponseBase:
        # It is guarded already: the guards on its way let it pass.
        guard = Guard(request, policy, key)
        guard.is_running = True
        state_of(request).guard = guard
        request.idempotency = operation  # type: ignore[attr-defined]
        call = async_to_sync(match.func) if iscoroutinefunction(match.func) else match.func
        try:
            with override(_language_of(request)):
                response = call(request, *match.args, **match.kwargs)
                return _response(rendered_alone(response), "view")
        except Exception as error:
            # As Django answers it: its handler is not around this call.
            status = status_raised(error)
            if status >= SERVER_ERROR:
                raise
            return get_exception_response(request, get_resolver(), status, error)

    return work


def _language_of(request: HttpRequest) -> str | None:
    """Return the language in which the view answers, as ``LocaleMiddleware`` decides about it."""
    if LOCALE_MIDDLEWARE not in settings.MIDDLEWARE:
        return get_language()
    return get_language_from_request(request, check_path=True)


def _response(answer: Any, source: str) -> HttpResponseBase:
    if not isinstance(answer, HttpResponseBase):
        raise TypeError(f"The resumable {source} returned {answer!r}, which is not a response.")
    return answer
