"""An official payment SDK, which makes its keys and retries by itself, over connections that break.

The server runs the code of ``docs/how-to/stripe.md`` in processes of its own.
"""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.docs.pages import how_to
from tests.shop.models import Order
from tests.support.server import COPIES, ROOT, Server, Stage

pytestmark = [pytest.mark.processes, pytest.mark.once]

SETTINGS = """
from tests.support.server_settings import *

ROOT_URLCONF = "stripe_urls"
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": ["stripe_authentication.BearerAuthentication"]}
DATABASES["default"]["NAME"] = %r
"""

AUTHENTICATION = """
from rest_framework.authentication import TokenAuthentication


class BearerAuthentication(TokenAuthentication):
    keyword = "Bearer"
"""


class StripeServer(Server):
    """Gunicorn with the page's code as its URLconf."""

    def __init__(self, stage: Path) -> None:
        Stage.__init__(self, stage)
        (stage / "shop").mkdir()
        (stage / "shop/models.py").write_text("from tests.shop.models import Order")
        (stage / "stripe_settings.py").write_text(SETTINGS % connection.settings_dict["NAME"])
        (stage / "stripe_authentication.py").write_text(AUTHENTICATION)
        (stage / "stripe_urls.py").write_text(how_to("stripe")[0])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "stripe_settings",
            "PYTHONPATH": os.pathsep.join([str(stage), str(ROOT)]),
        }
        self._log = (stage / "server.log").open("wb")
        application = "django.core.wsgi:get_wsgi_application()"
        options = ["--workers", "2", "--bind", f"127.0.0.1:{self.port}", "--timeout", "0"]
        options += [*COPIES, "--graceful-timeout", "1"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", application, *options],
            cwd=ROOT,
            env=environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )


class CuttingProxy:
    """Stands between a client and a server, and cuts connections as the script says.

    ``before``: the request is lost. ``after``: the server has answered, the answer is lost.
    What comes after the end of the script passes.

    :ivar keys: the key of each request that arrived here
    """

    def __init__(self, port: int) -> None:
        self.script: list[str] = []
        self.keys: list[str] = []
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            while request := message(client):
                keys = re.findall(rb"(?i)^idempotency-key: (.*)\r$", request, re.MULTILINE)
                if len(keys) != 1:
                    return  # from somebody else, who knew another server at this port
                self.keys.append(keys[0].decode())
                cut = self.script.pop(0) if self.script else None
                if cut == "before":
                    return
                answer = self._forward(request)
                if cut == "after":
                    return
                client.sendall(answer)

    def _forward(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self._server)) as server:
            server.sendall(request)
            answer = message(server)
        assert answer, "the server gave no answer"
        return answer

    def close(self) -> None:
        self._listener.close()


def message(stream: socket.socket) -> bytes:
    """Read one request or answer; nothing if the other side is gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = stream.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
    missing = (int(length[1]) if length else 0) - len(body)
    while missing > 0:
        part = stream.recv(65536)
        if not part:
            return b""
        data, missing = data + part, missing - len(part)
    return data


@pytest.fixture(scope="module")
def server(django_db_setup: None, tmp_path_factory: Any) -> Iterator[StripeServer]:
    server = StripeServer(tmp_path_factory.mktemp("stripe"))
    try:
        server.wait_until_up()
        yield server
    finally:
        server.stop()


@pytest.fixture
def proxy(transactional_db: None, server: StripeServer) -> Iterator[CuttingProxy]:
    connection.close()
    cutting = CuttingProxy(server.port)
    yield cutting
    cutting.close()


@pytest.fixture(autouse=True)
def _nothing_leaves_this_machine(monkeypatch: Any) -> None:
    """No telemetry, no proxy of the environment, and no address but loopback."""
    monkeypatch.setattr(stripe, "enable_telemetry", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    find = socket.getaddrinfo

    def loopback_only(host: Any, *args: Any, **options: Any) -> Any:
        assert host == "127.0.0.1", f"a request to {host}"
        return find(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", loopback_only)


def sdk(proxy: CuttingProxy, caller: Caller, retries: int = 2) -> stripe.StripeClient:
    here = f"http://127.0.0.1:{proxy.port}"
    return stripe.StripeClient(
        caller.token.key,
        base_addresses={"api": here, "files": here, "connect": here, "meter_events": here},
        max_network_retries=retries,
    )


@pytest.mark.parametrize(
    "script",
    [[], ["before"], ["after"], ["before", "after"], ["after", "before"], ["after", "after"]],
    ids=lambda script: ", ".join(script) or "no cut",
)
def test_the_sdk_buys_once(proxy: CuttingProxy, caller: Caller, script: list[str]) -> None:
    proxy.script = list(script)
    customer = sdk(proxy, caller).v1.customers.create({"name": "Ada"})
    assert customer.id == f"cus_{Order.objects.get().pk}"
    assert (len(proxy.keys), len(set(proxy.keys))) == (len(script) + 1, 1)
    assert IdempotencyRecord.objects.get().key == proxy.keys[0]
    assert customer.last_response is not None
    replayed = customer.last_response.headers.get("Idempotent-Replayed")
    assert replayed == ("true" if "after" in script else None)


def test_the_sdk_makes_a_key_per_operation(proxy: CuttingProxy, caller: Caller) -> None:
    client = sdk(proxy, caller)
    one, other = (client.v1.customers.create({"name": "Ada"}) for _ in range(2))
    assert one.id != other.id
    assert len(set(proxy.keys)) == Order.objects.count() == 2


def test_the_caller_goes_on_where_the_sdk_gave_up(proxy: CuttingProxy, caller: Caller) -> None:
    """A key of one's own outlives the process that made it."""
    proxy.script = ["after"]
    options: stripe.RequestOptions = {"idempotency_key": "order-17, for Ada"}
    with pytest.raises(stripe.APIConnectionError):
        sdk(proxy, caller, retries=0).v1.customers.create({"name": "Ada"}, options)
    customer = sdk(proxy, caller).v1.customers.create({"name": "Ada"}, options)
    assert customer.id == f"cus_{Order.objects.get().pk}"


def test_the_sdk_understands_the_errors(proxy: CuttingProxy, caller: Caller) -> None:
    client = sdk(proxy, caller)
    options: stripe.RequestOptions = {"idempotency_key": "order-18"}
    client.v1.customers.create({"name": "Ada"}, options)
    with pytest.raises(stripe.IdempotencyError, match="first sent with another request"):
        client.v1.customers.create({"name": "Grace"}, options)
