"""System checks of effects."""

from copy import copy
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections, transaction

from django_idempotency.effects import after_commit, declaring
from django_idempotency.effects.models import IdempotencyEffect
from django_idempotency.stores.database.dialects import StoreTime
from tests.support.checking import only, silent
from tests.support.effects import later, not_migrated

APP = "django_idempotency.effects"


@pytest.fixture(autouse=True)
def _only_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declaring, "_known", {later.name: later})


def test_their_app_must_be_installed(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    apps = settings.INSTALLED_APPS
    settings.INSTALLED_APPS = [each for each in apps if each != APP]
    assert "tests.support.effects.later" in only("E060").msg
    with monkeypatch.context() as patch:
        patch.setattr(declaring, "_known", {})
        silent("E060")
    settings.INSTALLED_APPS = apps
    silent("E060")


class KeepsAway:
    """As routers do that list app labels."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if app_label == "idempotency_effects" else None


def test_their_table_must_be_where_operations_are(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.KeepsAway"]
    assert 'away from database "default"' in only("E061").msg
    settings.DATABASE_ROUTERS = []
    silent("E061")


def test_their_databases_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = copy(later)
    elsewhere.using = "elsewhere"
    monkeypatch.setattr(declaring, "_known", {later.name: elsewhere})
    assert '"elsewhere", which is not in DATABASES' in only("E062").msg
    assert "DATABASES has default" in only("E062").hint
    elsewhere.using = "default"
    silent("E062")


@pytest.mark.django_db
def test_somebody_must_run_them() -> None:
    with transaction.atomic():
        after_commit(later)
    silent("W060", "default", deploy=True)
    IdempotencyEffect.objects.update(due_at=StoreTime(timedelta(hours=-2)))
    assert "1 effects have been due" in only("W060", "default", deploy=True).msg
    silent("W060", deploy=True)
    IdempotencyEffect.objects.update(due_at=None)
    silent("W060", "default", deploy=True)


@pytest.mark.django_db
def test_before_the_first_migration_there_is_no_table(monkeypatch: Any) -> None:
    not_migrated(monkeypatch)
    silent("W060", "default", deploy=True)


@pytest.mark.django_db(transaction=True)
def test_the_migration_makes_what_the_model_says() -> None:
    call_command("makemigrations", "idempotency_effects", "--check", "--dry-run", verbosity=0)
    with connections["default"].cursor() as cursor:
        assert IdempotencyEffect._meta.db_table in connections["default"].introspection.table_names(
            cursor
        )
