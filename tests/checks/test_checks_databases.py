"""System checks of the records' database."""

import pytest
from django.db import connection, connections
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.support.checking import check, ids, only, silent


@pytest.fixture
def database():
    """Add a database to the project: ``elsewhere``, a variation of the tests' own."""

    def add(**changes: object) -> str:
        connections.settings["elsewhere"] = {**connections.settings["default"], **changes}
        return "elsewhere"

    yield add
    if "elsewhere" in connections.settings:
        connections["elsewhere"].close()
        del connections["elsewhere"], connections.settings["elsewhere"]


@pytest.fixture
def connected(django_db_setup, django_db_blocker):
    """Allow queries, to databases that the test adds, too."""
    with django_db_blocker.unblock():
        yield


@pytest.mark.django_db
def test_a_good_database_is_silent(settings):
    settings.IDEMPOTENCY = {"SECRET": "only for the tests"}
    assert check("default") == []
    assert check("default", deploy=True) == []


def test_checks_that_ask_the_database_wait_to_be_told_which():
    """No query without ``--database``; pytest-django would refuse it here."""
    assert not {"E007", "E008", "W003"} & set(ids(deploy=True))


class TestDatabaseSettings:
    def test_the_database_must_exist(self, settings, database):
        settings.IDEMPOTENCY = {"USING": "elsewhere"}
        assert '"elsewhere", which is not in DATABASES' in only("E005").msg
        assert "DATABASES has default" in only("E005").hint
        database()
        silent("E005")

    def test_the_database_of_the_router_must_exist(self, settings):
        settings.DATABASE_ROUTERS = [f"{__name__}.Router"]
        assert '"nowhere"' in only("E005").msg

    def test_other_vendors_are_not_supported(self, settings, database):
        settings.IDEMPOTENCY = {"USING": database(ENGINE="django.db.backends.dummy")}
        assert '"elsewhere" (unknown)' in only("E006").msg
        assert not {"E007", "E009", "W003", "W004"} & set(ids("elsewhere", deploy=True))
        settings.IDEMPOTENCY = {}
        silent("E006")

    def test_autocommit_must_be_on(self, settings, database):
        settings.IDEMPOTENCY = {"USING": database(AUTOCOMMIT=False)}
        assert 'Database "elsewhere" has AUTOCOMMIT off' in only("E009").msg
        assert 'DATABASES["elsewhere"]' in only("E009").hint
        connections["elsewhere"].settings_dict["AUTOCOMMIT"] = True
        silent("E009")

    def test_only_the_database_of_the_records_is_asked(self, settings, database):
        settings.IDEMPOTENCY = {"USING": database(ENGINE="django.db.backends.sqlite3")}
        assert ids("default") == ["W043"]


@pytest.mark.once
@pytest.mark.usefixtures("connected")
def test_tables_of_a_database_that_only_a_view_uses(settings, database, tmp_path):
    @idempotent(using="elsewhere")
    def view(request):
        """Answers nobody."""

    settings.ROOT_URLCONF = type("URLconf", (), {"urlpatterns": [path("buy/", view)]})
    database(ENGINE="django.db.backends.sqlite3", NAME=tmp_path / "x.sqlite3", HOST="", OPTIONS={})
    found = [each.msg for each in check("elsewhere") if each.id == "django_idempotency.W051"]
    assert len(found) == 1
    assert found[0].startswith('In database "elsewhere" there is no table ')
    assert found[0].count("there is no table") == 3


class Router:
    def db_for_write(self, model: type, **hints: object) -> str:
        return "nowhere"


class TestSqlite:
    @pytest.fixture
    def sqlite(self, settings, database, tmp_path):
        def use(name: object = tmp_path / "db.sqlite3", **options: object) -> None:
            settings.IDEMPOTENCY = {
                "USING": database(
                    ENGINE="django.db.backends.sqlite3", NAME=name, HOST="", OPTIONS=options
                )
            }

        return use

    @pytest.mark.usefixtures("connected")
    def test_it_needs_a_write_ahead_log(self, sqlite):
        sqlite()
        assert "journal mode delete" in only("W003", "elsewhere").msg
        connections["elsewhere"].close()
        del connections["elsewhere"]
        sqlite(init_command="PRAGMA journal_mode=WAL")
        silent("W003", "elsewhere")

    @pytest.mark.usefixtures("connected")
    def test_in_memory_there_is_no_log(self, sqlite):
        sqlite(":memory:")
        silent("W003", "elsewhere")

    def test_it_has_no_host_that_could_vanish(self, sqlite):
        sqlite()
        assert "W004" not in ids(deploy=True)


