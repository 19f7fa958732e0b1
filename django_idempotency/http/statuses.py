"""Predict the status of the response to an exception that a view has raised."""

import sys

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404
from django.http.multipartparser import MultiPartParserError

SERVER_ERROR = 500


def status_raised(error: BaseException, is_rest: bool = False) -> int:
    """Return the status of the response that Django or a framework will make of an exception: 500
    unless its class says otherwise.

    :param is_rest: the view is one of Django REST framework's
    """
    # As in django.core.handlers.exception.response_for_exception.
    if isinstance(error, Http404):
        return 404
    if isinstance(error, PermissionDenied):
        return 403
    if isinstance(error, BadRequest | SuspiciousOperation | MultiPartParserError):
        return 400
    if (is_rest and _is(error, "rest_framework.exceptions", "APIException")) or _is(
        error, "ninja.errors", "HttpError"
    ):
        status = getattr(error, "status_code", SERVER_ERROR)
        return status if isinstance(status, int) else SERVER_ERROR
    return 422 if _is(error, "ninja.errors", "ValidationError") else SERVER_ERROR


def _is(error: BaseException, module: str, name: str) -> bool:
    """Whether an exception is of a class that exists if its module was ever imported."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(error, kind)
