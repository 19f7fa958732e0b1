"""Checks of effects: their app, their table, and whether anything runs them."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.core.checks import Tags
from django.db import DatabaseError, connections, router

from ..conf.policy import StoreKind
from ..conf.settings import Configuration
from ..contract.endpoints import policies_of_endpoints
from ..effects.declaring import known_effects
from ..models import IdempotencyRecord
from ..stores.database.dialects import StoreTime, dialect_of
from .configuration import Databases, Messages, check
from .messages import message

_LONGEST_DELAY = timedelta(hours=1)
"""For how long an effect may be due."""

_NAMED = 3
"""How many effects a message names."""


@check(Tags.urls)
def check_effects_app(valid: Configuration, databases: Databases) -> Messages:
    aliases = set(_aliases(valid))  # which loads the views, that may declare effects
    effects = known_effects()
    names = sorted(effects)
    if not names:
        return
    if not apps.is_installed("django_idempotency.effects"):
        more = ["..."] if names[_NAMED:] else []
        yield message("E060", names=", ".join([*names[:_NAMED], *more]))
        return
    for name in names:
        using = effects[name].using
        if using is not None and using not in connections:
            yield message("E062", name=name, alias=using, known=", ".join(connections))
        elif using is not None:
            aliases.add(using)
    for alias in sorted(aliases):
        if alias in connections and not router.allow_migrate_model(alias, _model()):
            yield message("E061", alias=alias)


@check(Tags.database, deploy=True)
def check_effects_run(valid: Configuration, databases: Databases) -> Messages:
    if not apps.is_installed("django_idempotency.effects"):
        return
    for alias in databases:
        if not dialect_of(connections[alias]).is_supported:
            continue
        if not router.allow_migrate_model(alias, _model()):
            continue
        due = _model().rows(alias).filter(due_at__lte=StoreTime(-_LONGEST_DELAY))
        try:
            number = due.count()
        except DatabaseError:  # Before the first migration there is no table.
            continue
        if number:
            yield message("W060", alias=alias, due=number)


def _aliases(valid: Configuration) -> Iterator[str]:
    """Return where operations are committed."""
    policies = [valid.policy, *(policy for _, policy in policies_of_endpoints())]
    for policy in policies:
        if policy.store is not StoreKind.CACHE:
            yield IdempotencyRecord.alias(policy.using)


def _model() -> Any:
    from ..effects.models import IdempotencyEffect

    return IdempotencyEffect
