"""Compute the scopes of a user's keys, without a request.

A scope is a digest of what has authenticated a request. So there is one for each way in which a
user may have come, and nothing says which of them are used.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, ValidationError

from ..conf.policy import Policy, Scope
from ..conf.settings import configuration
from ..conf.values import dotted_path
from ..contract.endpoints import policies_of_endpoints
from ..http.principal import Parts, name_of
from ..protocol.keys import SCOPE, keyed_digest

WITHOUT_ROW = "rest_framework_simplejwt.models.TokenUser"
"""The class of users without a row: their primary key is what the token says."""

OURS = __package__.partition(".")[0]

MOST_TOKENS = 1000
"""Tokens of one user and one model."""


@dataclass(frozen=True, slots=True)
class CallerScope:
    """One scope of a caller.

    :ivar way: how the caller was authenticated, for people
    :ivar scope: whole, as records have it
    """

    way: str
    scope: str


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of a caller.

    :ivar scopes: those that can be computed
    :ivar unknown: sentences about keys of the caller whose scopes cannot be computed
    """

    scopes: tuple[CallerScope, ...]
    unknown: tuple[str, ...]

    @property
    def digests(self) -> frozenset[str]:
        """The scopes, for a query."""
        return frozenset(each.scope for each in self.scopes)


def user_named(text: str) -> Any:
    """Return the user with a name or a primary key; a name comes first. ``None``: there is none."""
    model = get_user_model()
    users = model._base_manager
    if not text.isprintable():  # a database may refuse it
        return None
    found = users.filter(**{model.USERNAME_FIELD: text}).first()
    if found is None:
        try:
            found = users.filter(pk=text).first()
        except (ValueError, ValidationError):
            return None
    return found


def deleted_user(key: str) -> Any:
    """Return what stands for a user who is gone: only the primary key matters to a scope.

    :return: ``None`` if the text cannot be a primary key of users
    """
    model = get_user_model()
    try:
        user = model(pk=model._meta.pk.to_python(key))
    except ValidationError:
        return None
    user._state.adding = False
    return user


def caller_of(
    user: Any = None, tenants: Collection[str] = (), custom_names: Collection[str] = ()
) -> Caller:
    """Return the scopes of a caller's keys.

    :param user: of Django
    :param tenants: names that ``TENANT`` returns for the caller
    :param custom_names: what a ``SCOPE`` function returns for the caller
    """
    policies = policies_in_use()
    ways = [] if user is None else list(_ways(user))
    ways += [(f'SCOPE function: "{name}"', ("custom", name)) for name in custom_names]
    places: list[tuple[str, Parts]] = [("", ())]
    places += [(f', tenant "{name}"', ("tenant", name)) for name in tenants]
    secret = SCOPE + configuration().secret
    scopes = [
        CallerScope(way + place, keyed_digest(secret, (*outer, *parts)).hex())
        for way, parts in ways
        for place, outer in places
    ]
    unknown = dict.fromkeys(_unknown(policies, user, tenants, custom_names))
    return Caller(tuple(scopes), tuple(unknown))


def policies_in_use() -> list[Policy]:
    """Return every policy that a request may have been guarded under."""
    known = configuration()
    found = [known.policy, *known.policies.values()]
    return found + [policy for _, policy in policies_of_endpoints()]


def _ways(user: Any) -> Iterator[tuple[str, Parts]]:
    name = name_of(user)
    if name is not None:
        yield "user (session, password, token of Django REST framework)", ("user", name)
    yield (
        "user of a JSON Web Token, not read from the database",
        ("user", f"{WITHOUT_ROW}:{user.pk}"),
    )
    for model, tokens in _tokens(user):
        for number, token in enumerate(tokens, start=1):
            name = name_of(token)
            if name is not None:
                yield f"{model._meta.label} {number}", ("token", name)


def _tokens(user: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Yield the models of tokens that belong to users, with those of this one."""
    for model in apps.get_models():
        if "token" not in model._meta.model_name.lower() or model._meta.proxy:  # type: ignore[union-attr]
            continue
        try:
            relation: Any = model._meta.get_field("user")
        except FieldDoesNotExist:
            continue
        if relation.related_model is not None and isinstance(user, relation.related_model):
            yield model, list(model._base_manager.filter(user=user.pk)[:MOST_TOKENS])


def _unknown(
    policies: Collection[Policy],
    user: Any,
    tenants: Collection[str],
    custom_names: Collection[str],
) -> Iterator[str]:
    for policy in policies:
        if callable(policy.scope):
            # A receiver's scope is the sender of its webhooks: no user.
            is_ours = policy.scope.__module__.startswith(f"{OURS}.")
            if not custom_names and not is_ours:
                yield f"Of the SCOPE function {dotted_path(policy.scope)}: give what it returns."
        elif policy.scope is Scope.TOKEN and user is not None:
            yield (
                'Of SCOPE "token": keys that came with a credential which no row keeps (a JSON Web '
                "Token, an Authorization header), or whose row has been deleted."
            )
        elif policy.scope is not Scope.PRINCIPAL:
            yield f'Of SCOPE "{policy.scope}": no user names them.'
        if policy.tenant is not None and not tenants:
            yield f"Of the TENANT function {dotted_path(policy.tenant)}: give its tenants."
