"""A shop with forms for visitors: every kind of view that takes one."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.template.response import TemplateResponse
from django.urls import path, reverse_lazy
from django.utils.decorators import method_decorator
from django.views.generic import CreateView, DeleteView, FormView, UpdateView, View

from django_idempotency.forms import IdempotentFormMixin, idempotent_form
from django_idempotency.remember import remember
from tests.shop.models import Order

PAGE = "forms/checkout.html"


def nothing() -> None:
    """Happens between the write and the answer, unless a test says otherwise."""


after_write: Callable[[], None] = nothing


class OrderForm(forms.ModelForm):  # type: ignore[type-arg]
    """Only letters: anything else is an error of the visitor's."""

    item = forms.CharField(max_length=30)
    file = forms.FileField(required=False)

    class Meta:
        model = Order
        fields = ["item"]

    def clean_item(self) -> str:
        item: str = self.cleaned_data["item"]
        if item == "wrong":
            raise forms.ValidationError("Wrong item.")
        return item


def order(request: HttpRequest, form: Any) -> HttpResponse:
    made = form.save()
    after_write()
    request.session["bought"] = [*request.session.get("bought", []), made.item]
    messages.success(request, f"Thanks for {made.item}")
    return redirect("order", made.pk)


@idempotent_form
def function(request: Any) -> HttpResponse:
    form = OrderForm(request.POST or None, request.FILES)
    if request.POST.get("item") == "refuse":
        return HttpResponseBadRequest("No.")
    if request.POST.get("item") == "missing":
        raise Http404
    if request.POST.get("item") == "kept":
        return remember(HttpResponseBadRequest("No, for ever."))
    if form.is_bound and form.is_valid():
        return order(request, form)
    response = render(request, PAGE, {"form": form})
    return request.idempotency.not_done(response) if request.method == "POST" else response


@idempotent_form()
async def async_function(request: Any) -> HttpResponse:
    form = OrderForm(request.POST or None, request.FILES)
    if request.POST.get("item") == "refuse":
        return HttpResponseBadRequest("No.")
    if form.is_bound and form.is_valid():
        made = await Order.objects.acreate(item=form.cleaned_data["item"])
        messages.success(request, f"Thanks for {made.item}")
        return redirect("order", made.pk)
    response = await sync_to_async(render)(request, PAGE, {"form": form})
    return request.idempotency.not_done(response) if request.method == "POST" else response


@idempotent_form
def template_function(request: Any) -> HttpResponse:
    """It does not say that an invalid form is not done: its errors do."""
    form = OrderForm(request.POST or None, request.FILES)
    if form.is_bound and form.is_valid():
        return order(request, form)
    return TemplateResponse(request, PAGE, {"form": form})


class Ordering:
    form_class = OrderForm
    template_name = PAGE

    def form_valid(self, form: Any) -> HttpResponse:
        return order(self.request, form)  # type: ignore[attr-defined]


class Mixed(Ordering, IdempotentFormMixin, CreateView):  # type: ignore[type-arg]
    model = Order


@idempotent_form
class Decorated(Ordering, FormView):  # type: ignore[type-arg]
    """Its form is shown again without calling its parent's method."""

    def form_invalid(self, form: Any) -> HttpResponse:
        return TemplateResponse(self.request, PAGE, {"form": form})


class Method(View):
    @idempotent_form
    def post(self, request: Any) -> HttpResponse:
        form = OrderForm(request.POST, request.FILES)
        return (
            order(request, form)
            if form.is_valid()
            else TemplateResponse(request, PAGE, {"form": form})
        )

    def get(self, request: Any) -> HttpResponse:
        return render(request, PAGE, {"form": OrderForm()})


@method_decorator(idempotent_form(), name="post")
class MethodDecorated(Ordering, FormView):  # type: ignore[type-arg]
    pass


@idempotent_form
class AsyncClass(View):
    async def get(self, request: Any) -> HttpResponse:
        return await sync_to_async(render)(request, PAGE, {"form": OrderForm()})

    async def post(self, request: Any) -> HttpResponse:
        form = OrderForm(request.POST, request.FILES)
        if not form.is_valid():
            return TemplateResponse(request, PAGE, {"form": form})
        made = await Order.objects.acreate(item=form.cleaned_data["item"])
        messages.success(request, f"Thanks for {made.item}")
        return redirect("order", made.pk)


class Change(Ordering, IdempotentFormMixin, UpdateView):  # type: ignore[type-arg]
    model = Order


class Cancel(IdempotentFormMixin, DeleteView):  # type: ignore[type-arg]
    model = Order
    template_name = PAGE
    success_url = reverse_lazy("orders")


@idempotent_form
def cart(request: Any, pk: int) -> HttpResponse:
    form = OrderForm(request.POST or None)
    if form.is_bound and form.is_valid():
        return order(request, form)
    response = render(request, "forms/cart.html", {"form": form, "cart": pk})
    return request.idempotency.not_done(response) if request.method == "POST" else response


@idempotent_form(atomic=False, on_interrupted="run")
def stepped(request: Any) -> HttpResponse:
    """A step of it is done when it finds that the rest cannot be. Later it finds that at once."""

    def pay() -> None:
        Order.objects.create(item=request.POST["item"])

    if request.idempotency.attempt > 1:
        return HttpResponseBadRequest("No.")
    request.idempotency.step("pay", pay)
    after_write()
    return HttpResponseBadRequest("No.")


def show(request: HttpRequest, pk: int) -> HttpResponse:
    said = ", ".join(str(each) for each in messages.get_messages(request))
    return HttpResponse(f"{get_object_or_404(Order, pk=pk)} {said}")


VIEWS = {
    "function": function,
    "async-function": async_function,
    "template-function": template_function,
    "mixin": Mixed.as_view(),
    "class": Decorated.as_view(),
    "method": Method.as_view(),
    "method-decorated": MethodDecorated.as_view(),
    "async-class": AsyncClass.as_view(),
}
"""Every kind of view that orders an item."""

urlpatterns = [
    *(path(f"{name}/", view) for name, view in VIEWS.items()),
    path("change/<int:pk>/", Change.as_view()),
    path("cancel/<int:pk>/", Cancel.as_view()),
    path("cart/<int:pk>/", cart),
    path("stepped/", stepped),
    path("orders/<int:pk>/", show, name="order"),
    path("orders/", function, name="orders"),
]
