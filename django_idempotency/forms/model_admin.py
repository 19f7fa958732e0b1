"""``IdempotentAdminMixin``: the forms of Django's admin."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.http import HttpRequest
from django.template.response import TemplateResponse

from .guarding import idempotent_form, not_done
from .keys import idempotency_key_input, key_in_form

if TYPE_CHECKING:
    from ..options import IdempotentOptions

TEMPLATE = "admin/django_idempotency/forms/change_form.html"

_POLICY = {
    # Whoever is logged in again meanwhile is the same caller.
    "scope": "principal",
    # Tests and tools of a project post to its admin without opening the page.
    "required": False,
}


def _answer(request: HttpRequest, call: Callable[[], Any]) -> Any:
    return call()


class IdempotentAdminMixin:
    """Carries out the forms "add" and "change" of a ``ModelAdmin`` once, inlines and log entry
    included. List it before ``ModelAdmin``.

    :cvar idempotency_options: arguments of :func:`idempotent_form`
    """

    idempotency_options: ClassVar["IdempotentOptions"] = {}
    _idempotent: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        options: Any = {**_POLICY, **cls.idempotency_options}
        guard = idempotent_form(**options)
        cls._idempotent = staticmethod(guard(_answer))

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        call = partial(_super(self).add_view, request, *args, **kwargs)
        return self._once(request, None, call)

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        call = partial(_super(self).change_view, request, object_id, *args, **kwargs)
        return self._once(request, object_id, call)

    def render_change_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Put the key into the form. The form that answers a POST has errors: its key is free."""
        response = _super(self).render_change_form(request, *args, **kwargs)
        if request.method == "POST":
            response = not_done(request, response)
        return _with_key(request, response)

    def _once(self, request: HttpRequest, object_id: str | None, call: Callable[[], Any]) -> Any:
        is_keyed = request.method == "POST" and key_in_form(request)
        # The admin asks in its view, which does not run before a replay. Where the answer is no, it
        # says so itself.
        if is_keyed and self._may_send(request, object_id):
            return self._idempotent(request, call)
        return call()

    def _may_send(self, request: HttpRequest, object_id: str | None) -> bool:
        # A project need not have django.contrib.admin.
        from django.contrib.admin.options import TO_FIELD_VAR
        from django.contrib.admin.utils import unquote

        model_admin = cast(Any, self)
        if object_id is None or (model_admin.save_as and "_saveasnew" in request.POST):
            return bool(model_admin.has_add_permission(request))
        field = request.POST.get(TO_FIELD_VAR, request.GET.get(TO_FIELD_VAR))
        if field and not model_admin.to_field_allowed(request, field):
            return False
        changed = model_admin.get_object(request, unquote(object_id), field)
        return changed is not None and bool(model_admin.has_change_permission(request, changed))


def _super(model_admin: Any) -> Any:
    return super(IdempotentAdminMixin, model_admin)


def _with_key(request: HttpRequest, response: Any) -> Any:
    """Have the template of a form, whichever it is, write the key at the top of the form."""
    if not isinstance(response, TemplateResponse) or response.is_rendered:
        return response
    parent = response.resolve_template(response.template_name)
    if not hasattr(parent, "template"):  # of another template language
        return response
    own = {"idempotency_parent": parent, "idempotency_key_input": idempotency_key_input(request)}
    response.context_data = {**(response.context_data or {}), **own}
    response.template_name = TEMPLATE
    return response
