"""Who can finish interrupted operations: the resumable handlers that views declare."""

from django.db import router

from ..conf.policy import Policy, Store
from ..conf.values import dotted_path
from ..models import IdempotencyRecord
from .endpoints import endpoints


def resumable_handlers(using: str) -> dict[str, Policy]:
    """Return the policies with a handler, by its name.

    Records hold names only, and nothing is imported by a name from there: it must be one of these.
    A handler under two different policies is left out, because nobody knows which one is meant.

    :param using: only views whose records are in this database
    """
    declared = declared_handlers(using)
    return {name: policies[0] for name, policies in declared.items() if len(policies) == 1}


def declared_handlers(using: str | None = None) -> dict[str, list[Policy]]:
    """Return the names of all handlers that views declare, with the policies they are under.

    A handler whose views are all atomic, or have their records elsewhere, has none.
    """
    found: dict[str, list[Policy]] = {}
    for endpoint in endpoints():
        policy = endpoint.verdict.policy
        if policy is None or policy.resumable is None:
            continue
        policies = found.setdefault(dotted_path(policy.resumable), [])
        if _is_used(policy, using) and policy not in policies:
            policies.append(policy)
    return found


def _is_used(policy: Policy, using: str | None) -> bool:
    if policy.atomic or policy.store is Store.CACHE:
        return False
    return using in {None, policy.using or router.db_for_write(IdempotencyRecord)}
