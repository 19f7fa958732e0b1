"""A worker is killed (SIGKILL) beside the commit: there is an order and an empty cart, or neither
(I2), and the message is seen once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.sessions.models import Session

from tests.shop.models import Order
from tests.support import carts
from tests.support.carts import SAID, STORAGES, Visitor, close_shop, open_shop
from tests.support.server import ROOT

pytestmark = [pytest.mark.processes, pytest.mark.urls(carts.__name__)]


@pytest.fixture(params=STORAGES, autouse=True)
def storage(request: Any, settings: Any, transactional_db: None) -> Iterator[str]:
    open_shop(settings, request.param)
    yield request.param
    close_shop()


@pytest.fixture
def visitor() -> Visitor:
    visitor = Visitor()
    visitor.page(add="vm")
    return visitor


def checkout_and_die(visitor: Visitor, moment: str, storage: str) -> None:
    cookies = visitor.client.cookies.output(attrs=[], header="", sep=";").strip()
    command = [sys.executable, "-m", "tests.support.dying_checkout", moment, storage, cookies]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("COVERAGE_PROCESS_START", None)
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


def test_after_the_commit(visitor: Visitor, storage: str) -> None:
    checkout_and_die(visitor, "after", storage)
    [session] = Session.objects.all()
    assert (Order.objects.count(), "cart" in session.get_decoded()) == (1, False)
    assert visitor.post("/function/")["Idempotency-Replayed"] == "true"
    page = visitor.page()
    assert (page["cart"], page["said"], Order.objects.count()) == ([], [SAID], 1)
    assert visitor.page()["said"] == []


def test_before_the_commit(visitor: Visitor, storage: str) -> None:
    checkout_and_die(visitor, "before", storage)
    page = visitor.page()
    assert (page["cart"], page["said"], Order.objects.count()) == (["vm"], [], 0)
    retry = visitor.post("/function/")
    assert (retry.status_code, "Idempotency-Replayed" in retry) == (302, False)
    page = visitor.page()
    assert (page["cart"], page["said"], Order.objects.count()) == ([], [SAID], 1)
