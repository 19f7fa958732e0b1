"""A check of middlewares that run each request in a transaction of their own."""

from collections.abc import Iterator
from inspect import unwrap
from types import CodeType, FunctionType
from typing import Any

from django.core.checks import CheckMessage, Warning, register
from django.db.transaction import Atomic

from ..contract.middlewares import is_ours, listed_middlewares
from .configuration import TAG, valid_configuration
from .views import guarded_endpoints


@register(TAG)
def check_enclosing_transactions(**kwargs: Any) -> list[CheckMessage]:
    """W005, once per middleware."""
    found = [path for path, each in listed_middlewares() if each is not None and encloses(each)]
    listed = any(is_ours(each) for each in listed_middlewares())
    if not found or not (listed or (valid_configuration() and guarded_endpoints())):
        return []
    return [_enclosing(path) for path in found]


def encloses(middleware: Any) -> bool:
    """Whether a middleware calls what is below it inside of ``transaction.atomic()``.

    django-reversion's says so by an attribute. Of others the code is read: some function in it
    uses both ``atomic`` and ``get_response``.
    """
    said = getattr(middleware, "atomic", None)
    if isinstance(said, bool):
        return said
    parts = [middleware]
    if isinstance(middleware, type):
        parts = [part for each in middleware.__mro__ for part in vars(each).values()]
    return any(isinstance(part, FunctionType) and _encloses(part) for part in parts)


def _encloses(function: FunctionType) -> bool:
    inner = unwrap(function)
    backend = [cell.cell_contents for cell in function.__closure__ or ()]
    decorated = inner is not function and any(isinstance(each, Atomic) for each in backend)
    return any(
        any(name.endswith("get_response") for name in names)
        and (decorated or not names.isdisjoint({"atomic", "Atomic"}))
        for names in _names(inner.__code__)
    )


def _names(code: CodeType) -> Iterator[set[str]]:
    """Yield what a function and the functions inside it use, each by itself."""
    yield {*code.co_names, *code.co_freevars, *code.co_varnames}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _enclosing(path: str) -> CheckMessage:
    return Warning(
        f"The middleware {path} runs requests inside of transaction.atomic(). A record claimed "
        "in there would be hidden from other requests and could be undone, so requests with a key "
        "fail (on the database that holds the records).",
        hint="Remove the transaction: a guarded view already runs in one. For "
        "django-reversion list a subclass of RevisionMiddleware with atomic = False; put your own "
        "transaction.atomic() into the views. If it is on another database, or ends before "
        "get_response is called, silence this check.",
        id="django_idempotency.W005",
    )
