"""The endpoint that tells a client the status of its operation."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.apps import apps
from django.db import Error, connections, transaction
from django.http.response import HttpResponseBase
from rest_framework import serializers
from rest_framework.exceptions import NotAuthenticated, NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ..adapters.base import error_response
from ..adapters.drf import IdempotencyError
from ..conf.policy import Errors, Policy, StoreKind, build
from ..conf.settings import configuration
from ..guard.factory import cache_store_of
from ..http.principal import scope_of
from ..http.problem_json import problem_of
from ..http.responses import deserialize
from ..models import IdempotencyRecord
from ..protocol.codecs import Owner, Unreadable
from ..protocol.keys import SCOPE, InvalidKey, keyed_digest, parse_key
from ..protocol.problems import Code, Problem
from ..protocol.record import StoredResponse
from ..protocol.status import OperationState, OperationStatus
from ..stores.base import Outage
from ..stores.causes import cause_of
from ..stores.database.lookup import aware, look_up

Json = dict[str, Any]

SHOWN_EFFECTS = 100
UNKNOWN = "There is no operation of yours under this key."


class OpenEffectSerializer(serializers.Serializer):  # type: ignore[type-arg]
    """An effect of an operation that has not happened yet, as far as is known."""

    name = serializers.CharField()
    state = serializers.ChoiceField(["pending", "failed"])
    tries = serializers.IntegerField()
    due = serializers.DateTimeField(allow_null=True)


class OperationStatusSerializer(serializers.Serializer):  # type: ignore[type-arg]
    """The fields of an answer, for API documents."""

    key = serializers.CharField()
    state = serializers.ChoiceField([str(each) for each in OperationState])
    outcome_unknown = serializers.BooleanField()
    created = serializers.DateTimeField(allow_null=True)
    completed = serializers.DateTimeField(allow_null=True)
    expires = serializers.DateTimeField()
    status = serializers.IntegerField(allow_null=True)
    response = serializers.JSONField(allow_null=True, required=False)
    effects = OpenEffectSerializer(many=True, required=False)


class OperationStatusView(APIView):
    """Says what became of the operation under a key, to the caller whose key it is.

    The key of another caller is answered exactly like an unused one. There is no list, and no
    search: a caller must know the key. Asking changes nothing.

    :cvar policy: options of the guarded views about which it is asked, where they differ from the
        settings: ``scope``, ``tenant``, ``store``, ``using``, ``key_format`` ...
    :cvar shows_response: whether the stored response is in the answer
    """

    policy: Mapping[str, object] = {}
    shows_response = False
    serializer_class = OperationStatusSerializer
    http_method_names = ["get", "head", "options"]

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """Return the view function.

        :raises PolicyError: at import, if an option is wrong
        """
        build(initkwargs.get("policy", cls.policy))
        view = super().as_view(**initkwargs)
        # In a request's block some databases would show the past, and MySQL no locks.
        for alias in connections:
            view = transaction.non_atomic_requests(using=alias)(view)
        return view

    def get(self, request: Request, key: str) -> HttpResponseBase:
        policy = configuration().policy_for(request.path_info).override(**self.policy)
        try:
            key = parse_key(key, policy.key_format, policy.key_max_length, policy.key_pattern)
            found = _find(policy, _scope(request, policy), key)
            if found is None:
                raise NotFound(UNKNOWN)
            return Response(self.document(key, found, policy))
        except InvalidKey as error:
            return self._refuse(problem_of(Code.KEY_INVALID, policy, reason=str(error)), policy)
        except Outage:
            return self._refuse(problem_of(Code.STORE_UNAVAILABLE, policy), policy)

    def document(self, key: str, found: OperationStatus, policy: Policy) -> Json:
        """Return the answer about an operation, as plain data. Subclasses may change it."""
        status = found.response.status if found.response else None
        answer: Json = {
            "key": key,
            "state": str(found.state),
            "outcome_unknown": found.outcome_unknown,
            "created": found.created_at,
            "completed": found.completed_at,
            "expires": found.expires_at,
            # An operator refused the operation; the status is not that of the view.
            "status": None if found.state is OperationState.REFUSED else status or None,
        }
        if self.shows_response:
            completed = found.state is OperationState.COMPLETED and found.response
            owner = Owner(found.scope, key)
            answer["response"] = _shown(completed, policy, owner) if completed else None
        if found.record_id is not None and apps.is_installed("django_idempotency.effects"):
            using = IdempotencyRecord.alias(policy.using)
            answer["effects"] = _open_effects(using, found.record_id)
        return answer

    def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(*args, **kwargs)
        response["Cache-Control"] = "no-store"
        return response

    def _refuse(self, problem: Problem, policy: Policy) -> HttpResponseBase:
        if policy.errors is Errors.DRF:
            raise IdempotencyError(problem)
        return error_response(problem, policy, self.request)


def _scope(request: Request, policy: Policy) -> str:
    """Return the digest of the caller, as the guard of a view does.

    :raises NotAuthenticated: for an anonymous caller: a shared key belongs to no caller
    """
    scope = scope_of(request, policy)
    if scope is None:
        raise NotAuthenticated
    return keyed_digest(SCOPE + configuration().secret, scope).hex()


def _find(policy: Policy, scope: str, key: str) -> OperationStatus | None:
    if policy.store is StoreKind.CACHE:
        found = cache_store_of(policy).look_up(scope, key)
    else:
        # The primary decides: a replica may lag.
        found = look_up(IdempotencyRecord.alias(policy.using), scope, key)
    return found and replace(found, scope=scope)


def _open_effects(using: str, record_id: int) -> list[Json]:
    """Return the effects of an operation that are pending or have failed. Where their functions
    live, and what has gone wrong, is not for callers."""
    from ..effects.rows import open_of_record

    try:
        found = list(open_of_record(using, record_id)[:SHOWN_EFFECTS])
    except Error as error:
        raise Outage(cause_of(error)) from error
    return [
        {
            "name": each.name.rpartition(".")[2],
            "state": each.state,
            "tries": each.tries,
            "due": aware(using, each.due_at),
        }
        for each in found
    ]


def _shown(stored: StoredResponse, policy: Policy, owner: Owner) -> Json:
    """Return the response of a replay, or the reason why there is none."""
    if stored.omitted:
        return {"unavailable": stored.omitted.replace("_", " ")}
    try:
        response = deserialize(stored, policy, owner)
    except Unreadable as error:
        return {"unavailable": str(error)}
    headers = [[name, value] for name, value in response.items()]
    try:
        return {"headers": headers, "body": response.content.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        body = base64.b64encode(response.content).decode()
        return {"headers": headers, "body": body, "encoding": "base64"}
