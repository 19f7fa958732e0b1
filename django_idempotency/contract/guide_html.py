"""The retry guide as a page of HTML: no scripts, nothing loaded from elsewhere."""

import re
from collections.abc import Iterable

from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from .guide import INTRODUCTION, Error, Guide, Outcome, Promise

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ border-bottom: 1px solid #8888; padding: .4rem .8rem .4rem 0; text-align: left;
  vertical-align: top }}
dt {{ font-weight: bold }}
tr:target {{ background: #fd04 }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{introduction}</p>
{promises}
<h2>Errors</h2>
<p>Errors about the key. A request that gets one has executed nothing itself. Each names its code,
and says in <code>retryable</code> whether sending the same request again can help.</p>
<table>
<tr><th scope="col">code<th scope="col">status<th scope="col">what happened\
<th scope="col">retry helps<th scope="col">what the client does</tr>
{errors}
</table>
</body>
</html>
"""


def guide_as_html(guide: Guide, title: str) -> SafeString:
    """Return the page; each code of an error is an anchor."""
    return format_html(
        PAGE,
        title=title,
        introduction=INTRODUCTION,
        promises=format_html_join("\n", "{}", ((_promise(each),) for each in guide.promises)),
        errors=_rows(guide.errors),
    )


def _promise(promise: Promise) -> SafeString:
    operations = format_html_join(", ", "<code>{}</code>", ((each,) for each in promise.operations))
    return format_html(
        '<section>\n<h2>{}</h2>\n<dl>\n{}\n</dl>\n<table>\n<tr><th scope="col">what the client '
        'sees<th scope="col">what it means<th scope="col">what it does</tr>\n{}\n</table>\n'
        "</section>",
        operations or "Every operation that takes keys",
        format_html_join("\n", "<dt>{}<dd>{}", ((n, _code(text)) for n, text in promise.terms)),
        _outcomes(promise.outcomes),
    )


def _outcomes(outcomes: Iterable[Outcome]) -> SafeString:
    rows = ((_code(each.seen), _code(each.meaning), _code(each.action)) for each in outcomes)
    return format_html_join("\n", "<tr><td>{}<td>{}<td>{}</tr>", rows)


def _rows(errors: Iterable[Error]) -> SafeString:
    return format_html_join(
        "\n",
        '<tr id="{}"><td><code>{}</code><td>{}<td>{}<td>{}<td>{}</tr>',
        (
            (
                each.code,
                each.code,
                ", ".join(map(str, each.statuses)),
                each.meaning,
                "yes" if each.retryable else "no",
                _code(each.action),
            )
            for each in errors
        ),
    )


def _code(text: str) -> SafeString:
    """Sql of the guide are Markdown, of which only code and emphasis are used."""
    marked = re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
    return mark_safe(re.sub(r"\*(\w+)\*", r"<em>\1</em>", marked))  # noqa: S308  (escaped above)
