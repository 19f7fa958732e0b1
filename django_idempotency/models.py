"""The record: one row per scope and key."""

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import models, router
from django.utils.translation import gettext_lazy as _

from .fields import ExactCharField, OpenIndex
from .protocol.keys import MAX_KEY_LENGTH
from .protocol.record import MAX_STEP_NAME_LENGTH, RESPONSE_VERSION, Omitted, State

__all__ = ["IdempotencyRecord"]

if not apps.is_installed("django_idempotency"):
    raise ImproperlyConfigured(
        "IdempotencyMiddleware or @idempotent is used, but the app is not installed: add "
        '"django_idempotency" to INSTALLED_APPS, and run manage.py migrate.'
    )


class IdempotencyRecord(models.Model):
    """One operation: who sent which key, and the response.

    Only the stores write these rows. A claimed record is in flight while its row is locked, and
    interrupted when it is not.
    """

    # PostgreSQL logs what an update of a row changes from the first changed byte to the last. So
    # what completing a record leaves alone comes first, and no index covers what it changes: then
    # the update is a HOT one, and writes no index (decision 0084).
    id = models.BigAutoField(primary_key=True)
    created_at = models.DateTimeField(_("created"))
    # Never later than expires_at, which decides. The purge looks at a record from then on.
    purge_at = models.DateTimeField(_("looked at by the purge"))
    attempt = models.PositiveIntegerField(_("attempt"), default=1)
    response_version = models.PositiveSmallIntegerField(
        _("response version"), default=RESPONSE_VERSION
    )
    # Claimed in non-atomic mode, and no response is stored.
    outcome_open = models.BooleanField(_("outcome open"), default=False)
    scope = ExactCharField(_("scope"), max_length=64)
    key = ExactCharField(_("key"), max_length=MAX_KEY_LENGTH)
    fingerprint = ExactCharField(_("fingerprint"), max_length=80)
    method = ExactCharField(_("method"), max_length=16)
    path = ExactCharField(_("path"), max_length=255)
    # Of the request that has claimed the record. Empty, it takes a byte.
    request_id = ExactCharField(_("request id"), max_length=64, default="", db_default="")
    expires_at = models.DateTimeField(_("expires"))
    completed_at = models.DateTimeField(_("completed"), null=True)
    response_status = models.PositiveSmallIntegerField(_("status"), null=True)
    state = ExactCharField(
        _("state"),
        max_length=16,
        choices=[(str(state), state.capitalize()) for state in State],
    )
    response_headers = models.TextField(_("response headers"), default="")
    response_body = models.BinaryField(_("response body"), null=True)
    response_omitted = ExactCharField(
        _("response omitted"),
        max_length=16,
        default="",
        choices=[(str(reason), reason.replace("_", " ")) for reason in Omitted],
    )
    response_codec = ExactCharField(_("response codec"), max_length=32, default="", db_default="")

    class Meta:
        verbose_name = _("idempotency record")
        verbose_name_plural = _("idempotency records")
        constraints = [
            # The key comes first, so that the same index serves a search by key.
            models.UniqueConstraint(fields=["key", "scope"], name="idempotency_key_scope"),
        ]
        indexes = [
            models.Index(fields=["purge_at"], name="idempotency_purge"),
            OpenIndex(fields=["id"], name="idempotency_open"),
        ]
        permissions = [
            ("view_response", _("Can view stored responses")),
            ("discard_idempotencyrecord", _("Can discard interrupted records")),
            ("evict_idempotencyrecord", _("Can evict records")),
            ("purge_idempotencyrecord", _("Can purge expired records")),
            ("resolve_idempotencyrecord", _("Can resolve interrupted operations")),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path} ({self.state})"

    @classmethod
    def alias(cls, using: str | None = None) -> str:
        """Return the alias of the database that holds the records.

        :param using: of a policy; by default the router decides, for writes: a replica may lag
        """
        return using or router.db_for_write(cls)

    @classmethod
    def rows(cls, using: str) -> "models.QuerySet[IdempotencyRecord]":
        """Return all records of one database, also if a project has added other managers."""
        return cls._base_manager.using(using)


class IdempotencyStep(models.Model):
    """The step log: one row per attempt of non-atomic mode, and one per step that is done.

    Position 0 has the attempt that runs, and is finished when that attempt has ended and said so.
    Steps follow from position 1. There is no foreign key: to check it, the database would wait for
    the lock of the record.
    """

    id = models.BigAutoField(primary_key=True)
    record_id = models.BigIntegerField(_("record"))
    position = models.PositiveIntegerField(_("position"))
    attempt = models.PositiveIntegerField(_("attempt"))
    name = ExactCharField(_("name"), max_length=MAX_STEP_NAME_LENGTH, default="")
    result = models.TextField(_("result"), default="")
    started_at = models.DateTimeField(_("started"))
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        verbose_name = _("idempotent step")
        verbose_name_plural = _("idempotent steps")
        constraints = [
            models.UniqueConstraint(
                fields=["record_id", "position"], name="idempotency_step_position"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.position} {self.name}".strip()

    @classmethod
    def rows(cls, using: str) -> "models.QuerySet[IdempotencyStep]":
        """Return all steps of one database."""
        return cls._base_manager.using(using)
