"""The retry guide as Markdown."""

from collections.abc import Iterator

from .guide import INTRODUCTION, Error, Guide, Promise
from .tables import Row, markdown_table


def guide_as_markdown(guide: Guide) -> str:
    parts = ["# Retry guide", INTRODUCTION]
    for promise in guide.promises:
        parts += _promise(promise)
    head = ("code", "status", "what happened", "retry helps", "what the client does")
    rows = [head, *(_error(each) for each in guide.errors)]
    return "\n\n".join([*parts, "## Errors", markdown_table(rows)])


def _promise(promise: Promise) -> Iterator[str]:
    operations = (f"`{operation}`" for operation in promise.operations)
    yield "## " + (", ".join(operations) or "Every operation that takes keys")
    yield "\n".join(f"- **{name}:** {text}" for name, text in promise.terms)
    rows = [(each.seen, each.meaning, each.action) for each in promise.outcomes]
    head = ("what the client sees", "what it means", "what it does")
    yield markdown_table([head, *rows])


def _error(error: Error) -> Row:
    statuses = ", ".join(map(str, error.statuses))
    helps = "yes" if error.retryable else "no"
    return f"`{error.code}`", statuses, error.meaning, helps, error.action
