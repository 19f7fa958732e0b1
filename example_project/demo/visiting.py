"""The chapters about those who send no header. The first line of each is its title."""

import json
import re
import time
from base64 import b64decode, b64encode
from hmac import digest

from .client import Answer, Client
from .postbox import Postbox
from .provisioning import Hold
from .sessions import with_cookies
from .stage import ORDERS, Stage, at_once, count, new_key

HOOK, SHOP, CART, CHECKOUT = "/hooks/reseller", "/shop/", "/shop/cart", "/shop/checkout"
SECRETS = "from django.conf import settings; print(settings.CLOUD_RESELLER_SECRETS[0])"
PURCHASES = (
    "from cloud.models import Purchase; "
    "print(*Purchase.objects.filter(email={!r}).values_list('pk', flat=True))"
)
THANKS = "Thank you for your order"


def webhook(stage: Stage) -> None:
    """An event that its sender delivers three times"""
    client, postbox = stage.customer(stage.alice), Postbox(stage.example.folder)
    before, message = count(client, ORDERS), new_key()
    data = {"account": stage.alice["name"], "item": "backup"}
    event = {"type": "order.placed", "data": data}
    secret = stage.shell(SECRETS)
    strange = _deliver(stage, message, event, "whsec_c3RyYW5nZQ==")
    stage.check("Strangers place no orders", "sign with another secret", 401, strange.status)
    answers = [_deliver(stage, message, event, secret) for _ in range(3)]
    statuses = ", ".join(str(answer.status) for answer in answers)
    stage.check("The sender is content", "deliver the event three times", "201, 201, 201", statuses)
    orders = client.get(ORDERS).json[before:]
    stage.check("An event is handled once", "count the new orders", 1, len(orders))
    mails = [mail for order in orders for mail in postbox.mails(order["id"])]
    stage.check("and so is what follows", "count the receipts", 1, len(mails))


def _deliver(stage: Stage, message: str, event: dict[str, object], secret: str) -> Answer:
    """Sign as Standard Webhooks says, and send."""
    moment, body = str(int(time.time())), json.dumps(event)  # as the client sends it
    key = b64decode(secret.removeprefix("whsec_"))
    signed = digest(key, f"{message}.{moment}.{body}".encode(), "sha256")
    headers = {
        "webhook-id": message,
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{b64encode(signed).decode()}",
    }
    return Client(stage.example.address, headers).post(HOOK, event)


def double_click(stage: Stage) -> None:
    """A form that is double-clicked by somebody without an account"""
    visitor, email = _visitor(stage), f"{new_key()}@visitors.example"
    visitor = with_cookies(visitor, visitor.post(CART, {"item": "backup"}))
    form = {"email": email, "idempotency_key": _key_in(visitor.get(CHECKOUT))}
    with Hold(stage.example.folder) as hold:

        def both_are_sent() -> None:
            hold.worker()
            hold.release()

        first, second = at_once(2, visitor, CHECKOUT, form, None, sent=both_are_sent)
    place = first.headers["Location"]
    places = {each.headers["Location"] for each in (first, second)}
    stage.check(
        "Both clicks get one answer",
        "send the form twice at once",
        "302, 302, 1 place",
        f"{first.status}, {second.status}, {len(places)} place",
    )
    _check_order(stage, email)
    visitor = with_cookies(visitor, second)  # a browser has forgotten the first click
    page = visitor.get(place)
    stage.check("The visitor is thanked", "look at the order", True, THANKS in page.body.decode())
    visitor = with_cookies(visitor, page)
    cart = visitor.get(SHOP).body.decode()
    stage.check("The cart is empty", "look at the shop", True, "Your cart is empty" in cart)
    again = visitor.post(CHECKOUT, form)
    seen = "same" if again.headers["Location"] == place else "another"
    stage.check("A reload changes nothing", "send it again, compare the place", "same", seen)
    _check_order(stage, email)
    page = with_cookies(visitor, again).get(place)
    stage.check("Nobody is thanked twice", "look at the order", False, THANKS in page.body.decode())


def _visitor(stage: Stage) -> Client:
    somebody = Client(stage.example.address)
    return with_cookies(somebody, somebody.get(SHOP))


def _key_in(page: Answer) -> str:
    found = re.search(r'name="idempotency_key" value="([^"]+)"', page.body.decode())
    if found is None:
        raise RuntimeError(f"The page has no key: {page.status}")
    return found[1]


def _check_order(stage: Stage, email: str) -> None:
    numbers = stage.shell(PURCHASES.format(email)).split()
    mails = [
        mail for each in numbers for mail in Postbox(stage.example.folder).mails(each, "Purchase")
    ]
    seen = f"{len(numbers)} order, {len(mails)} mail"
    stage.check("There is one order", "count orders and mails", "1 order, 1 mail", seen)


CHAPTERS = (webhook, double_click)
