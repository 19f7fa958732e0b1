"""What will become of an exception that a view has raised."""

import sys
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404
from django.http.multipartparser import MultiPartParserError

SERVER_ERROR = 500

# As in django.core.handlers.exception.response_for_exception.
_DJANGO: tuple[tuple[tuple[type[Exception], ...], int], ...] = (
    ((Http404,), 404),
    ((PermissionDenied,), 403),
    ((BadRequest, SuspiciousOperation, MultiPartParserError), 400),
)


def status_raised(error: BaseException, is_rest: bool = False) -> int:
    """Return the status of the answer that will be made of an exception, if those who raise it say
    so, and otherwise 500.

    :param is_rest: the view is one of Django REST framework's
    """
    for kinds, status in _DJANGO:
        if isinstance(error, kinds):
            return status
    if is_rest and _is(error, "rest_framework.exceptions", "APIException"):
        return _status_of(error)
    if _is(error, "ninja.errors", "HttpError"):
        return _status_of(error)
    return 422 if _is(error, "ninja.errors", "ValidationError") else SERVER_ERROR


def _is(error: BaseException, module: str, name: str) -> bool:
    """Whether an exception is of a class that is there if its module was ever imported."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(error, kind)


def _status_of(error: Any) -> int:
    status = getattr(error, "status_code", SERVER_ERROR)
    return status if isinstance(status, int) else SERVER_ERROR
