"""Problems as a client reads them."""

import json
from typing import Any


def code_of(response: Any) -> str:
    return str(json.loads(response.content)["code"])
