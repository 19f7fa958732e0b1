"""Checks of the views in the URLconf."""

from typing import Any

from django.core.checks import Tags
from django.db import connections
from django.template import TemplateDoesNotExist
from django.template.loader import get_template

from ..adapters.dispatch import class_of
from ..compat.frameworks import has_request_block
from ..conf.policy import Recheck, StoreKind
from ..conf.settings import Configuration
from ..contract.endpoints import (
    HIDDEN,
    Coverage,
    GuardedBy,
    declared_handlers,
    endpoints,
    is_resumed,
    policies_of_endpoints,
)
from ..contract.routes import is_installed, operation_behind
from ..forms.guarding import is_form
from ..forms.pages import PROBLEM
from ..webhooks.receiving import sender_without_secret
from .configuration import Databases, Messages, check
from .messages import message


@check(Tags.urls)
def check_something_is_guarded(valid: Configuration, databases: Databases) -> Messages:
    if not endpoints() or policies_of_endpoints():
        return
    if is_installed():
        cause = 'no endpoint is under one of IDEMPOTENCY["PATHS"] without being exempt'
        remedy = 'Correct IDEMPOTENCY["PATHS"] (searched in request.path_info, as in r"^/api/")'
    else:
        cause = "IdempotencyMiddleware is not in MIDDLEWARE"
        remedy = (
            'Add "django_idempotency.middleware.IdempotencyMiddleware" as the last of MIDDLEWARE'
        )
    yield message("W050", cause=cause, remedy=remedy)


@check(Tags.urls)
def check_views(valid: Configuration, databases: Databases) -> Messages:
    """Once per view that fails with a key, or that may be a decorator of another one."""
    hidden, failing, opaque = {}, {}, {}
    for each in endpoints():
        protection = each.protection
        if protection.hides:
            hidden[each.view] = protection.hides
        if protection.coverage is Coverage.FAILS and protection.reason != HIDDEN:
            failing[protection.reason] = each.path
        if protection.is_opaque and protection.guards:
            opaque[each.view] = True
    for view, decorator in hidden.items():
        yield message("E004", view=view, decorator=decorator)
    for reason, path in failing.items():
        yield message("E051", path=path, reason=reason, fixed=path.partition("{")[0])
    for view in opaque:
        yield message("W048", view=view)


@check(Tags.urls)
def check_recheck(valid: Configuration, databases: Databases) -> Messages:
    """Once per view: functions and methods that are decorated themselves begin their guard where
    the decorator stands; only the middleware comes before their checks."""
    if is_installed():
        return
    decorated = {GuardedBy.FUNCTION, GuardedBy.HANDLER}
    late = dict.fromkeys(
        endpoint.view
        for endpoint, policy in policies_of_endpoints()
        if policy.recheck is Recheck.AUTHENTICATION and endpoint.protection.by in decorated
    )
    for view in late:
        yield message("W049", view=view)


@check(Tags.urls)
def check_webhooks(valid: Configuration, databases: Databases) -> Messages:
    names = dict.fromkeys(sender_without_secret(each.callback) for each in endpoints())
    for name in filter(None, names):
        yield message("E052", name=name)


@check(Tags.urls)
def check_pages_of_forms(valid: Configuration, databases: Databases) -> Messages:
    """Once: a visitor who sends a form twice would get an error of the server."""
    form = next((each for each in endpoints() if is_form(each.callback)), None)
    if form is None:
        return
    try:
        get_template(PROBLEM)
    except TemplateDoesNotExist:
        yield message("E073", view=form.view)


@check(Tags.urls)
def check_request_blocks(valid: Configuration, databases: Databases) -> Messages:
    """Once per view that owns its transactions, and that Django would run in one."""
    aliases = {each for each in connections if connections[each].settings_dict["ATOMIC_REQUESTS"]}
    if not aliases:
        return
    enclosed: dict[str, str] = {}
    for endpoint, policy in policies_of_endpoints():
        blocks = {each for each in aliases if has_request_block(endpoint.callback, each)}
        is_alone = not policy.atomic or policy.store is StoreKind.CACHE
        if blocks and is_alone and endpoint.protection.guards:
            enclosed[_name(endpoint.callback)] = min(blocks)
    for view, alias in enclosed.items():
        yield message("E020", view=view, alias=alias)


def _name(view: Any) -> str:
    named = class_of(view) or view
    return f"{named.__module__}.{getattr(named, '__qualname__', type(named).__qualname__)}"


@check(Tags.urls)
def check_resumable_handlers(valid: Configuration, databases: Databases) -> Messages:
    for name, policies in declared_handlers().items():
        if not policies:
            yield message("W020", name=name)
        elif len(policies) > 1:
            yield message("W021", name=name)


@check(Tags.urls)
def check_views_as_handlers(valid: Configuration, databases: Databases) -> Messages:
    """Once per view."""
    unused, closed = {}, {}
    for endpoint, policy in policies_of_endpoints():
        if policy.resumable is not True:
            continue
        # The settings may say so of all views, and mean those that own their transactions.
        is_meant = valid.policy_for(endpoint.example).resumable is not True
        unused[endpoint.view] = is_meant and not is_resumed(policy)
        operation = operation_behind(endpoint.callback, endpoint.method)
        closed[endpoint.view] = operation is not None and bool(operation.auth_callbacks)
    yield from (message("W020", name=view) for view in unused if unused[view])
    yield from (message("E021", view=view) for view in closed if closed[view])
