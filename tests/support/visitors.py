"""What a visitor does with pages: opens them, fills forms in, and sends them, as a browser would."""

from html.parser import HTMLParser
from typing import Any

from django.test import Client


class Page(HTMLParser):
    """A page as a visitor sees it.

    :ivar fields: names and values of its first form
    :ivar typed: names of the fields that the visitor fills in
    :ivar action: where the form goes
    :ivar links: addresses
    """

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.response = response
        self.status: int = response.status_code
        sent = response.request
        self.url = f"{sent['PATH_INFO']}?{sent['QUERY_STRING']}".rstrip("?")
        self.html = response.content.decode()
        self.fields: list[tuple[str, str]] = []
        self.typed: dict[str, str] = {}
        self.links: list[str] = []
        self.action: str | None = None
        self.texts: list[str] = []
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a":
            self.links.append(found["href"] or "")
        if tag == "form":
            assert self.action is None, "two forms"
            self.action = found.get("action") or self.url
        if tag == "input" and found.get("name"):
            name, kind = str(found["name"]), found.get("type") or "text"
            if kind == "hidden":
                self.fields.append((name, found.get("value") or ""))
            else:
                self.typed[name] = kind

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
        return Page(self.client.post(page.action, fields | typed, headers={"referer": f"http://testserver{page.url}"}))
