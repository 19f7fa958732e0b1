"""One shop, behind the views of several GraphQL libraries."""

import json
from collections.abc import Callable
from typing import Any

import ariadne
import graphene
import strawberry
from asgiref.sync import sync_to_async
from django.http import HttpRequest, JsonResponse
from graphene_django.views import GraphQLView as GrapheneView
from strawberry.django.views import AsyncGraphQLView, GraphQLView
from strawberry.schema.config import StrawberryConfig

from tests.shop.models import Order


def nothing() -> None:
    """Happens after an order is written, unless a test says otherwise."""


after_write: Callable[[], None] = nothing


class Failed(Exception):
    """What a resolver raises."""


def buy(item: str) -> int:
    order = Order.objects.create(item=item)
    after_write()
    if item == "nothing":
        raise Failed("There is no such item.")
    return order.pk


def price(pk: int) -> int:
    if Order.objects.get(pk=pk).item == "priceless":
        raise Failed("Nobody knows its price.")
    return 7


class GrapheneOrder(graphene.ObjectType):
    id = graphene.Int()
    price = graphene.Int()

    def resolve_price(self: Any, info: Any) -> int:
        return price(self.id)


class GrapheneBuy(graphene.Mutation):
    class Arguments:
        item = graphene.String(required=True)

    Output = GrapheneOrder

    def mutate(self: Any, info: Any, item: str) -> GrapheneOrder:
        return GrapheneOrder(id=buy(item))


class GrapheneLogin(GrapheneBuy):
    Output = GrapheneOrder


class GrapheneQuery(graphene.ObjectType):
    orders = graphene.Int()

    def resolve_orders(self: Any, info: Any) -> int:
        return Order.objects.count()


class GrapheneMutation(graphene.ObjectType):
    class Meta:
        name = "Mutation"

    buy = GrapheneBuy.Field()
    login = GrapheneLogin.Field()


@strawberry.type
class StrawberryOrder:
    id: int

    @strawberry.field
    def price(self) -> int | None:
        return price(self.id)


@strawberry.type
class StrawberryQuery:
    @strawberry.field
    def orders(self) -> int:
        return Order.objects.count()


@strawberry.type(name="Mutation")
class StrawberryMutation:
    @strawberry.mutation
    def buy(self, item: str) -> StrawberryOrder | None:
        return StrawberryOrder(id=buy(item))

    @strawberry.mutation
    def login(self, item: str) -> StrawberryOrder | None:
        return StrawberryOrder(id=buy(item))


@strawberry.type
class AsyncOrder:
    id: int

    @strawberry.field
    async def price(self) -> int | None:
        return await sync_to_async(price)(self.id)


@strawberry.type
class AsyncQuery:
    @strawberry.field
    async def orders(self) -> int:
        return await Order.objects.acount()


@strawberry.type(name="Mutation")
class AsyncMutation:
    @strawberry.mutation
    async def buy(self, item: str) -> AsyncOrder | None:
        return AsyncOrder(id=await sync_to_async(buy)(item))

    @strawberry.mutation
    async def login(self, item: str) -> AsyncOrder | None:
        return AsyncOrder(id=await sync_to_async(buy)(item))


def _ariadne_schema() -> Any:
    query, mutation, order = (
        ariadne.QueryType(),
        ariadne.MutationType(),
        ariadne.ObjectType("Order"),
    )
    query.set_field("orders", lambda *_: Order.objects.count())
    for name in ("buy", "login"):
        mutation.set_field(name, lambda *_, item: {"id": buy(item)})
    order.set_field("price", lambda order, info: price(order["id"]))
    types = """
        type Order { id: Int price: Int }
        type Query { orders: Int! }
        type Mutation { buy(item: String!): Order login(item: String!): Order }
    """
    return ariadne.make_executable_schema(types, query, mutation, order)


ARIADNE = _ariadne_schema()


def ariadne_view(request: HttpRequest) -> JsonResponse:
    """A view of a project: Ariadne has none for Django."""
    success, result = ariadne.graphql_sync(
        ARIADNE, json.loads(request.body), context_value=request, logger="ariadne"
    )
    return JsonResponse(result, status=200 if success else 400)


GRAPHENE = graphene.Schema(query=GrapheneQuery, mutation=GrapheneMutation)
_batching = StrawberryConfig(batching_config={"max_operations": 3})
VIEWS: dict[str, Callable[..., Any]] = {
    "graphene": GrapheneView.as_view(schema=GRAPHENE),
    "strawberry": GraphQLView.as_view(
        schema=strawberry.Schema(StrawberryQuery, StrawberryMutation, config=_batching)
    ),
    "async-strawberry": AsyncGraphQLView.as_view(
        schema=strawberry.Schema(AsyncQuery, AsyncMutation, config=_batching)
    ),
    "ariadne": ariadne_view,
}
