"""A search that finds "409", and shows pages for users first.

Sphinx leaves numbers out twice: its index drops words of digits alone
(``SearchLanguage.word_filter``), and the page drops them from what is looked for
(``Search._parseQuery`` in ``searchtools.js``). People look for statuses. So the index keeps
numbers, and ``search.js`` puts them back into the query.
"""

from typing import Any

from sphinx.search.en import SearchEnglish


class English(SearchEnglish):
    def word_filter(self, word: str) -> bool:
        return word.isdigit() or super().word_filter(word)


def add_script(app: Any, name: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if name == "search":
        # Deferred: it runs after the scripts of the search, and before the search begins.
        app.add_js_file("search.js", loading_method="defer")


def setup(app: Any) -> dict[str, bool]:
    app.add_search_language(English)
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
