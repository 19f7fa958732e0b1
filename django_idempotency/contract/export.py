"""Endpoints and guides as data for JSON."""

from dataclasses import asdict
from typing import Any

from .endpoints import Endpoint
from .facts import facts
from .guide import Guide


def as_data(found: list[Endpoint], guide: Guide) -> dict[str, Any]:
    """Return everything that is known of endpoints. For the project's own use: it names views."""
    return {
        "version": 1,
        "endpoints": [endpoint_as_data(endpoint) for endpoint in found],
        "guide": guide_as_data(guide),
    }


def endpoint_as_data(endpoint: Endpoint) -> dict[str, Any]:
    verdict = endpoint.verdict
    return {
        "method": endpoint.method,
        "path": endpoint.path,
        "view": endpoint.view,
        "state": str(verdict.state),
        "settled": endpoint.is_settled,
        "reason": verdict.reason,
        "guarded_by": None if verdict.adapter is None else str(verdict.adapter),
        "policy": None if verdict.policy is None else facts(verdict.policy),
    }


def guide_as_data(guide: Guide) -> dict[str, Any]:
    return asdict(guide)
