"""The same purchase behind operations of Django Ninja."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI, Router, Schema, Status
from rest_framework.authtoken.models import Token

from django_idempotency.decorators import idempotency_exempt, idempotent
from tests.shop import async_views, views


class OrderIn(Schema):
    item: str = "server"
    outcome: str | None = None


def token(request: HttpRequest) -> Any:
    """Who sends a token, whoever the session belongs to."""
    key = request.headers.get("Authorization", "").removeprefix("Token ")
    found = Token.objects.filter(key=key).select_related("user").first()
    return found.user if found else None


ANY: Any = {...: dict[str, Any]}
"""Responses of any status are dictionaries."""

api = NinjaAPI(urls_namespace="shop", auth=token)


def create(request: HttpRequest, data: OrderIn, response: HttpResponse) -> Any:
    assert request.user.is_authenticated is not None  # as every view with a caller does
    status, body = views.buy(data.dict())
    response["X-Order"] = str(body["id"])
    views.told(request, data.dict(), response)
    return Status(status, body)


async def acreate(request: HttpRequest, data: OrderIn, response: HttpResponse) -> Any:
    user = await request.auser()
    assert user.is_authenticated is not None
    status, body = await async_views.buy(data.dict())
    response["X-Order"] = str(body["id"])
    views.told(request, data.dict(), response)
    return Status(status, body)


def copy(function: Any) -> Any:
    """A function of its own: Ninja marks those that it makes operations of."""
    if function is create:

        def own(request: HttpRequest, data: OrderIn, response: HttpResponse) -> Any:
            return create(request, data, response)

        return own

    async def aown(request: HttpRequest, data: OrderIn, response: HttpResponse) -> Any:
        return await acreate(request, data, response)

    return aown


post = {"response": ANY}
api.post("/sync/", url_name="sync", **post)(copy(create))
api.post("/async/", url_name="async", **post)(copy(acreate))
api.post("/decorated/", url_name="decorated", **post)(idempotent(copy(create)))
api.post("/async-decorated/", url_name="async-decorated", **post)(idempotent(copy(acreate)))
idempotent(api.post("/decorated-above/", url_name="above", **post)(copy(create)))
idempotent(api.post("/async-decorated-above/", url_name="async-above", **post)(copy(acreate)))
api.post("/exempt/", url_name="exempt", **post)(idempotency_exempt(copy(create)))

router = Router()
router.post("/sync/", **post)(copy(create))
router.post("/async/", **post)(copy(acreate))
router.post("/required/", **post)(idempotent(required=True)(copy(create)))
api.add_router("/router/", idempotent(router, status_header="Idempotency-Status"))

guarded_api = idempotent(NinjaAPI(urls_namespace="guarded", auth=token))
guarded_api.post("/sync/", **post)(copy(create))
guarded_api.post("/async/", **post)(copy(acreate))
guarded_api.post("/exempt/", **post)(idempotency_exempt(copy(create)))
