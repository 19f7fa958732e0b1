"""Check that the database notices when a host vanishes.

A process that dies closes its connection, which frees its lock at once. A host that loses power
or its network closes nothing: its lock stays until the *server* gives the connection up.

On PostgreSQL the server's keepalive probes find out, which start after two hours on most systems
(PostgreSQL documentation, "Connections and Authentication", ``tcp_keepalives_idle``; a client can
set it for its session). libpq's own ``keepalives_idle`` and ``tcp_user_timeout`` find a vanished
server, which is no help here.

MySQL has no keepalive variable for a session. ``wait_timeout`` ends idle connections, also within
a transaction; MariaDB's ``idle_transaction_timeout`` ends only the latter. Its
``idle_write_transaction_timeout`` does not count: holding a row lock is not yet a write.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register

from .configuration import TAG
from .databases import connection_of_records

_LONGEST = 600
"""Seconds that a lock may outlive its host before we warn."""

_HERE = re.compile(r"|[/@].*|localhost|127\.0\.0\.1|::1", re.DOTALL)
"""Hosts that cannot vanish alone: this one."""

Values = Mapping[str, int]


@dataclass(frozen=True)
class _Server:
    """How a kind of server is told to give up silent connections."""

    option: str
    """Key of ``OPTIONS``."""
    enough: re.Pattern[str]
    """What is to be found there."""
    example: str
    question: str
    """Statement that returns names of variables and the values in force."""
    limits: Callable[[Values], tuple[int, ...]]
    """Seconds after which silence ends a connection, from those values; 0 for never."""


def _postgresql_limits(values: Values) -> tuple[int, ...]:
    idle = values["tcp_keepalives_idle"]
    unanswered = values["tcp_keepalives_interval"] * values["tcp_keepalives_count"]
    probing = values["tcp_user_timeout"] // 1000 or unanswered
    return idle and idle + probing, values["idle_in_transaction_session_timeout"] // 1000


def _mysql_limits(values: Values) -> tuple[int, ...]:
    idle = values.get("tcp_keepalive_time", 0)
    # Linux sends 9 probes, one in 75 seconds, unless told otherwise.
    probing = (values.get("tcp_keepalive_interval") or 75) * (
        values.get("tcp_keepalive_probes") or 9
    )
    return (
        idle and idle + probing,
        values["wait_timeout"],
        values.get("idle_transaction_timeout", 0),
    )


_SERVERS = {
    "postgresql": _Server(
        option="options",
        enough=re.compile(r"\b(tcp_keepalives_idle|idle_in_transaction_session_timeout)\b"),
        example="-c tcp_keepalives_idle=60 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
        question="SELECT name, setting FROM pg_settings WHERE name IN ('tcp_keepalives_idle', "
        "'tcp_keepalives_interval', 'tcp_keepalives_count', 'tcp_user_timeout', "
        "'idle_in_transaction_session_timeout')",
        limits=_postgresql_limits,
    ),
    "mysql": _Server(
        option="init_command",
        enough=re.compile(r"\b(wait_timeout|idle_transaction_timeout)\b"),
        example="SET SESSION wait_timeout=300",
        question="SHOW SESSION VARIABLES WHERE variable_name IN ('tcp_keepalive_time', "
        "'tcp_keepalive_interval', 'tcp_keepalive_probes', 'wait_timeout', "
        "'idle_transaction_timeout')",
        limits=_mysql_limits,
    ),
}


@register(TAG, Tags.database, deploy=True)
def check_keepalive(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """W004: by the settings, or with ``--database`` by what is in force on the server."""
    connection = connection_of_records()
    server = None if connection is None else _SERVERS.get(connection.vendor)
    if server is None or not _is_remote(connection.settings_dict):
        return []
    if connection.alias in (databases or ()):
        seconds = _silence(connection, server)
        return [_slow(connection, server, seconds)] if seconds > _LONGEST else []
    given = str(connection.settings_dict["OPTIONS"].get(server.option, ""))
    return [] if server.enough.search(given) else [_slow(connection, server)]


def _is_remote(settings: Mapping[str, Any]) -> bool:
    # libpq takes a list of hosts, separated by commas.
    return not all(_HERE.fullmatch(host.strip()) for host in settings["HOST"].split(","))


def _silence(connection: Any, server: _Server) -> int:
    """Seconds until the server gives up a silent connection; 0 if it does not say."""
    with connection.cursor() as cursor:
        cursor.execute(server.question)
        values = {name: int(value) for name, value in cursor.fetchall()}
    return min((limit for limit in server.limits(values) if limit), default=0)


def _slow(connection: Any, server: _Server, seconds: int | None = None) -> CheckMessage:
    alias, option = connection.alias, server.option
    after = "two hours, on most systems" if seconds is None else f"{seconds} seconds"
    return Warning(
        f'When a host vanishes (power, network), database "{alias}" frees the lock of its attempt '
        f"only after {after}; retries get 409 until then.",
        hint=f'Let DATABASES["{alias}"]["OPTIONS"]["{option}"] hold "{server.example}", or set '
        f"this on the server; then check --deploy --database {alias} sees it.",
        id="django_idempotency.W004",
    )