@pytest.mark.skipif("connection.vendor != 'mysql'", reason="about MySQL and MariaDB")
class TestMysql:
    @pytest.fixture
    def without_transactions(self, connected):
        self.change_engine("MyISAM")
        yield
        self.change_engine("InnoDB")

    @pytest.mark.usefixtures("without_transactions")
    def test_the_table_needs_transactions(self):
        assert "has the storage engine MyISAM" in only("E008", "default").msg
        self.change_engine("InnoDB")
        silent("E008", "default")

    @pytest.mark.usefixtures("without_transactions")
    def test_before_the_first_migration_there_is_no_table(self, settings, database):
        """There is one in another database of that server, which is not asked about."""
        settings.IDEMPOTENCY = {"USING": database(NAME="information_schema")}
        silent("E008", "elsewhere")

    @pytest.mark.django_db
    def test_old_servers_have_no_skip_locked(self, monkeypatch):
        """There is no such server here: its one difference is put in."""
        monkeypatch.setattr(connection.features, "has_select_for_update_skip_locked", False)
        assert "which has no SKIP LOCKED" in only("E007", "default").msg
        assert "MariaDB 10.6" in only("E007", "default").hint
        monkeypatch.undo()
        silent("E007", "default")

    @staticmethod
    def change_engine(name: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {IdempotencyRecord._meta.db_table} ENGINE={name}")


POSTGRESQL, MYSQL = "django.db.backends.postgresql", "django.db.backends.mysql"
KEEPALIVE = "-c tcp_keepalives_idle=60 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"


class TestVanishedHosts:
    """W004, by the settings: nothing is connected."""

    @pytest.fixture
    def remote(self, settings, database):
        def use(engine: str, host: str = "db.example.org", **options: object) -> None:
            settings.IDEMPOTENCY = {"USING": database(ENGINE=engine, HOST=host, OPTIONS=options)}

        return use

    @pytest.mark.parametrize(
        ("engine", "options"),
        [
            (POSTGRESQL, {}),
            (POSTGRESQL, {"options": "-c statement_timeout=5s", "keepalives_idle": 60}),
            (POSTGRESQL, {"tcp_user_timeout": 60000}),
            (MYSQL, {}),
            (MYSQL, {"init_command": "SET innodb_lock_wait_timeout=5"}),
        ],
    )
    def test_a_server_left_to_itself_waits_for_hours(self, remote, engine, options):
        pytest.importorskip("MySQLdb" if engine == MYSQL else "psycopg")
        remote(engine, **options)
        assert "only after two hours" in only("W004", deploy=True).msg
        assert "W004" not in ids()

    @pytest.mark.parametrize(
        ("engine", "options"),
        [
            (POSTGRESQL, {"options": KEEPALIVE}),
            (POSTGRESQL, {"options": "-c idle_in_transaction_session_timeout=300000"}),
            (MYSQL, {"init_command": "SET SESSION wait_timeout=300"}),
            (MYSQL, {"init_command": "SET SESSION idle_transaction_timeout=300"}),
        ],
    )
    def test_told_to_give_up_it_is_silent(self, remote, engine, options):
        pytest.importorskip("MySQLdb" if engine == MYSQL else "psycopg")
        remote(engine, **options)
        assert "W004" not in ids(deploy=True)

    @pytest.mark.parametrize("host", ["", "/run/postgresql", "localhost", "127.0.0.1", "::1"])
    def test_this_host_does_not_vanish_alone(self, remote, host):
        pytest.importorskip("psycopg")
        remote(POSTGRESQL, host)
        assert "W004" not in ids(deploy=True)

    def test_one_of_several_hosts_may(self, remote):
        pytest.importorskip("psycopg")
        remote(POSTGRESQL, "localhost, db.example.org")
        assert only("W004", deploy=True)
        del connections["elsewhere"]
        remote(POSTGRESQL, "localhost, /run/postgresql")
        silent("W004", deploy=True)


@pytest.mark.usefixtures("connected")
class TestVanishedHostsByTheServer:
    """W004 by what is in force. ``127.1`` is loopback in a spelling that passes for remote."""

    @pytest.fixture
    def session(self, settings, database):
        def use(**options: str) -> None:
            given = {**connection.settings_dict["OPTIONS"], **options}
            settings.IDEMPOTENCY = {"USING": database(HOST="127.1", OPTIONS=given)}

        return use

    @pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL")
    @pytest.mark.parametrize(
        ("options", "seconds"),
        [
            ("-c tcp_keepalives_idle=3600 -c tcp_keepalives_interval=10", 3690),
            ("-c tcp_keepalives_idle=900 -c tcp_user_timeout=30s", 930),
            ("-c tcp_keepalives_idle=3600 -c idle_in_transaction_session_timeout=20min", 1200),
        ],
    )
    def test_postgresql_is_asked(self, session, options, seconds):
        session(options=f"-c tcp_keepalives_count=9 {options}")
        assert f"only after {seconds} seconds" in only("W004", "elsewhere", deploy=True).msg

    @pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL")
    @pytest.mark.parametrize("options", [KEEPALIVE, "-c idle_in_transaction_session_timeout=5min"])
    def test_postgresql_says_that_it_is_well(self, session, options):
        session(options=options)
        assert "W004" not in ids("elsewhere", deploy=True)

    @pytest.mark.skipif("connection.vendor != 'mysql'", reason="about MySQL and MariaDB")
    def test_mysql_is_asked(self, session):
        session(init_command="SET SESSION wait_timeout=3600")
        assert "only after 3600 seconds" in only("W004", "elsewhere", deploy=True).msg

    @pytest.mark.skipif("connection.vendor != 'mysql'", reason="about MySQL and MariaDB")
    @pytest.mark.parametrize("name", ["wait_timeout", "idle_transaction_timeout"])
    def test_mysql_says_that_it_is_well(self, session, name):
        session(init_command=f"SET SESSION {name}=300")
        assert "W004" not in ids("elsewhere", deploy=True)


class TestTenants:
    """As django-tenants' settings describe them."""

    def test_one_table_for_users_of_many_schemas(self, settings):
        settings.TENANT_MODEL = "tenants.Shop"
        settings.TENANT_APPS = ["django.contrib.auth"]
        assert "one could get the other's response" in only("E015").msg
        settings.TENANT_APPS = ["django.contrib.auth", "django_idempotency"]
        silent("E015")

    @pytest.mark.parametrize("setting", ["TENANT", "SCOPE"])
    def test_a_scope_that_names_the_tenant(self, settings, setting):
        settings.TENANT_MODEL = "tenants.Shop"
        settings.TENANT_APPS = ["django.contrib.auth"]
        settings.IDEMPOTENCY = {setting: lambda request: request.tenant}
        silent("E015")

    def test_users_are_shared_too(self, settings):
        settings.TENANT_MODEL = "tenants.Shop"
        settings.TENANT_APPS = ["tests.shop"]
        silent("E015")


class TestKeptConnections:
    """I002: they may have been cut meanwhile."""

    @pytest.mark.parametrize("kept", [{"CONN_MAX_AGE": 60}, {"CONN_MAX_AGE": None}])
    def test_are_checked_before_they_are_used(self, settings, database, kept) -> None:
        settings.IDEMPOTENCY = {"USING": database(ENGINE=POSTGRESQL, OPTIONS={}, **kept)}
        assert "CONN_HEALTH_CHECKS" in only("I002", deploy=True).hint
        connections.settings["elsewhere"]["CONN_HEALTH_CHECKS"] = True
        silent("I002", deploy=True)

    def test_in_a_pool_too(self, settings, database) -> None:
        settings.IDEMPOTENCY = {"USING": database(ENGINE=POSTGRESQL, OPTIONS={"pool": True})}
        assert '"elsewhere"' in only("I002", deploy=True).msg

    def test_those_of_one_request_need_no_check(self, settings, database) -> None:
        settings.IDEMPOTENCY = {"USING": database(ENGINE=POSTGRESQL, OPTIONS={}, CONN_MAX_AGE=0)}
        silent("I002", deploy=True)


POSTGRESQL = "django.db.backends.postgresql"
