"""Policies in Django REST framework's responses to ``OPTIONS``.

DRF imports this module while it defines ``APIView``, so it cannot import ``rest_framework.views``.
"""

from typing import Any

from rest_framework.metadata import SimpleMetadata
from rest_framework.request import Request

from .contract.endpoints import protection_of
from .contract.facts import facts
from .contract.routes import write_methods

__all__ = ["IdempotencyMetadata", "IdempotencyMetadataMixin"]


class IdempotencyMetadataMixin:
    """Adds ``idempotency`` to the metadata of a view: the policy of each guarded method.

    A mixin for your own metadata class. A view without a guarded method gets nothing.
    """

    def determine_metadata(self, request: Request, view: Any) -> Any:
        metadata = super().determine_metadata(request, view)  # type: ignore[misc]
        policies = dict(_policies(request))
        return {**metadata, "idempotency": policies} if policies else metadata


class IdempotencyMetadata(IdempotencyMetadataMixin, SimpleMetadata):
    """For ``REST_FRAMEWORK["DEFAULT_METADATA_CLASS"]``."""


def _policies(request: Request) -> Any:
    match = request._request.resolver_match
    if match is None:  # the view was called without a URL
        return
    for method in write_methods(match.func):
        policy = protection_of(match.func, method, request.path_info).guards
        if policy is not None:
            yield method, facts(policy)
