"""Backups, ordered through async views: one of adrf, one of Django Ninja.

Both ask a warehouse, which takes its time, and await its answer in the middle of the transaction.
Only with these packages installed, the URLs are there.
"""

import asyncio
from typing import Any

from adrf.views import APIView
from django.http import HttpRequest
from ninja import NinjaAPI, Schema, Status
from ninja.security import HttpBearer
from rest_framework.authtoken.models import Token
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.decorators import idempotent

from ..models import Order

WAREHOUSE = 0.3
"""Seconds until the warehouse answers."""


async def buy(account: Any, item: str) -> dict[str, Any]:
    order = await Order.objects.acreate(account=account, item=item)
    await asyncio.sleep(WAREHOUSE)
    return {"id": order.pk, "item": order.item}


def bought(account: Any) -> Any:
    return Order.objects.filter(account=account).order_by("pk").values("id", "item")


class Backups(APIView):
    """``POST /adrf/backups``, behind the authentication of the other views."""

    view_is_async = True
    schema = None  # its answers are no serializer's

    async def get(self, request: Request) -> Response:
        return Response([order async for order in bought(request.user)])

    @idempotent
    async def post(self, request: Request) -> Response:
        return Response(await buy(request.user, request.data["item"]), status=201)


class AccountToken(HttpBearer):
    """``Authorization: Bearer`` with the account's token; ``request.auth`` is the account."""

    async def authenticate(self, request: HttpRequest, token: str) -> Any:
        found = await Token.objects.select_related("user").filter(key=token).afirst()
        return found.user if found is not None and found.user.is_active else None


class Backup(Schema):
    item: str


api = NinjaAPI(auth=AccountToken(), docs_url=None, openapi_url=None)


@api.get("/backups")
async def backups(request: HttpRequest) -> Any:
    return [order async for order in bought(request.auth)]


@api.post("/backups", response={201: dict[str, Any]})
@idempotent
async def order_backup(request: HttpRequest, backup: Backup) -> Any:
    return Status(201, await buy(request.auth, backup.item))
