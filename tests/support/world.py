"""The world outside of the database, on which steps have effects."""

from typing import Any

from tests.shop.models import Order


class World:
    """Counts what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def do(self, what: str, result: Any = None) -> Any:
        self.done.append(what)
        return result

    def order(self, item: str) -> int:
        self.done.append(item)
        return int(Order.objects.create(item=item).pk)
