"""``@idempotent_form``: a view that takes a form, and carries it out once."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial, wraps
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Unpack, cast, overload

from asgiref.sync import iscoroutinefunction
from django.views import View

from ..adapters.base import OPTIONS
from ..adapters.dispatch import class_of
from ..compat.django import was_found_invalid
from ..conf.policy import NOT_STORED
from ..decorators import idempotent, refuse_misuse
from ..guard.status import operation_of
from ..http.responses import storage_choices
from ..operations.errors import StepError
from .keys import FIELD, key_in_form
from .pages import page_of

if TYPE_CHECKING:
    from ..options import FormOptions, IdempotentOptions, ScopeFunction, ScopeName

Target = TypeVar("Target", bound=Callable[..., Any])

FORM = "_idempotency_form"
"""Attribute of a view: it is one of ours."""

_POLICY: dict[str, Any] = {
    # Visitors do not choose keys, and cannot correct them: what the settings ask of the keys of
    # API clients does not hold here.
    "methods": ["POST"],
    "header": None,
    "key_from": key_in_form,
    "required": True,
    "key_format": "printable",
    "key_max_length": 255,
    "key_pattern": None,
    "anonymous": "ignore",
    "recheck": "all",
    "fingerprint": "request",
    "fingerprint_fields": None,
    # A returned one also frees its key: see _freed().
    "not_stored": [*NOT_STORED, "4xx"],
    # The second click of a double click. A place that waits is a worker that does nothing else.
    "in_flight": "wait",
    "wait_timeout": timedelta(seconds=10),
    "wait_limit": 4,
    "retry_after": 3,
    "resumable": None,  # there is no session then
    "save_session": True,
    "errors": page_of,
}
"""What every form has, whatever the settings say, unless its decorator says otherwise."""


@overload
def idempotent_form(target: Target, /) -> Target: ...
@overload
def idempotent_form(
    *, scope: "ScopeName | ScopeFunction" = ..., **options: "Unpack[FormOptions]"
) -> Callable[[Target], Target]: ...
def idempotent_form(target: Any = None, /, *, scope: Any = "session", **options: Any) -> Any:
    """Carry out a form once, however often it is sent.

    For function views and class-based views, sync or async. The form needs
    ``{% idempotency_key %}``. Only POST is guarded. A duplicate waits for the first, and gets its
    answer; every error is an HTML page. A 4xx that the view returns, and a page of a template
    response that shows a form with errors, free the key; for another page of errors say so::

        return request.idempotency.not_done(render(request, "checkout.html", {"form": form}))

    :param scope: whose keys they are: ``"session"`` for visitors, logged in or not; ``"principal"``
        for users, on all their devices; or a function, as for ``SCOPE``
    :param options: further options of ``@idempotent``
    :raises PolicyError: at import, if an option is unknown or has a bad value
    :raises TypeError: at import, if the target cannot be guarded
    """
    ignored = {FIELD, *options.pop("fingerprint_ignored_fields", ())}
    policy = {**_POLICY, "scope": scope, "fingerprint_ignored_fields": ignored, **options}
    decorate = partial(_form, idempotent(**policy))
    return decorate if target is None else decorate(target)


def _form(guard: Callable[[Any], Any], target: Any) -> Any:
    refuse_misuse(target)
    if isinstance(target, type):
        _free_keys_of(target)
        guarded = guard(target)
    else:
        guarded = guard(_freeing(target))
    setattr(guarded, FORM, True)
    return guarded


def _freeing(handler: Any) -> Any:
    """Return a function, or a method, that frees the keys of forms with errors."""

    def answer(*args: Any, **kwargs: Any) -> Any:
        return _freed(_request_in(args), handler(*args, **kwargs))

    async def aanswer(*args: Any, **kwargs: Any) -> Any:
        return _freed(_request_in(args), await handler(*args, **kwargs))

    return wraps(handler)(aanswer if iscoroutinefunction(handler) else answer)


def _request_in(args: tuple[Any, ...]) -> Any:
    return next((each for each in args if hasattr(each, "META")), None)


def _free_keys_of(view_class: Any) -> None:
    own = vars(view_class).get("dispatch")

    @wraps(view_class.dispatch)
    def dispatch(view: Any, request: Any, /, *args: Any, **kwargs: Any) -> Any:
        inherited = super(view_class, view).dispatch
        bare = inherited if own is None else own.__get__(view, type(view))
        response = bare(request, *args, **kwargs)
        return _awaited(request, response) if iscoroutine(response) else _freed(request, response)

    view_class.dispatch = dispatch


async def _awaited(request: Any, response: Any) -> Any:
    return _freed(request, await response)


def _freed(request: Any, response: Any) -> Any:
    """Free the key if an answer says that nothing was done: the visitor corrects the form, and
    sends it again with the same key."""
    if storage_choices(response).stored is not None:
        return response  # the view has said what it wants (django_idempotency.remember)
    status = getattr(response, "status_code", 0)
    nothing_done = 400 <= status < 500 or _shows_errors(request, response)
    if not nothing_done or _may_have_done_steps(request):
        return response
    try:
        return not_done(request, response)
    except StepError:  # it is done, and the next try skips it
        return response


def _may_have_done_steps(request: Any) -> bool:
    """Whether an earlier attempt may have done a step, which stays done (``atomic=False``)."""
    operation = operation_of(request)
    return bool(operation and operation.recovered and operation.transaction_on is None)


def not_done(request: Any, response: Any) -> Any:
    """Free the key of a request, if it has one."""
    return operation_of(request).not_done(response)


def _shows_errors(request: Any, response: Any) -> bool:
    """Whether the response of a template shows a form that was sent, and found invalid. One of the
    query string, such as a search, says nothing about what was done."""
    context = getattr(response, "context_data", None)
    return isinstance(context, dict) and any(
        was_found_invalid(each) and each.data is not request.GET for each in context.values()
    )


def is_form(view: Any) -> bool:
    """Whether a URL's view, its class or the method that takes its forms is one of ours."""
    view_class = class_of(view)
    post = getattr(view_class, "post", None)
    return any(hasattr(each, FORM) for each in (view, view_class, post))


class IdempotentFormMixin:
    """Makes a class-based view an :func:`idempotent_form`: ``FormView``, ``CreateView``,
    ``UpdateView``, ``DeleteView`` and their kin. List it before them.

    :cvar idempotency_options: the decorator's arguments
    """

    idempotency_options: ClassVar["IdempotentOptions"] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        is_ours = "idempotency_options" in vars(cls) or not hasattr(cls, OPTIONS)
        if is_ours and issubclass(cls, View):
            idempotent_form(**cls.idempotency_options)(cls)

    def form_invalid(self, form: Any) -> Any:
        """Free the key: the visitor corrects the form, and sends it again with the same one."""
        view = cast(Any, self)
        return not_done(view.request, cast(Any, super()).form_invalid(form))
