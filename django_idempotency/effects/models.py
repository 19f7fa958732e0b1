"""The table of effects: one row per effect that was staged."""

from enum import StrEnum

from django.db import models, router
from django.utils.translation import gettext_lazy as _

from ..fields import ExactCharField
from .declaring import MAX_NAME_LENGTH


class EffectState(StrEnum):
    """What has become of an effect."""

    PENDING = "pending"
    """It is to run, or is running."""
    DONE = "done"
    """It has run without an exception."""
    FAILED = "failed"
    """It is not tried again unless an operator says so: it has failed too often, is too old, or
    its row was changed."""
    GIVEN_UP = "given_up"
    """An operator has decided that it is not to run."""


class IdempotencyEffect(models.Model):
    """An effect that was committed with the operation that has staged it.

    Times are the database's. ``due_at`` is null unless the effect is pending: while one runs, it is
    when others may take it for interrupted. ``purge_at`` is null unless the row may be purged.
    ``tries`` is the fencing token: who has taken an effect marks it only while that number stands.
    """

    key = models.UUIDField(_("key"), primary_key=True, editable=False)
    record_id = models.BigIntegerField(_("record"), null=True)
    name = ExactCharField(_("name"), max_length=MAX_NAME_LENGTH)
    arguments = models.TextField(_("arguments"))
    state = ExactCharField(
        _("state"),
        max_length=16,
        default=str(EffectState.PENDING),
        choices=[(str(each), each.replace("_", " ").capitalize()) for each in EffectState],
    )
    tries = models.PositiveIntegerField(_("tries"), default=0)
    # Those before an operator had it run again.
    earlier_tries = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(_("due"), null=True)
    staged_at = models.DateTimeField(_("staged"))
    finished_at = models.DateTimeField(_("finished"), null=True)
    purge_at = models.DateTimeField(_("purged from"), null=True)
    # The name of its type: what it says may be secret, and goes to the log.
    error = models.CharField(_("last error"), max_length=200, default="")

    class Meta:
        verbose_name = _("idempotency effect")
        verbose_name_plural = _("idempotency effects")
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["due_at"], name="idempotency_effect_due"),
            models.Index(fields=["record_id"], name="idempotency_effect_record"),
            models.Index(fields=["purge_at"], name="idempotency_effect_purge"),
        ]
        permissions = [
            ("resolve_idempotencyeffect", _("Can run effects again, and give them up")),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.state})"

    @classmethod
    def alias(cls, using: str | None = None) -> str:
        """Return the alias of the database for effects of code without an operation.

        :param using: of the effect; by default the router decides
        """
        return using or router.db_for_write(cls)

    @classmethod
    def rows(cls, using: str) -> "models.QuerySet[IdempotencyEffect]":
        """Return all effects of one database."""
        return cls._base_manager.using(using)
