"""``operation_of()``: the operation of a request, wherever it is asked for."""

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from rest_framework.request import Request

from django_idempotency.decorators import idempotent
from django_idempotency.guard.status import NotGuarded
from django_idempotency.operations import operation_of


def test_without_a_guard_there_is_a_stand_in_that_says_why(rf: RequestFactory) -> None:
    operation = operation_of(rf.post("/"))
    response = HttpResponse()
    assert not operation
    assert operation.not_done(response) is response
    with pytest.raises(NotGuarded, match="neither the middleware nor @idempotent"):
        _ = operation.key


@pytest.mark.django_db(transaction=True)
def test_in_a_view_it_is_the_operation_of_the_key(rf: RequestFactory) -> None:
    @idempotent(anonymous="share")
    def view(request: HttpRequest) -> HttpResponse:
        operation = operation_of(request)
        assert operation is request.idempotency  # type: ignore[attr-defined]
        assert operation is operation_of(Request(request))
        return HttpResponse(operation.key if operation else repr(operation))

    keyed = view(rf.post("/", headers={"Idempotency-Key": "abc"}))
    assert keyed.content == b"abc"
    assert view(rf.post("/")).content == b"<NoOperation: it has no key>"
