"""The page on which an operator resolves an interrupted operation of non-atomic mode."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from ..guard.manual_resolution import answer_of, is_json_text, resolve
from ..models import IdempotencyStep
from ..operations.resolution import ResolutionOutcome
from ..protocol.codecs import NoKeys
from ..protocol.keys import short_digest
from ..stores.database.step_log import StepLog
from . import times
from .actions import log, page

RESOLVE = "django_idempotency_idempotencyrecord_resolve"

_RESOLVED = {
    "rerun": _("Rerun: the next retry runs."),
    "answer": _("Answered with status %(status)s."),
    "refuse": _("Refused: retries never run."),
}


class ResolveForm(forms.Form):
    """A decision, and the confirmation that it is an informed one."""

    decision = forms.ChoiceField(
        label=_("Decision"),
        widget=forms.RadioSelect,
        choices=[
            ("rerun", _("Rerun: the next retry runs, from the first step that is not done")),
            ("answer", _("Answer: the operation is done, and retries get the response below")),
            ("refuse", _("Refuse: the operation never runs again, and retries get an error")),
        ],
    )
    status = forms.IntegerField(label=_("Status"), min_value=200, max_value=499, required=False)
    body = forms.CharField(label=_("Body (JSON)"), widget=forms.Textarea, required=False)
    confirmed = forms.BooleanField(label=_("I know what the interrupted attempt has done."))

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("decision") == "answer":
            if not given.get("status"):
                self.add_error("status", _("An answer needs a status."))
            if not is_json_text(given.get("body", "")):
                self.add_error("body", _("This is not valid JSON. Leave it empty for no body."))
        return given


def resolve_view(model_admin: Any, request: HttpRequest, pk: int) -> HttpResponse:
    """Show the facts of an operation, and carry out a decision."""
    if not model_admin.has_resolve_permission(request):
        raise PermissionDenied
    record = model_admin.get_queryset(request).filter(pk=pk).first()
    if record is None or pk not in StepLog(record._state.db).unresolved([pk]):
        raise Http404
    site, may_view = model_admin.admin_site.name, model_admin.has_view_permission(request)
    back = reverse(f"{site}:index")
    if may_view:
        back = reverse(f"{site}:django_idempotency_idempotencyrecord_change", args=[pk])
    form = ResolveForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        _resolve(model_admin, request, record, form.cleaned_data)
        return HttpResponseRedirect(back)
    # Position 0 is the attempt, whose end is not known.
    facts = [
        (step, times.full(step.finished_at if step.position else step.started_at))
        for step in steps_of(record)
    ]
    context = {
        "title": _("Resolve an interrupted operation"),
        "record": record,
        # The key is the caller's: with the caller's credentials, it replays the response.
        "key": record.key if may_view else short_digest(record.key),
        "may_view": may_view,
        "back": back,
        "form": form,
        "steps": facts,
    }
    return page(model_admin, request, "resolve", context)


def steps_of(record: Any) -> QuerySet[IdempotencyStep]:
    """Return the step log of an operation: its start, then its steps in order."""
    rows = IdempotencyStep.rows(record._state.db)
    return rows.filter(record_id=record.pk).order_by("position")


def _resolve(model_admin: Any, request: HttpRequest, record: Any, given: dict[str, Any]) -> None:
    decision, answer = given["decision"], None
    if decision == "answer":
        answer = answer_of(given["status"], given["body"].encode())
    try:
        outcome = resolve(record._state.db, record.pk, decision, answer)
    except NoKeys as error:
        model_admin.message_user(request, str(error), messages.ERROR)
        return
    if outcome is ResolutionOutcome.DONE:
        words = str(_RESOLVED[decision] % given)
        log(request, CHANGE, words, record)
        model_admin.message_user(request, words, messages.SUCCESS)
    else:
        text = _("Nothing was changed: the operation is in flight, or already resolved.")
        model_admin.message_user(request, text, messages.WARNING)
