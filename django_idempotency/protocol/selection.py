"""Which parts of a request make it the same request."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which parts of a body make up its payload.

    :param by_bytes: compare bytes, whatever they mean
    :param fields: only these fields of a form, or of a JSON document, if given: names, or paths
        from the top (``card.number``), on which lists are looked through
    :param ignored: and none of these
    """

    by_bytes: bool = False
    fields: frozenset[str] | None = None
    ignored: frozenset[str] = frozenset()

    def wants(self, name: str) -> bool:
        """Whether a field of a form counts. Forms are flat: a name is taken as it is."""
        return (self.fields is None or name in self.fields) and name not in self.ignored

    @property
    def wants_all(self) -> bool:
        return self.fields is None and not self.ignored

    def part_of(self, document: Any) -> Any:
        """Return what counts of a JSON document, which stays as it is."""
        if self.fields is not None:
            document = _only(document, _paths(self.fields))
        return _without(document, _paths(self.ignored)) if self.ignored else document


EVERYTHING = Selection()


def _paths(names: Iterable[str]) -> list[Path]:
    return [tuple(name.split(".")) for name in names]


def _below(paths: list[Path], name: str) -> list[Path]:
    """Return the rests of the paths that begin with a name; an empty one ends at it."""
    return [path[1:] for path in paths if path[0] == name]


def _only(value: Any, paths: list[Path]) -> Any:
    if isinstance(value, list):
        return [_only(item, paths) for item in value]
    if not isinstance(value, dict):
        return value  # no path leads on, and what is no object counts
    kept = {}
    for name, content in value.items():
        rests = _below(paths, name)
        if rests:
            kept[name] = content if () in rests else _only(content, rests)
    return kept


def _without(value: Any, paths: list[Path]) -> Any:
    if isinstance(value, list):
        return [_without(item, paths) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, content in value.items():
        rests = _below(paths, name)
        if () not in rests:
            kept[name] = _without(content, rests) if rests else content
    return kept
