"""A shop for visitors without an account: a cart in the session, and forms that are sent once.

Two forms, with keys of two kinds. The checkout is for a cart: all pages that show it are one order.
The express form orders one thing, and each page of it is an order of its own.
"""

from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from django_idempotency.forms import idempotent_form

from ..effects import send_confirmation
from ..models import Purchase
from ..provisioning import provision

ITEMS = {"backup": "Backup", "domain": "Domain", "mailbox": "Mailbox"}
CART = "cart"


class CheckoutForm(forms.Form):
    email = forms.EmailField(label="E-mail")


class ExpressForm(CheckoutForm):
    item = forms.ChoiceField(choices=list(ITEMS.items()))


@require_safe
def shop(request: HttpRequest) -> HttpResponse:
    return render(request, "cloud/shop.html", {"items": ITEMS, "cart": request.session.get(CART)})


@require_POST
def add(request: HttpRequest) -> HttpResponse:
    cart = request.session.get(CART) or {"id": uuid4().hex, "items": []}
    item = ITEMS.get(request.POST.get("item", ""))
    if item is not None:
        request.session[CART] = {**cart, "items": [*cart["items"], item]}
    return redirect("shop")


@idempotent_form
def checkout(request: HttpRequest) -> HttpResponse:
    cart = request.session.get(CART)
    if cart is None:
        # A second tab, whose cart was ordered in the first one.
        return render(request, "cloud/no_cart.html", {"latest": _latest(request)}, status=409)
    form = CheckoutForm(request.POST or None)
    if form.is_valid():
        del request.session[CART]
        return _ordered(request, ", ".join(cart["items"]), form)
    return _shown(request, "cloud/checkout.html", {"form": form, "cart": cart})


@idempotent_form
def express(request: HttpRequest) -> HttpResponse:
    form = ExpressForm(request.POST or None)
    if form.is_valid():
        return _ordered(request, ITEMS[form.cleaned_data["item"]], form)
    return _shown(request, "cloud/express.html", {"form": form})


def _ordered(request: Any, items: str, form: Any) -> HttpResponseRedirect:
    purchase = Purchase.objects.create(email=form.cleaned_data["email"], items=items)
    provision(purchase)
    request.session["latest"] = str(purchase.number)
    messages.success(request, f"Thank you for your order: {items}.")
    request.idempotency.after_commit(send_confirmation, purchase.pk)
    return redirect("purchase", purchase.number)


def _shown(request: Any, template: str, context: dict[str, Any]) -> HttpResponse:
    response = render(request, template, context)
    return request.idempotency.not_done(response) if request.method == "POST" else response


@require_safe
def purchase(request: HttpRequest, number: UUID) -> HttpResponse:
    found = get_object_or_404(Purchase, number=number)
    return render(request, "cloud/purchase.html", {"purchase": found})


def _latest(request: HttpRequest) -> Purchase | None:
    return Purchase.objects.filter(number=request.session.get("latest")).first()
