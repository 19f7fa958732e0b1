"""What this package asks of the drivers of MySQL and MariaDB beyond PEP 249.

That is mysqlclient, and PyMySQL where a project installs it in its place: both keep the flags that
the server sends with each answer. ``tests/compat/test_mysqlclient.py`` has a test per name.
"""

from typing import Any

_MULTI_STATEMENTS = 1 << 16
"""``CLIENT_MULTI_STATEMENTS`` of the protocol."""


def sends_several(session: Any) -> bool:
    """Whether one ``execute()`` may send several statements (``client_flag``).

    mysqlclient allows it, unless ``OPTIONS["multi_statements"]`` is false.
    """
    flags = getattr(session, "client_flag", 0)
    return bool(flags & _MULTI_STATEMENTS) and hasattr(session, "get_autocommit")


def is_in_autocommit(session: Any) -> bool:
    """Whether the server has said so with its last answer (``get_autocommit``). Nothing is sent.

    :return: false if the driver does not know; true if its session is closed
    """
    ask = getattr(session, "get_autocommit", None)
    if ask is None:
        return False
    try:
        return bool(ask())
    except session.Error:
        return True
