"""What can be counted, before it has happened.

A counter that appears with its first event was never seen to rise: ``rate()`` and ``increase()`` of
a series that begins at 1 are 0. So every series begins at 0 (decision 0103).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.signals import request_started

from ..conf.policy import Policy
from ..contract.endpoints import Endpoint, endpoints
from ..contract.facts import problems_of
from ..functions.run import DECLARED, METHOD
from ..protocol.problems import Code
from ..signals import Outcome

logger = logging.getLogger("django_idempotency")

CODES = frozenset(map(str, Code))
"""Reasons that are codes of error answers; others are names of exceptions, without a bound."""

BUCKETS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Of what the guard adds, in seconds: from a replay out of the replay cache, or a refusal without a
query, to claims that wait for a lock."""


@dataclass(frozen=True, slots=True)
class Source:
    """One method of a guarded view, or a function that runs once, and what can become of its calls.

    :ivar view: as in an :class:`~django_idempotency.signals.Event`; so are ``method``, ``route``
    :ivar codes: of the error answers that its policy admits; functions raise errors instead
    """

    method: str
    view: str
    route: str
    outcomes: tuple[Outcome, ...]
    codes: tuple[Code, ...] = ()


def sources() -> list[Source]:
    """Return each method of each guarded view in the URLconf, and the decorated functions."""
    views = [
        _view(endpoint, policy)
        for endpoint in endpoints()
        if (policy := endpoint.protection.guards) is not None
    ]
    outcomes = tuple(outcome for outcome in Outcome if outcome is not Outcome.FAILED_OPEN)
    return views + [Source(METHOD, name, "", outcomes) for name in sorted(DECLARED)]


def _view(endpoint: Endpoint, policy: Policy) -> Source:
    # Every outcome under every policy: which one holds may depend on the rest of the path, and an
    # alert must not miss the first request that runs unprotected.
    codes = tuple(problem.code for problem in problems_of(policy))
    return Source(endpoint.method, endpoint.name, endpoint.route, tuple(Outcome), codes)


def views_that_write() -> list[tuple[str, str]]:
    """Return names and routes of all views that take writes, guarded or not."""
    return sorted({(endpoint.name, endpoint.route) for endpoint in endpoints()})


def before_first_request(prepare: Callable[[], object]) -> None:
    """Call a function once in this process, when its first request comes: the URLconf is not
    loaded when apps are.

    An error is logged, and the request goes on.
    """

    def once(**kwargs: Any) -> None:
        request_started.disconnect(once)
        try:
            prepare()
        except Exception:
            logger.exception("Metrics of guarded views do not begin at 0")

    request_started.connect(once, weak=False)
