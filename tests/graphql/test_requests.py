"""Which requests of GraphQL are guarded, and what stands around them."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
import strawberry
from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from graphene_django.views import GraphQLView as GrapheneView
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import api_view, authentication_classes
from strawberry.django.views import GraphQLView
from strawberry.file_uploads import Upload

from django_idempotency.conf.policy import PolicyError
from django_idempotency.contract.endpoints import Coverage, GuardedBy, protection_of
from django_idempotency.graphql import LONGEST_DOCUMENT, idempotent_graphql
from django_idempotency.models import IdempotencyRecord
from django_idempotency.remember import remember
from tests.conftest import in_thread, row_locks
from tests.shop.models import Coupon, Order
from tests.support import graphql_shop
from tests.support.graphql_shop import GRAPHENE, VIEWS, StrawberryQuery

pytestmark = pytest.mark.django_db(transaction=True)

BUY = 'mutation { buy(item: "vm") { id } }'
LOGIN = 'mutation { login(item: "vm") { id } }'
QUERY = "{ orders }"


@strawberry.type
class UploadMutation:
    @strawberry.mutation
    def upload(self, file: Upload) -> str:
        return Order.objects.create(item=file.read().decode()).item


def client_mutation_id(request: HttpRequest) -> Any:
    """The field `clientMutationId` of the variables."""
    return json.loads(request.body)["variables"]["clientMutationId"]


def persisted(request: HttpRequest) -> Any:
    """Knows documents by their number, as far as it has seen them."""
    sent = json.loads(request.body)
    known = {**KNOWN, **({sent["id"]: sent["query"]} if "query" in sent else {})}
    if sent["id"] not in known:
        return JsonResponse({"errors": [{"message": "PersistedQueryNotFound"}]})
    request._body = json.dumps({"query": known[sent["id"]]}).encode()
    return VIEWS["ariadne"](request)


KNOWN: dict[int, str] = {7: BUY}


def kept(request: HttpRequest) -> Any:
    return remember(VIEWS["ariadne"](request))


class Private(LoginRequiredMixin, GrapheneView):
    """As the documentation of graphene-django has it."""


private = Private.as_view(schema=GRAPHENE)
rest = idempotent_graphql(VIEWS["graphene"])
rest = api_view(["POST"])(authentication_classes([SessionAuthentication])(rest))
uploads = GraphQLView.as_view(
    schema=strawberry.Schema(StrawberryQuery, UploadMutation), multipart_uploads_enabled=True
)
MADE: dict[str, Any] = {
    **{name: idempotent_graphql(view) for name, view in VIEWS.items()},
    "exempt": idempotent_graphql(VIEWS["strawberry"], exempt=["login"]),
    "uploads": idempotent_graphql(uploads),
    "by-function": idempotent_graphql(VIEWS["strawberry"], key=client_mutation_id),
    "persisted": idempotent_graphql(persisted),
    "kept": idempotent_graphql(kept),
    "non-atomic": idempotent_graphql(VIEWS["strawberry"], atomic=False),
    "behind-login": login_required(idempotent_graphql(VIEWS["strawberry"])),
    "private": idempotent_graphql(private),
    "rest": rest,
}
urlpatterns = [path(f"{name}/", csrf_exempt(view)) for name, view in MADE.items()]


@pytest.fixture(autouse=True)
def _project(settings: Any, client: Client, django_user_model: Any) -> None:
    settings.ROOT_URLCONF = __name__
    client.force_login(django_user_model.objects.create_user("ada"))


@pytest.fixture
def post(client: Client) -> Callable[..., Any]:
    def send(where: str, sent: Any, key: str | None = "k", kind: str = "application/json") -> Any:
        headers = {} if key is None else {"idempotency-key": key}
        body = sent if isinstance(sent, str | dict) and kind != "application/json" else None
        body = json.dumps(sent) if body is None else body
        return client.post(f"/{where}/", body, kind, headers=headers)

    return send


def is_replay(response: Any) -> bool:
    return "Idempotency-Replayed" in response


@pytest.mark.parametrize("library", ["strawberry", "async-strawberry"])
def test_under_asgi(library: str, client: Client) -> None:
    asgi = AsyncClient()
    asgi.cookies = client.cookies

    def post(document: str, key: str) -> Any:
        body, headers = json.dumps({"query": document}), {"idempotency-key": key}
        send = async_to_sync(asgi.post)
        return send(f"/{library}/", body, "application/json", headers=headers)

    assert [is_replay(post(BUY, "k")) for _ in range(2)] == [False, True]
    assert post(QUERY, "k").json() == {"data": {"orders": 1}}
    failed = post('mutation { a: buy(item: "vm") { id } b: buy(item: "nothing") { id } }', "k-2")
    assert (failed.json()["data"], Order.objects.count()) == (None, 1)
    assert post(BUY, "not a key\x7f").status_code == 400
    assert not is_replay(post("mutation {", "k-3"))
    assert post(BUY, "k-3").json()["data"]["buy"]


def test_a_batch_is_done_whole_or_not_at_all(post: Any) -> None:
    nothing = 'mutation { buy(item: "nothing") { id } }'
    failed = post("strawberry", [{"query": BUY}, {"query": nothing}]).json()
    assert failed[0]["errors"][0]["extensions"]["code"] == "IDEMPOTENCY_UNDONE"
    assert ([each["data"] for each in failed], Order.objects.count()) == ([None, {"buy": None}], 0)
    batch = [{"query": BUY}, {"query": QUERY}]
    first, again = post("strawberry", batch, "k-2"), post("strawberry", batch, "k-2")
    assert (first.content, is_replay(again)) == (again.content, True)
    post("strawberry", [{"query": QUERY}, {"query": QUERY}], "k-3")
    assert IdempotencyRecord.objects.count() == 2


def test_uploads(client: Client) -> None:
    def upload(content: str) -> Any:
        text = "mutation ($file: Upload!) { upload(file: $file) }"
        parts = {
            "operations": json.dumps({"query": text, "variables": {"file": None}}),
            "map": json.dumps({"0": ["variables.file"]}),
            "0": SimpleUploadedFile("file.txt", content.encode()),
        }
        return client.post("/uploads/", parts, headers={"idempotency-key": "k"})

    assert upload("vm").json() == {"data": {"upload": "vm"}}
    assert is_replay(upload("vm"))
    assert upload("other").status_code == 422
    assert Order.objects.get().item == "vm"


@pytest.mark.parametrize("kind", ["application/graphql", "application/x-www-form-urlencoded"])
def test_other_bodies(kind: str, post: Any) -> None:
    def body(document: str) -> str:
        return document if kind.endswith("graphql") else urlencode({"query": document})

    assert post("graphene", body(QUERY), kind=kind).json() == {"data": {"orders": 0}}
    assert not IdempotencyRecord.objects.exists()
    post("graphene", body(BUY), kind=kind)
    assert is_replay(post("graphene", body(BUY), kind=kind))


def test_a_document_in_the_address_is_not_overlooked(post: Any, client: Client) -> None:
    """graphene prefers it to the one in the body."""
    for _ in range(2):
        answer = client.post(
            "/graphene/",
            json.dumps({"query": QUERY}),
            "application/json",
            query_params={"query": BUY},
            headers={"idempotency-key": "k"},
        )
    assert (is_replay(answer), Order.objects.count()) == (True, 1)


def test_one_of_several_operations(post: Any) -> None:
    document = f"query Count {QUERY} mutation Buy {BUY.removeprefix('mutation ')}"
    for name, count in (("Count", 0), ("Buy", 1)):
        post("strawberry", {"query": document, "operationName": name})
        assert IdempotencyRecord.objects.count() == count


def test_mutations_in_fragments(post: Any) -> None:
    document = 'mutation { ...A } fragment A on Mutation { ... { buy(item: "vm") { id } } }'
    assert [is_replay(post("strawberry", {"query": document})) for _ in range(2)] == [False, True]


def test_a_persisted_document_may_be_a_mutation(post: Any) -> None:
    """A client that hears that it is not known sends it under the same key."""
    assert "PersistedQueryNotFound" in post("persisted", {"id": 8}).content.decode()
    sent = {"id": 8, "query": BUY}
    assert post("persisted", sent).json()["data"]["buy"]
    assert is_replay(post("persisted", sent))
    post("persisted", {"id": 7}, "k-2")
    assert is_replay(post("persisted", {"id": 7}, "k-2"))


def test_long_documents_are_not_parsed(post: Any) -> None:
    """What is not known is guarded; where it may be a login it is not."""
    comment = "#" * LONGEST_DOCUMENT + "\n"
    for where in ("strawberry", "exempt"):
        post(where, {"query": comment + QUERY})
        assert IdempotencyRecord.objects.count() == 1
    sent = {"query": comment + LOGIN}
    assert [is_replay(post("exempt", sent, "k-2")) for _ in range(2)] == [False, False]


@pytest.mark.parametrize("body", ["{", "[]", "[1]", "null", '{"query": 1}', "[" * 5000, ""])
def test_malformed_requests_get_the_library_s_answer(body: str, client: Client) -> None:
    client.raise_request_exception = False  # graphene does not survive all of them

    def send(**headers: str) -> Any:
        return client.post("/graphene/", body, "application/json", headers=headers)

    bare, guarded = send(), send(**{"idempotency-key": "k"})
    assert (guarded.status_code, guarded.content) == (bare.status_code, bare.content)
    assert not IdempotencyRecord.objects.filter(state="completed").exists()


def test_a_key_of_each_mutation_from_its_variables(post: Any) -> None:
    sent = {"query": BUY, "variables": {"clientMutationId": "m-1"}}
    post("by-function", sent, None)
    assert is_replay(post("by-function", sent, None))
    assert post("by-function", {"query": QUERY}, None).json() == {"data": {"orders": 1}}


def test_a_view_may_have_errors_stored(post: Any) -> None:
    sent = {"query": 'mutation { buy(item: "nothing") { id } }'}
    post("kept", sent)
    assert (is_replay(post("kept", sent)), Order.objects.count()) == (True, 1)


def test_where_nothing_can_be_undone_errors_are_stored(post: Any) -> None:
    """I11: another try would do again what has been done."""
    sent = {"query": '{ one: buy(item: "vm") { id } two: buy(item: "nothing") { id } }'}
    sent["query"] = f"mutation {sent['query']}"
    first, again = post("non-atomic", sent), post("non-atomic", sent)
    assert (first.content, is_replay(again)) == (again.content, True)
    assert Order.objects.count() == 2
    assert "vm" not in post("non-atomic", {"query": "mutation { sell }"}, "k-2").content.decode()
    assert not is_replay(post("non-atomic", {"query": BUY}, "k-2"))


def test_a_resolver_that_breaks_the_transaction(post: Any, monkeypatch: Any) -> None:
    def twice() -> None:
        Coupon.objects.create(code="c")
        Coupon.objects.create(code="c")

    monkeypatch.setattr(graphql_shop, "after_write", twice)
    sent = {"query": BUY}
    failed = post("strawberry", sent)
    assert failed.json()["errors"]
    assert not Order.objects.exists()
    monkeypatch.undo()
    assert post("strawberry", sent).json()["data"]["buy"]


@row_locks
def test_a_duplicate_in_flight(post: Any, client: Client, monkeypatch: Any) -> None:
    """I4."""
    rivals: list[Any] = []
    sent = {"query": BUY}

    def meanwhile() -> None:
        monkeypatch.setattr(graphql_shop, "after_write", graphql_shop.nothing)
        rivals.append(in_thread(lambda: post("strawberry", sent)).result())

    monkeypatch.setattr(graphql_shop, "after_write", meanwhile)
    assert post("strawberry", sent).json()["data"]["buy"]
    assert [each.status_code for each in rivals] == [409]
    assert Order.objects.count() == 1


@pytest.mark.parametrize("where", ["behind-login", "private"])
def test_permissions_stand_outside(where: str, post: Any, client: Client) -> None:
    """I5: also those of a mixin of the view's class."""
    sent = {"query": BUY}
    post(where, sent)
    assert is_replay(post(where, sent))
    assert Order.objects.count() == 1
    client.logout()
    assert post(where, sent).status_code == 302


