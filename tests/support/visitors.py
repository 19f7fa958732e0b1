"""What a visitor does with pages: opens them, fills forms in, sends them, as a browser would."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from django.test import Client


@dataclass
class Form:
    """A form of a page.

    :ivar action: where it goes
    :ivar fields: names and values that are hidden
    :ivar typed: names and kinds of the fields that the visitor fills in
    """

    action: str | None
    fields: list[tuple[str, str]] = field(default_factory=list)
    typed: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """A page as a visitor sees it, with the form that has a key, or else its last one.

    :ivar links: addresses
    """

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.response = response
        self.status: int = response.status_code
        sent = response.request
        self.url = f"{sent['PATH_INFO']}?{sent['QUERY_STRING']}".rstrip("?")
        self.html = response.content.decode()
        self.links: list[str] = []
        self.texts: list[str] = []
        self._forms = [Form(None)]
        self.feed(self.html)
        keyed = [each for each in self._forms if "idempotency_key" in dict(each.fields)]
        form = (keyed or self._forms)[-1]
        self.action, self.fields, self.typed = form.action, form.fields, form.typed

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a":
            self.links.append(found.get("href") or "")
        if tag == "form":
            self._forms.append(Form(found.get("action") or self.url))
        if tag == "input" and found.get("name"):
            name, kind = str(found["name"]), found.get("type") or "text"
            if kind == "hidden":
                self._forms[-1].fields.append((name, found.get("value") or ""))
            else:
                self._forms[-1].typed[name] = kind

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(filter(None, self.texts))

    @property
    def keys(self) -> list[str]:
        return [value for name, value in self.fields if name == "idempotency_key"]

    @property
    def key(self) -> str:
        [key] = self.keys
        return key

    @property
    def where(self) -> str:
        """Where a redirect goes."""
        return str(self.response["Location"])


class Visitor:
    """Somebody with a browser. CSRF is checked."""

    def __init__(self, client: Client | None = None) -> None:
        self.client = client or Client(enforce_csrf_checks=True, raise_request_exception=False)

    def open(self, url: str, **headers: str) -> Page:
        return Page(self.client.get(url, headers=headers))

    def send(self, page: Page, **typed: Any) -> Page:
        """Fill in the form of a page, and send it."""
        fields: dict[str, Any] = {}
        for name, value in page.fields:
            fields.setdefault(name, []).append(value)
        assert page.action is not None, page.html
        headers = {"referer": f"http://testserver{page.url}"}
        return Page(self.client.post(page.action, fields | typed, headers=headers))
