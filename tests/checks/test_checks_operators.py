"""System checks of encryption, browsers, exact columns, the purge, and several databases."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from corsheaders.signals import check_request_enabled
from cryptography.fernet import Fernet
from django.db import connection, connections
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.support.checking import ids, only, silent

CORS = "corsheaders.middleware.CorsMiddleware"
OURS = "django_idempotency.middleware.IdempotencyMiddleware"
KEY = Fernet.generate_key().decode()


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@idempotent(codec="fernet")
def encrypting(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@idempotent(header="X-Request-Key", replay_header="X-Again", status_header="X-Status")
def other_headers(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@idempotent(atomic=False)
def non_atomic(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class URLconf:
    def __init__(self, *views: Any) -> None:
        self.urlpatterns = [path(f"api/{view.__name__}/", view) for view in views]


class TestEncryption:
    def test_the_setting_needs_keys(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {"CODEC": "zlib+fernet"}
        assert 'IDEMPOTENCY["CODEC"] is "zlib+fernet"' in only("E040").msg
        settings.IDEMPOTENCY = {"CODEC": "zlib+fernet", "ENCRYPTION_KEYS": [KEY]}
        silent("E040")
        settings.IDEMPOTENCY = {"CODEC": "zlib"}
        silent("E040")

    def test_so_does_a_view(self, settings: Any) -> None:
        settings.ROOT_URLCONF = URLconf(plain, encrypting)
        assert f'codec of {__name__}.encrypting is "fernet"' in only("E040").msg
        settings.ROOT_URLCONF = URLconf(plain)
        silent("E040")

    def test_both_need_the_package(self, settings: Any, monkeypatch: Any) -> None:
        settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": [KEY]}
        with monkeypatch.context() as without:
            found = importlib.util.find_spec
            without.setattr(
                "django_idempotency.checks.configuration.find_spec",
                lambda name: None if name == "cryptography" else found(name),
            )
            assert "django-idempotency[crypto]" in only("E041").hint
            settings.IDEMPOTENCY = {}
            silent("E041")
        settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": [KEY]}
        silent("E041")

    @pytest.mark.parametrize("keys", ["secret", ["secret"], [KEY, KEY[:-1]], [KEY.encode()], 5])
    def test_a_malformed_key_is_an_error_that_does_not_show_it(
        self, settings: Any, keys: Any
    ) -> None:
        settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": keys}
        assert "Fernet key" in only("E001").msg
        assert KEY[:-1] not in only("E001").msg
        assert "secret" not in only("E001").msg
        settings.IDEMPOTENCY = {"ENCRYPTION_KEYS": [KEY]}
        silent("E001")

    @pytest.mark.parametrize(
        "entry",
        [{"CODEC": "pickle"}, {"REDACTED_FIELDS": ["a..b"]}, {"STORE_BODY": 1}, {"CODEC": None}],
    )
    def test_other_bad_values(self, settings: Any, entry: dict[str, Any]) -> None:
        settings.IDEMPOTENCY = entry
        assert only("E001")


class TestCors:
    @pytest.fixture(autouse=True)
    def project(self, settings: Any) -> None:
        settings.MIDDLEWARE = [CORS, *settings.MIDDLEWARE, OURS]
        settings.ROOT_URLCONF = URLconf(plain)
        settings.CORS_ALLOWED_ORIGINS = ["https://shop.example"]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("CORS_ALLOWED_ORIGINS", ["https://shop.example"]),
            ("CORS_ALLOWED_ORIGIN_REGEXES", [r"^https://\w+\.shop\.example$"]),
            ("CORS_ALLOW_ALL_ORIGINS", True),
            ("CORS_ORIGIN_ALLOW_ALL", True),
        ],
    )
    def test_it_matters_only_where_some_origin_is_admitted(
        self, name: str, value: object, settings: Any
    ) -> None:
        """corsheaders is installed, and admits nobody: as NetBox and Nautobot come."""
        settings.CORS_ALLOWED_ORIGINS = []
        silent("W040")
        silent("W041")
        setattr(settings, name, value)
        assert only("W040")
        assert only("W041")

    def test_a_receiver_may_admit_an_origin(self, settings: Any) -> None:
        def admit(sender: object, request: HttpRequest, **kwargs: object) -> bool:
            return True

        settings.CORS_ALLOWED_ORIGINS = []
        check_request_enabled.connect(admit)
        assert only("W040")
        check_request_enabled.disconnect(admit)
        silent("W040")

    def test_browsers_must_be_allowed_to_send_keys(self, settings: Any) -> None:
        assert "CORS_ALLOW_HEADERS lacks Idempotency-Key" in only("W040").msg
        assert '"idempotency-key"' in only("W040").hint
        settings.CORS_ALLOW_HEADERS = ["accept", "Idempotency-Key"]
        silent("W040")

    def test_a_header_is_not_needed_where_a_function_finds_keys(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {"KEY_FROM": lambda request: None}
        silent("W040")
        assert only("W041")
        settings.IDEMPOTENCY = {"KEY_FROM": lambda request: None, "HEADER": None}
        silent("W040")

    def test_scripts_must_see_the_markers(self, settings: Any) -> None:
        assert "lacks Idempotency-Replayed, Retry-After" in only("W041").msg
        settings.CORS_EXPOSE_HEADERS = ["idempotency-replayed"]
        assert "lacks Retry-After" in only("W041").msg
        settings.CORS_EXPOSE_HEADERS = ["idempotency-replayed", "retry-after"]
        silent("W041")

    def test_each_view_has_its_own_headers(self, settings: Any) -> None:
        settings.ROOT_URLCONF = URLconf(plain, other_headers)
        assert "lacks Idempotency-Key, X-Request-Key" in only("W040").msg
        assert "lacks Idempotency-Replayed, Retry-After, X-Again, X-Status" in only("W041").msg
        settings.CORS_ALLOW_HEADERS = settings.CORS_EXPOSE_HEADERS = ["*"]
        silent("W040")
        silent("W041")

    def test_only_what_cors_serves_counts(self, settings: Any) -> None:
        assert only("W040")
        settings.CORS_URLS_REGEX = r"^/public/"
        silent("W040")
        silent("W041")

    def test_without_guarded_endpoints_there_is_nothing_to_allow(self, settings: Any) -> None:
        settings.MIDDLEWARE = settings.MIDDLEWARE[:-1]
        silent("W040")
        settings.ROOT_URLCONF = None
        silent("W041")

    def test_a_package_that_is_not_there_is_left_to_django(
        self, settings: Any, monkeypatch: Any
    ) -> None:
        monkeypatch.setitem(sys.modules, "corsheaders.conf", None)
        silent("W040")


@pytest.mark.django_db(transaction=True)
class TestColumns:
    @pytest.fixture
    def alter(self) -> Iterator[Callable[[str], None]]:
        table = IdempotencyRecord._meta.db_table
        vendor = connection.vendor
        if vendor == "sqlite":
            pytest.skip("SQLite compares bytes")

        def change(kind: str) -> None:
            column = "`key`" if vendor == "mysql" else '"key"'
            verb = "MODIFY" if vendor == "mysql" else "ALTER COLUMN"
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE {table} {verb} {column} {kind}")

        yield change
        good = "varbinary(255) NOT NULL"
        change(good if vendor == "mysql" else 'TYPE varchar(255) COLLATE "C"')

    def test_keys_must_compare_exactly(self, alter: Callable[[str], None]) -> None:
        """It makes different keys equal."""
        mysql = connection.vendor == "mysql"
        silent("E042", "default")
        alter("varchar(191) CHARACTER SET utf8mb4 NOT NULL" if mysql else "TYPE char(255)")
        message = only("E042", "default")
        assert f"key ({'varchar' if mysql else 'character'})" in message.msg
        alter("varbinary(255) NOT NULL" if mysql else 'TYPE varchar(255) COLLATE "C"')
        silent("E042", "default")

    def test_a_collation_that_folds_case(self, alter: Callable[[str], None]) -> None:
        if connection.vendor != "postgresql":
            pytest.skip("about PostgreSQL's nondeterministic collations")
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE COLLATION folds (provider = icu, locale = 'und-u-ks-level2', "
                "deterministic = false)"
            )
        try:
            alter("TYPE varchar(255) COLLATE folds")
            assert "key (character varying)" in only("E042", "default").msg
        finally:
            alter('TYPE varchar(255) COLLATE "C"')
            with connection.cursor() as cursor:
                cursor.execute("DROP COLLATION folds")
        silent("E042", "default")

    def test_only_the_database_that_is_named_is_asked(self, alter: Callable[[str], None]) -> None:
        alter("varchar(191) NOT NULL" if connection.vendor == "mysql" else "TYPE char(255)")
        silent("E042")
        assert only("E042", "default")


@pytest.mark.django_db(transaction=True)
class TestPurge:
    @pytest.fixture
    def expired(self, caller: Any, settings: Any) -> Callable[[timedelta], None]:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, OURS]
        caller.post("/function/")

        def since(age: timedelta) -> None:
            created = F("created_at")
            IdempotencyRecord.objects.update(expires_at=created - age, purge_at=created - age)

        return since

    def test_somebody_must_purge(self, expired: Callable[[timedelta], None]) -> None:
        expired(timedelta(days=8))
        assert "expired more than 7 days ago" in only("W042", "default", deploy=True).msg
        silent("W042", "default")
        silent("W042", deploy=True)
        expired(timedelta(days=6))
        silent("W042", "default", deploy=True)

    def test_tombstones_may_be_kept(
        self, expired: Callable[[timedelta], None], settings: Any
    ) -> None:
        expired(timedelta(days=10))
        assert only("W042", "default", deploy=True)
        settings.IDEMPOTENCY = {"TOMBSTONE": timedelta(days=5)}
        silent("W042", "default", deploy=True)

    def test_before_the_first_migration_there_is_no_table(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(IdempotencyRecord._meta, "db_table", "not_migrated_yet")
        silent("W042", "default", deploy=True)
        silent("E042", "default")


class ShopRouter:
    """Records here, everything else there."""

    def db_for_write(self, model: type, **hints: object) -> str:
        return "default" if model is IdempotencyRecord else "elsewhere"


class TestSeveralDatabases:
    @pytest.fixture(autouse=True)
    def elsewhere(self, settings: Any) -> Iterator[dict[str, Any]]:
        settings.ROOT_URLCONF = URLconf(idempotent(plain))
        connections.settings["elsewhere"] = {**connections.settings["default"]}
        yield connections.settings["elsewhere"]
        del connections["elsewhere"], connections.settings["elsewhere"]

    def test_records_belong_where_views_write(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {"USING": "elsewhere"}
        assert '"elsewhere", to which no model is written' in only("W043").msg
        settings.IDEMPOTENCY = {"USING": "default"}
        silent("W043")
        settings.DATABASE_ROUTERS = [f"{__name__}.ShopRouter"]
        assert "models go to elsewhere" in only("W043").msg
        settings.IDEMPOTENCY = {"USING": "elsewhere"}
        silent("W043")

    def test_requests_that_are_atomic_elsewhere(self, elsewhere: dict[str, Any]) -> None:
        elsewhere["ATOMIC_REQUESTS"] = True
        assert 'Database "elsewhere" has ATOMIC_REQUESTS' in only("W044").msg
        assert 'using="elsewhere"' in only("W044").hint
        del connections["elsewhere"]
        elsewhere["ATOMIC_REQUESTS"] = False
        silent("W044")

    def test_non_atomic_views_promise_no_common_commit(
        self, settings: Any, elsewhere: dict[str, Any]
    ) -> None:
        elsewhere["ATOMIC_REQUESTS"] = True
        settings.IDEMPOTENCY = {"USING": "elsewhere"}
        assert only("W043")
        settings.ROOT_URLCONF = URLconf(non_atomic)
        assert not {"W043", "W044"} & set(ids())
        settings.ROOT_URLCONF = URLconf(idempotent(store="cache")(plain))
        assert not {"W043", "W044"} & set(ids())
