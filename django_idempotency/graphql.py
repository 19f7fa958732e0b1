"""``idempotent_graphql``: a GraphQL view whose mutations are safe to retry.

GraphQL says in the body what other APIs say by method and status: whether a request only reads, and
whether it failed. The library's view does the work; here its requests and answers are read.
"""

import json
from collections.abc import Callable, Collection, Iterator
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from .adapters.base import OPTIONS, resolve_policy
from .conf.policy import Policy
from .decorators import idempotent
from .guard.status import LEFT_ALONE, NO_KEY
from .http.body import FORM, MULTIPART
from .http.claim import BodyTooLarge, read_ahead, whole_body
from .http.responses import NO_CHOICES, storage_choices
from .remember import do_not_remember

if TYPE_CHECKING:
    from graphql import SelectionSetNode

__all__ = ["idempotent_graphql"]

LARGEST_BODY = 1024 * 1024
"""Bytes of a request without files that are read to find its operation."""

LONGEST_DOCUMENT = 64 * 1024
"""Characters of a document that are parsed: the view may refuse long ones without parsing them."""

UNDONE = {
    "message": "Nothing of this request was done, because a part of it failed. Send it again with "
    "the same key.",
    "extensions": {"code": "IDEMPOTENCY_UNDONE"},
}
"""The error in an answer whose data were true before the writes behind them were undone."""

Operation = tuple[str, str]
"""A document, and which of its operations is meant; empty if it has one only."""


def idempotent_graphql(
    view: Callable[..., Any] | None = None, /, *, exempt: Collection[str] = (), **options: Any
) -> Any:
    """Make the mutations of a GraphQL view safe to retry: one execution and one answer per key.

    Queries and subscriptions run as without a key, also where keys are required. An answer with
    ``errors`` is not stored, whatever its status: the writes are undone, and a retry runs. What
    failed before anything ran frees its key. The view may decide otherwise for an answer
    (:mod:`django_idempotency.remember`).

    :param view: what ``as_view()`` of the library's class returns, or a function; sync or async
    :param exempt: names of mutations, as the schema has them. A request with one of these runs
        without a guard: logins, for example
    :param options: of :func:`~django_idempotency.decorators.idempotent`
    :raises TypeError: at import, if it is no view
    :raises ModuleNotFoundError: without graphql-core, which the libraries use, too
    :raises PolicyError: at import, if an option is unknown or has a bad value
    """
    import graphql  # noqa: F401  (graphql-core: or the first request would find out)

    if isinstance(exempt, str):
        raise TypeError("idempotent_graphql(exempt=...) takes a list of names, not one text.")
    if view is None:
        return partial(_guarded, frozenset(exempt), options)
    return _guarded(frozenset(exempt), options, view)


def _guarded(exempt: frozenset[str], options: dict[str, Any], view: Any) -> Any:
    if isinstance(view, type) or not callable(view):
        raise TypeError(
            f"idempotent_graphql cannot guard {view!r}. Give it the view that the URLconf would "
            "have: idempotent_graphql(GraphQLView.as_view(...))."
        )
    is_async = iscoroutinefunction(view)

    def answer(request: Any, *args: Any, **kwargs: Any) -> Any:
        return _marked(request, view(request, *args, **kwargs))

    async def aanswer(request: Any, *args: Any, **kwargs: Any) -> Any:
        return _marked(request, await view(request, *args, **kwargs))

    guarded = idempotent(**options)(_as(aanswer if is_async else answer, view))

    def route(request: Any, *args: Any, **kwargs: Any) -> Any:
        django_request = getattr(request, "_request", request)
        policy = resolve_policy(django_request.path_info, guarded)
        if _may_have_key(django_request, policy) and _is_left_alone(django_request, exempt):
            is_keyed = policy.meta_key in django_request.META
            django_request.idempotency = LEFT_ALONE if is_keyed else NO_KEY
            return view(request, *args, **kwargs)
        return guarded(request, *args, **kwargs)

    routed = _as(route, view)
    setattr(routed, OPTIONS, getattr(guarded, OPTIONS))
    return routed


def _as(function: Any, view: Any) -> Any:
    wrapped = wraps(view)(function)
    return markcoroutinefunction(wrapped) if iscoroutinefunction(view) else wrapped


def _may_have_key(request: HttpRequest, policy: Policy) -> bool:
    if request.method not in policy.methods:
        return False
    return policy.meta_key in request.META or policy.required or policy.key_from is not None


