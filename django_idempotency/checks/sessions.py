"""Checks of the policies that read or save sessions."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from django.conf import settings

from ..compat.sessions import database_of
from ..conf.policy import Policy, Scope, StoreKind
from ..conf.settings import Configuration
from ..contract.endpoints import Endpoint, policies_of_endpoints
from ..guard.factory import records_alias
from .configuration import Databases, Messages, check
from .messages import message


@check()
def check_sessions(valid: Configuration, databases: Databases) -> Messages:
    """Once for each mistake, with the first view that has it."""
    found = policies_of_endpoints()
    by_session = [each for each, policy in found if policy.scope is Scope.SESSION]
    saving = [(each, policy) for each, policy in found if policy.save_session]
    # A project may have a middleware of its own for sessions.
    if not any("session" in each.lower() for each in settings.MIDDLEWARE):
        if by_session:
            yield message("E070", view=by_session[0].view)
        if saving:
            yield message("W072", view=saving[0][0].view)
    elif saving:
        yield from _apart(saving)


def _apart(saving: list[tuple[Endpoint, Policy]]) -> Iterator[Any]:
    """Yield why sessions are saved in another commit than responses. Where the view owns its
    transactions that is so anyway."""
    atomic = [each for each in saving if each[1].atomic and each[1].store is not StoreKind.CACHE]
    if not atomic:
        return
    engine = settings.SESSION_ENGINE
    using = database_of(import_module(engine).SessionStore())
    if using is None:
        yield message("W071", engine=engine, view=atomic[0][0].view)
        return
    for endpoint, policy in atomic:
        alias = records_alias(policy)
        if alias != using:
            yield message("W070", view=endpoint.view, alias=alias, using=using)
            return
