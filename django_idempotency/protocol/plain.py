"""Plain data: what JSON can say, and says again."""

import json
from typing import Any


def plain_text(data: Any) -> str | None:
    """Return data as JSON; ``None`` if it would not come back equal."""
    try:
        text = json.dumps(data, allow_nan=False)
        return text if json.loads(text) == data else None
    except (TypeError, ValueError, RecursionError):
        return None