def _is_left_alone(request: HttpRequest, exempt: frozenset[str]) -> bool:
    """Whether a request has nothing to be guarded.

    What cannot be read is guarded; but where mutations are exempt it may be one of these.
    """
    try:
        fields = {name for each in _operations_of(request) for name in _mutations_in(each)}
    except Unreadable:
        return bool(exempt)
    return not fields or not fields.isdisjoint(exempt)


class Unreadable(Exception):
    """A request does not say what it does: it is malformed, very long, or names a document that the
    server has."""


def _operations_of(request: HttpRequest) -> list[Operation]:
    """
    :raises Unreadable: if they are not all there
    """
    if "query" in request.GET:  # some libraries prefer it to the one in the body
        raise Unreadable
    kind = (request.content_type or "").lower()
    try:
        if kind == MULTIPART:
            with read_ahead(request):
                sent = request.POST.get("operations", "")
            return list(_operations_in(json.loads(sent)))
        body = whole_body(request, LARGEST_BODY)
        if kind == "application/graphql":
            return [((body or b"").decode(), "")]
        if kind == FORM:
            with read_ahead(request):
                return list(_operations_in(request.POST.dict()))
        return list(_operations_in(json.loads(body or b"")))
    except (BodyTooLarge, ValueError, RecursionError) as error:
        raise Unreadable from error


def _operations_in(document: Any) -> Iterator[Operation]:
    """
    :param document: a request, or a list of some, as JSON
    """
    for each in document if isinstance(document, list) else [document]:
        query = each.get("query") if isinstance(each, dict) else None
        if not isinstance(query, str) or len(query) > LONGEST_DOCUMENT:
            raise Unreadable
        yield query, str(each.get("operationName") or "")


def _mutations_in(operation: Operation) -> set[str]:
    """Return the names of the mutations that an operation calls; none for a query.

    :raises Unreadable: if the document has no such operation
    """
    from graphql import (
        FragmentDefinitionNode,
        GraphQLError,
        OperationType,
        get_operation_ast,
        parse,
    )

    text, name = operation
    try:
        document = parse(text, no_location=True)
        found = get_operation_ast(document, name or None)
        if found is None:
            raise Unreadable
        if found.operation is not OperationType.MUTATION:
            return set()
        fragments = {
            each.name.value: each.selection_set
            for each in document.definitions
            if isinstance(each, FragmentDefinitionNode)
        }
        return set(_fields_in(found.selection_set, fragments))
    except (GraphQLError, RecursionError) as error:
        raise Unreadable from error


def _fields_in(
    selected: "SelectionSetNode", fragments: dict[str, "SelectionSetNode"]
) -> Iterator[str]:
    """Return the names of the fields at the root of an operation, also those in fragments. Each
    fragment is taken out of ``fragments``."""
    from graphql import FieldNode, InlineFragmentNode

    for each in selected.selections:
        if isinstance(each, FieldNode):
            yield each.name.value
        elif isinstance(each, InlineFragmentNode):
            yield from _fields_in(each.selection_set, fragments)
        else:
            inner = fragments.pop(each.name.value, None)  # type: ignore[attr-defined]
            if inner is not None:
                yield from _fields_in(inner, fragments)


def _marked(request: Any, response: HttpResponseBase) -> HttpResponseBase:
    """Say whether the answer of the library's view is to be stored.

    Where nothing can be undone (non-atomic mode, records in a cache alone) an answer of resolvers
    is stored with its errors, so that none of them runs twice.
    """
    operation = getattr(request, "idempotency", NO_KEY)  # the view may have refused before
    is_decided = storage_choices(response) != NO_CHOICES
    if not operation or is_decided or not isinstance(response, HttpResponse):
        return response
    try:
        document = json.loads(response.content)
    except ValueError:
        document = None
    results = document if isinstance(document, list) else [document]
    if not all(isinstance(each, dict) for each in results):
        refused = 400 <= response.status_code < 500
        return operation.not_done(response) if refused else response
    errors = [error for each in results for error in each.get("errors") or ()]
    if not errors:
        return response
    if not any(each.get("data") for each in results) and not any(map(_has_path, errors)):
        freed: HttpResponse = operation.not_done(response)  # nothing was executed
        return freed
    if operation.transaction_on is None:
        return response
    if any(map(_reports_data, results)):
        for each in results:
            if _reports_data(each):
                each["data"] = None
                each["errors"] = [*(each.get("errors") or ()), UNDONE]
        response.content = json.dumps(document)
    return do_not_remember(response)


def _has_path(error: Any) -> bool:
    """Whether an error is a resolver's (GraphQL, section 7.1.3)."""
    return isinstance(error, dict) and bool(error.get("path"))


def _reports_data(result: dict[str, Any]) -> bool:
    data = result.get("data")
    return isinstance(data, dict) and any(value is not None for value in data.values())
