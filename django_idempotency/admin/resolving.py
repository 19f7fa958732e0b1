"""The page on which people say what became of an interrupted operation of non-atomic mode."""

from datetime import timedelta
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from ..conf.settings import configuration
from ..contract.answers import answer_of, desk_of, is_json_text
from ..models import IdempotencyRecord, IdempotencyStep
from ..operations.resolution import ManualResolution, ResolutionOutcome
from ..protocol.codecs import NoKeys
from ..protocol.keys import short_digest
from ..stores.database.step_log import StepLog

RESOLVE = "django_idempotency_idempotencyrecord_resolve"
CHANGED = "django_idempotency_idempotencyrecord_change"

_WORDS = {
    "rerun": _("To be rerun: its next retry runs."),
    "answer": _("Answered with status %(status)s."),
    "refuse": _("Refused for good."),
}
_LEFT = _("Nothing was changed: it is in flight, or has been resolved already.")


class ResolveForm(forms.Form):
    """A decision, and that it was made knowingly."""

    decision = forms.ChoiceField(
        label=_("Decision"),
        widget=forms.RadioSelect,
        choices=[
            ("rerun", _("Rerun: its next retry runs, from the first step that is not done")),
            ("answer", _("Answer: it is done, and its retries get the response below")),
            ("refuse", _("Refuse: it never runs again, and its caller is told so")),
        ],
    )
    status = forms.IntegerField(label=_("Status"), min_value=200, max_value=499, required=False)
    body = forms.CharField(label=_("Body (JSON)"), widget=forms.Textarea, required=False)
    confirmed = forms.BooleanField(label=_("I know what the interrupted attempt has done."))

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("decision") == "answer" and not given.get("status"):
            self.add_error("status", _("An answer needs a status."))
        if given.get("decision") == "answer" and not is_json_text(given.get("body", "")):
            self.add_error("body", _("This is not valid JSON. Leave it empty for no body."))
        return given


def resolve(model_admin: Any, request: HttpRequest, pk: int) -> HttpResponse:
    """Show what is known of an operation, and carry a decision out."""
    if not model_admin.has_resolve_permission(request):
        raise PermissionDenied
    record = model_admin.get_queryset(request).filter(pk=pk).first()
    if record is None or pk not in StepLog(record._state.db).unresolved([pk]):
        raise Http404
    form = ResolveForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return _carry_out(model_admin, request, record, form.cleaned_data)
    may_view = model_admin.has_view_permission(request)
    request.current_app = model_admin.admin_site.name
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": _("Resolve an interrupted operation"),
        "record": record,
        # The key is the caller's: whoever knows it may, with the caller's credentials, replay.
        "key": record.key if may_view else short_digest(record.key),
        "may_view": may_view,
        "back": _way_back(model_admin, request, record),
        "form": form,
        "steps": steps_of(record),
    }
    template = "admin/django_idempotency/idempotencyrecord/resolve.html"
    return TemplateResponse(request, template, context)


def steps_of(record: Any) -> QuerySet[IdempotencyStep]:
    """Return what is noted about an operation: its start, then its steps in order."""
    rows = IdempotencyStep._base_manager.using(record._state.db)
    return rows.filter(record_id=record.pk).order_by("position")


def _carry_out(
    model_admin: Any, request: HttpRequest, record: Any, given: dict[str, Any]
) -> HttpResponse:
    try:
        resolved = _decide(desk_of(record._state.db), record.pk, given)
    except NoKeys as error:
        model_admin.message_user(request, str(error), messages.ERROR)
    else:
        if resolved is ResolutionOutcome.DONE:
            words = str(_WORDS[given["decision"]] % given)
            _log(request, record, words)
            model_admin.message_user(request, words, messages.SUCCESS)
        else:
            model_admin.message_user(request, _LEFT, messages.WARNING)
    return HttpResponseRedirect(_way_back(model_admin, request, record))


def _way_back(model_admin: Any, request: HttpRequest, record: Any) -> str:
    site = model_admin.admin_site.name
    if model_admin.has_view_permission(request):
        return reverse(f"{site}:{CHANGED}", args=[record.pk])
    return reverse(f"{site}:index")


def _log(request: HttpRequest, record: Any, words: str) -> None:
    LogEntry.objects.create(
        user_id=cast(int, request.user.pk),
        content_type=ContentType.objects.get_for_model(IdempotencyRecord),
        object_id=str(record.pk),
        object_repr=str(record)[:200],
        action_flag=CHANGE,
        change_message=words,
    )


def _decide(desk: ManualResolution, pk: int, given: dict[str, Any]) -> ResolutionOutcome:
    retention: timedelta = configuration().policy.retention
    if given["decision"] == "rerun":
        return desk.rerun(pk)
    if given["decision"] == "refuse":
        return desk.refuse(pk, retention)
    response = answer_of(given["status"], given["body"].encode())
    return desk.answer(pk, response, retention)
