"""Operations of Django Ninja: what is special about them."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.urls import path, resolve
from ninja import NinjaAPI, Router
from ninja.decorators import decorate_view
from ninja.throttling import AuthRateThrottle

from django_idempotency.adapters.ninja import hook_view
from django_idempotency.conf.policy import Policy
from django_idempotency.contract.endpoints import endpoints
from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.shop import urls
from tests.shop.models import Order
from tests.shop.ninja_views import ANY, copy, create, token

MARKER = "Idempotency-Replayed"


def api(name: str) -> Any:
    return NinjaAPI(urls_namespace=name, auth=token)


decorated_apis = [api("decorated-api"), api("other-decorated-api")]
for decorated_api in decorated_apis:
    decorated_api.add_decorator(idempotent)
    decorated_api.post("/", response=ANY)(copy(create))

viewed_api = api("viewed-api")
viewed_api.add_decorator(idempotent, mode="view")
viewed_api.post("/", response=ANY)(copy(create))
decorate_view(idempotent(required=True))(
    viewed_api.post("/strict/", response=ANY)(copy(create)),
)

router = Router()
router.post("/", response=ANY)(idempotent(mismatch_status=418)(copy(create)))
nested_api = idempotent(api("nested-api"), mismatch_status=409, status_header="Idempotency-Status")
nested_api.add_router("/shop/", idempotent(router, status_header="Shop-Status"))

urlpatterns = [
    *urls.urlpatterns,
    path("decorated-api/", decorated_apis[0].urls),
    path("other-decorated-api/", decorated_apis[1].urls),
    path("viewed-api/", viewed_api.urls),
    path("nested-api/", nested_api.urls),
]


@pytest.fixture(autouse=True)
def _project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.mark.parametrize("url", ["/ninja/exempt/", "/ninja-guarded/exempt/"])
def test_an_exempt_operation_runs_each_time(url: str, use_middleware: None, caller: Caller) -> None:
    for key in ("k", "k", "not, a key"):
        assert caller.post(url, key=key).status_code == 201
    assert Order.objects.count() == 3


def test_paths_that_the_settings_exempt(
    use_middleware: None, caller: Caller, settings: Any
) -> None:
    """Also after the operation was guarded for another request."""
    caller.post("/ninja/sync/", key="k")
    settings.IDEMPOTENCY = {"EXEMPT_PATHS": ["^/ninja/sync/$"]}
    for key in ("k", "not, a key"):
        assert caller.post("/ninja/sync/", key=key).status_code == 201
    assert Order.objects.count() == 3


def test_what_ninja_refuses_is_not_stored(caller: Caller) -> None:
    """Validation comes before the guard, as authentication does."""
    assert caller.post("/ninja/decorated/", {"item": 1}).status_code == 422
    assert not IdempotencyRecord.objects.exists()
    assert caller.post("/ninja/decorated/", {"item": "vm"}).status_code == 201


def test_a_throttled_caller_gets_429(caller: Caller, monkeypatch: Any) -> None:
    """I5."""
    operation = operation_behind(resolve("/ninja/decorated/").func)
    monkeypatch.setattr(operation, "throttle_objects", [AuthRateThrottle("1/h")])
    assert caller.post("/ninja/decorated/").status_code == 201
    refused = caller.post("/ninja/decorated/")
    assert (refused.status_code, MARKER in refused) == (429, False)


def operation_behind(view: Any) -> Any:
    (path_view,) = [cell.cell_contents for cell in view.__closure__]
    return path_view.operations[0]


def test_a_required_key(caller: Caller) -> None:
    """Refused before anything else (I7)."""
    caller.token.delete()
    assert caller.post("/ninja/router/required/", key=None).status_code == 400
    assert caller.post("/viewed-api/strict/", key=None).status_code == 400


def test_a_decorator_of_an_api_in_mode_operation(use_middleware: None, caller: Caller) -> None:
    caller.post("/decorated-api/")
    assert caller.post("/decorated-api/")[MARKER] == "true"


def test_the_same_without_the_middleware_is_told_what_to_do(caller: Caller, caplog: Any) -> None:
    """Nobody would see the operation's response."""
    assert caller.post("/other-decorated-api/").status_code == 500
    (record,) = [each for each in caplog.records if each.name == "django.request"]
    assert "idempotent(api)" in str(record.exc_info[1])
    assert not Order.objects.exists()


def test_a_decorator_of_an_api_in_mode_view(caller: Caller) -> None:
    caller.post("/viewed-api/")
    assert caller.post("/viewed-api/")[MARKER] == "true"


def test_the_nearest_word_counts(caller: Caller) -> None:
    first = caller.post("/nested-api/shop/")
    assert (first["Shop-Status"], "Idempotency-Status" in first) == ("stored", False)
    assert caller.post("/nested-api/shop/", {"item": "other"}).status_code == 418


def test_what_is_guarded_how_is_known_without_a_request(settings: Any) -> None:
    settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
    found = {(each.path, each.method): each for each in endpoints()}
    assert found["/ninja/sync/", "POST"].protection.coverage == "unguarded"
    assert found["/ninja/exempt/", "POST"].protection.coverage == "exempt"
    assert found["/ninja/async-decorated/", "POST"].protection.by == "decorated function"
    assert found["/ninja-guarded/sync/", "POST"].protection.by == "decorated view"
    nested = found["/nested-api/shop/", "POST"].protection.policy
    assert nested is not None
    assert (nested.mismatch_status, nested.status_header) == (418, "Shop-Status")
    assert ("/ninja/sync/", "PUT") not in found


@pytest.mark.once
def test_a_view_that_hides_its_operations_is_refused(rf: Any) -> None:
    """Rather than guarded before its authentication (I5)."""

    def view(request: HttpRequest) -> None: ...

    view.__module__ = "ninja.operation"
    with pytest.raises(ImproperlyConfigured, match="finds no operation"):
        hook_view(view, rf.post("/"))


def test_a_policy_is_made_once_for_all_requests(caller: Caller, monkeypatch: Any) -> None:
    """Options of an API and a router are merged, and parsed, for the first request only."""
    caller.post("/nested-api/shop/")
    made: list[Any] = []
    monkeypatch.setattr(Policy, "override", lambda self, **options: made.append(options))
    assert caller.post("/nested-api/shop/").status_code == 201
    assert made == []