def test_below_a_view_of_rest_framework(post: Any, client: Client) -> None:
    """graphene-django's documentation authenticates so."""
    sent = {"query": BUY}
    post("rest", sent)
    assert (is_replay(post("rest", sent)), Order.objects.count()) == (True, 1)
    assert post("rest", {"query": QUERY}).json() == {"data": {"orders": 1}}
    failed = post("rest", {"query": 'mutation { buy(item: "nothing") { id } }'}, "k-2")
    assert (failed.json()["data"], Order.objects.count()) == ({"buy": None}, 1)


@pytest.mark.once
class TestChecksAndContract:
    @pytest.mark.parametrize(
        ("name", "by"),
        [
            ("graphene", GuardedBy.VIEW),
            ("async-strawberry", GuardedBy.VIEW),
            ("private", GuardedBy.VIEW),
            ("ariadne", GuardedBy.FUNCTION),
        ],
    )
    def test_what_the_contract_says(self, name: str, by: GuardedBy) -> None:
        found = protection_of(MADE[name], "POST", f"/{name}/")
        assert (found.coverage, found.by) == (Coverage.GUARDED, by)

    def test_misuse(self) -> None:
        with pytest.raises(TypeError, match=r"idempotent_graphql\(GraphQLView.as_view\(...\)\)"):
            idempotent_graphql(GrapheneView)
        with pytest.raises(TypeError, match="a list of names"):
            idempotent_graphql(VIEWS["graphene"], exempt="login")
        with pytest.raises(PolicyError):
            idempotent_graphql(VIEWS["graphene"], retention=1)
