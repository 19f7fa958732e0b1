"""Commands as an operator enters them."""

from io import StringIO
from typing import Any

from django.core.management import call_command


def command(*arguments: Any) -> str:
    """Resolve a record; return what is printed."""
    out = StringIO()
    call_command("resolve_idempotency_record", *map(str, arguments), stdout=out)
    return out.getvalue()
