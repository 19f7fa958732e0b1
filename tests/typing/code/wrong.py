"""The same with mistakes: a checker must object to each line that says so, and to no other."""

from datetime import timedelta

from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.views.generic import FormView

from django_idempotency.decorators import idempotent
from django_idempotency.forms import IdempotentFormMixin, idempotent_form
from django_idempotency.operations import (
    arun_once,
    idempotent_function,
    operation_of,
    run_once,
)
from django_idempotency.options import IdempotencySettings
from django_idempotency.webhooks import stripe_signature, webhook


def view(request: HttpRequest) -> HttpResponse:
    operation = operation_of(request)
    print(operation.key)  # mistake: there may be none
    print(operation.stepp)  # mistake
    return HttpResponse()


def job(number: int) -> str:
    return str(number)


VERIFY = stripe_signature("SECRET")

idempotent(retenton=timedelta(days=5))(view)  # mistake
idempotent(retention=5)(view)  # mistake
idempotent(retention="24h")(view)  # mistake
idempotent(methods="POST")(view)  # mistake
idempotent(methods=["GET"])(view)  # mistake
idempotent(required="yes")(view)  # mistake
idempotent(scope="users")(view)  # mistake
idempotent(codec="gzip")(view)  # mistake
idempotent(not_stored=["3xx"])(view)  # mistake
idempotent(fingerprint_fields="amount")(view)  # mistake
idempotent(key=lambda: "key")(view)  # mistake

idempotent_form(scope="session", retenton=5)(view)  # mistake
idempotent_form(scope="visitor")(view)  # mistake
idempotent_form(wait_timeout=3)(view)  # mistake


class Contact(IdempotentFormMixin, FormView[Form]):
    idempotency_options = {"wait_limitt": 2}  # mistake


webhook("a", verify=VERIFY, key_header="X", methods=["POST"])  # mistake
webhook("b", verify=VERIFY, key_header="X", resumable=True)  # mistake
webhook("c", verify=VERIFY, key_header="X", retention=35)  # mistake
webhook("d", verify=VERIFY, key="id")  # mistake

run_once(job, 1, key="1", scope="a", retenton=timedelta(days=1))  # mistake
run_once(job, 1, key="1", scope="a", retention="24h")  # mistake
run_once(job, 1, key=1, scope="a")  # mistake
run_once(job, 1, key="1")  # mistake
idempotent_function(scope="a", required=True)  # mistake
idempotent_function(scope="a", on_interrupted="rerun")  # mistake


async def later() -> None:
    await arun_once(job, 1, key="1", scope="a", retention=5)  # mistake
    await arun_once(job, 1, keey="1", scope="a")  # mistake


misspelled: IdempotencySettings = {"RETENTON": timedelta(days=7)}  # mistake
number: IdempotencySettings = {"RETENTION": 5}  # mistake
lower: IdempotencySettings = {"retention": timedelta(days=7)}  # mistake
path: IdempotencySettings = {"PATHS": r"^/api/"}  # mistake
cache: IdempotencySettings = {"CACHE": 1}  # mistake
choice: IdempotencySettings = {"STORE": "redis"}  # mistake
inner: IdempotencySettings = {"POLICIES": {"^/": {"REQIRED": True}}}  # mistake
project: IdempotencySettings = {"POLICIES": {"^/": {"PATHS": ["^/"]}}}  # mistake
