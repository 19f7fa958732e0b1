"""Database settings from a URL."""

from typing import Any
from urllib.parse import unquote, urlsplit

ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgresql": "django.db.backends.postgresql",
    "mariadb": "django.db.backends.mysql",
    "mysql": "django.db.backends.mysql",
}
OPTIONS: dict[str, dict[str, Any]] = {
    # Readers do not block in WAL mode; writers wait their turn.
    "sqlite": {"timeout": 20, "init_command": "PRAGMA journal_mode=WAL"},
    # A host that vanishes closes no connection: have the server notice, so its locks end.
    "postgresql": {
        "options": "-c tcp_keepalives_idle=60 -c tcp_keepalives_interval=10 "
        "-c tcp_keepalives_count=3"
    },
    "mariadb": {"charset": "utf8mb4"},
    "mysql": {"charset": "utf8mb4"},
}


def from_url(url: str) -> dict[str, Any]:
    """Return Django's settings for a database.

    :param url: ``scheme://user:password@host:port/name``, or ``sqlite:///path/of/the/file``
    :raises ValueError: for another scheme
    """
    parts = urlsplit(url)
    if parts.scheme not in ENGINES:
        known = ", ".join(ENGINES)
        raise ValueError(f"EXAMPLE_DATABASE must be a URL that starts with one of {known}: {url}")
    common = {"ENGINE": ENGINES[parts.scheme], "OPTIONS": OPTIONS[parts.scheme]}
    if parts.scheme == "sqlite":
        return {**common, "NAME": unquote(parts.path)}
    return {
        **common,
        "NAME": unquote(parts.path.lstrip("/")),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
    }
