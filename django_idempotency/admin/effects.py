"""Effects: those of a record, and those about which an operator may have to decide.

To be imported only if the app of effects is installed.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext, ngettext_lazy

from ..conf.settings import configuration
from ..effects import rows
from ..effects.models import EffectState, IdempotencyEffect
from ..finding.search import query_of
from ..models import IdempotencyRecord
from ..stores.database.transactions import write_transaction
from . import presentation, runbooks, times
from .actions import confirmation, log
from .read_only import ReadOnlyAdmin, column, field

LIMIT = 10_000
"""Effects that are counted, at most."""

_RUNBOOKS = {EffectState.PENDING: "effects-late", EffectState.FAILED: "effect-failed"}
SHOWN = 50
"""Effects on the page of a record."""

_APP = "idempotency_effects"


@dataclass(frozen=True, slots=True)
class Decision:
    """What an operator may decide about chosen effects.

    :ivar name: of the action
    :ivar consequence: what the confirmation page says
    :ivar logged: the log entry
    :ivar told: how many it was
    :ivar states: effects in other ones stay as they are
    :ivar carry_out: called with the alias of the database and keys; returns how many it was
    """

    name: str
    title: Any
    consequence: Any
    logged: Any
    told: Any
    states: frozenset[str]
    carry_out: Callable[[str, Collection[Any]], int]


RUN_AGAIN = Decision(
    "run_again",
    _("Run effects again"),
    _(
        "The effects become pending, as if they were new, and the command run_idempotent_work "
        "tries them under the same keys. Find out first what the failed tries have done: a "
        "receiver that does not look at the key gets the effect once more."
    ),
    _("Run again."),
    ngettext_lazy(
        "%(count)s effect is pending again.", "%(count)s effects are pending again.", "count"
    ),
    frozenset({EffectState.FAILED}),
    rows.run_again,
)
GIVE_UP = Decision(
    "give_up",
    _("Give effects up"),
    _(
        "The effects never run again, and the purge removes their rows after some days. One that "
        "runs at this moment is not stopped."
    ),
    _("Given up."),
    ngettext_lazy("%(count)s effect given up.", "%(count)s effects given up.", "count"),
    rows.UNDECIDED,
    rows.give_up,
)


@admin.action(permissions=["resolve"], description=RUN_AGAIN.title)
def run_again(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
    """Let chosen effects that have failed be tried again."""
    return _ask_or_decide(model_admin, request, RUN_AGAIN)


@admin.action(permissions=["resolve"], description=GIVE_UP.title)
def give_up(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
    """End chosen effects that have failed, or are pending."""
    return _ask_or_decide(model_admin, request, GIVE_UP)


def _ask_or_decide(model_admin: Any, request: HttpRequest, decision: Decision) -> Any:
    # Those on the page that were chosen: never "all that match".
    chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
    found = list(model_admin.get_queryset(request).filter(pk__in=chosen))
    if "confirmed" in request.POST:
        return _decide(model_admin, request, decision, found)
    choices = []
    for each in found:
        row = {
            "pk": each.pk,
            "seen": _seen(each),
            "name": each.name,
            "key": each.pk,
            "badge": presentation.effect_badge(each.state),
        }
        choices.append((each.state in decision.states, row))
    titles = (_("Effects about which you decide"), _("Effects that stay as they are"))
    return confirmation(model_admin, request, decision, titles, choices)


def _seen(effect: Any) -> str:
    """Return what tells whether an effect has changed since the operator saw it."""
    return f"{effect.pk}:{effect.state}:{effect.tries}"


def _decide(
    model_admin: Any, request: HttpRequest, decision: Decision, found: list[Any]
) -> HttpResponse:
    seen = set(request.POST.getlist("seen"))
    unchanged = [each for each in found if _seen(each) in seen and each.state in decision.states]
    count = sum(_decide_one(request, decision, each) for each in unchanged)
    if count:
        model_admin.message_user(request, decision.told % {"count": count}, messages.SUCCESS)
    changed = len(seen) - count
    if changed or not seen:
        text = ngettext(
            "%(count)s effect left alone: it has changed or is gone.",
            "%(count)s effects left alone: they have changed or are gone.",
            changed,
        )
        model_admin.message_user(request, text % {"count": changed}, messages.WARNING)
    return HttpResponseRedirect(request.get_full_path())


def _decide_one(request: HttpRequest, decision: Decision, effect: Any) -> int:
    """Carry a decision out and log it, in one transaction if they are in one database."""
    using = effect._state.db
    with write_transaction(using):
        count = decision.carry_out(using, [effect.pk])
        if count:
            log(request, CHANGE, str(decision.logged), effect)
    return count


def _uuid(text: object) -> UUID | None:
    with suppress(ValueError):
        return UUID(str(text))
    return None


class StateFilter(admin.SimpleListFilter):
    """Of all that is undecided, or that one state of it. What has ended is found by its key."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(EffectState.FAILED, _("failed")), (EffectState.PENDING, _("pending"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if request.GET.get(SEARCH_VAR):
            return queryset
        wanted = {"state": self.value()} if self.value() in dict(self.lookup_choices) else {}
        # The index on purge_at finds them.
        return queryset.filter(purge_at=None, state__in=rows.UNDECIDED).filter(**wanted)


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Pages of the first ``LIMIT`` effects."""

    @cached_property
    def count(self) -> int:
        effects = cast(QuerySet[Any], self.object_list)
        return effects.order_by()[:LIMIT].count()


@admin.register(IdempotencyEffect)
class IdempotencyEffectAdmin(ReadOnlyAdmin):
    """Shows effects that are pending or have failed, and lets operators decide about them.

    Nobody can add, edit or delete effects. Arguments are not shown: they may be secret.
    """

    actions = (run_again, give_up)
    list_display = ("effect", "state_now", "tried", "last_error", "due_in", "age", "of")
    list_filter = (StateFilter,)
    # Those that have failed first: they wait for a decision.
    ordering = (F("due_at").asc(nulls_first=True), "pk")
    paginator = BoundedPaginator
    fields = (
        *("whole_key", "name", "state_explained", "tries"),
        *("due", "staged", "finished", "error", "record"),
    )
    readonly_fields = fields
    search_fields = ("key",)
    search_help_text = _(
        "A whole key, or a line of the log that has it; also of an effect that has ended."
    )

    def has_resolve_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{_APP}.resolve_idempotencyeffect")

    # A decision commits before the request ends.
    @transaction.non_atomic_requests
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        extra = {"title": capfirst(self.opts.verbose_name_plural)}
        return super().changelist_view(request, extra | (extra_context or {}))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return effects of the database that guarded views use, without their arguments."""
        effects = super().get_queryset(request).defer("arguments")
        return effects.using(IdempotencyRecord.alias(configuration().policy.using))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if search_term:
            key = _uuid(query_of(search_term).effect or search_term.strip())
            queryset = queryset.filter(pk=key) if key else queryset.none()
        return queryset, False

    @admin.display(description=_("state"))
    def state_now(self, effect: Any) -> Any:
        return presentation.effect_badge(effect.state)

    @admin.display(description=_("state"))
    def state_explained(self, effect: Any) -> Any:
        return runbooks.explained(self.state_now(effect), _RUNBOOKS.get(effect.state))

    effect = field(_("effect"), lambda self, effect: presentation.breakable(effect.name))
    tried = column(_("tries"), lambda self, effect: effect.tries)
    last_error = column(_("last error"), lambda self, effect: presentation.breakable(effect.error))
    due_in = column(_("due"), lambda self, effect: effect.due_at and times.until(effect.due_at))
    age = column(_("age"), lambda self, effect: times.age(effect.staged_at))
    of = column(_("record"), lambda self, effect: self.link(effect))

    whole_key = field(_("key"), lambda self, effect: presentation.code(str(effect.key)))
    due = field(_("due"), lambda self, effect: times.full(effect.due_at))
    staged = field(_("staged"), lambda self, effect: times.full(effect.staged_at))
    finished = field(_("finished"), lambda self, effect: times.full(effect.finished_at))
    record = field(_("record"), lambda self, effect: self.link(effect))

    def link(self, effect: Any) -> SafeString | None:
        """Return a link to the record of the operation that has staged an effect."""
        if effect.record_id is None:
            return None
        change = f"{self.admin_site.name}:django_idempotency_idempotencyrecord_change"
        url = reverse(change, args=[effect.record_id])
        return format_html('<a href="{}">{}</a>', url, effect.record_id)


def effects_of(record: Any) -> list[IdempotencyEffect]:
    """Return the effects that an operation has staged, and one more than are shown."""
    return list(rows.of_record(record._state.db, record.pk)[: SHOWN + 1])


def table_of(effects: list[IdempotencyEffect], site: Any) -> SafeString:
    """Return effects of one record as a table."""
    change = f"{site.name}:{_APP}_idempotencyeffect_change"
    titles = (_("name"), _("state"), _("tries"), _("due"), _("last error"))
    shown = presentation.table(
        titles,
        (
            (
                format_html('<a href="{}">{}</a>', reverse(change, args=[each.pk]), each.name),
                presentation.effect_badge(each.state),
                each.tries,
                times.until(each.due_at) if each.due_at else "",
                each.error,
            )
            for each in effects[:SHOWN]
        ),
    )
    if len(effects) <= SHOWN:
        return shown
    return format_html("{}<p>{}</p>", shown, _("The rest is not shown."))
