"""What an operator may search records for: a key, a log line, a caller, a path, a status."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from django.contrib.auth import get_permission_codename, get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from ..finding.callers import Caller, caller_of, user_named
from ..finding.search import NOTHING, Query, is_about_no_record, narrow, query_of, resolved
from ..http.claim import path_as_kept, request_id_as_kept

_WORD = re.compile(r'(?:^|\s)(user|status|request):("[^"]*"|\S+)(?=\s|$)')
_PATH = re.compile(r"(?:([A-Z]+) +)?(?:https?://[^/\s]+)?(/[^?#\s]*)(?:[?#]\S*)?")
_STATUS = re.compile(r"([1-5])(\d\d|xx)", re.IGNORECASE)


def may_view_users(request: HttpRequest) -> bool:
    """Whether whoever asks may learn who exists, and which scopes are whose."""
    users = get_user_model()._meta
    permission = f"{users.app_label}.{get_permission_codename('view', users)}"
    return request.user.has_perm(permission)


@dataclass
class Search:
    """What a text asks for.

    :ivar query: the part that is about keys and callers, if there is one
    :ivar lookups: of the part that is about the request and its response
    :ivar caller: of ``user:...``
    :ivar mistakes: why nothing can be found
    """

    text: str = ""
    query: Query = NOTHING
    lookups: dict[str, Any] = field(default_factory=dict)
    caller: Caller | None = None
    mistakes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, request: HttpRequest, using: str, text: str) -> "Search":
        """Return the search of a request, which is read once.

        :param using: alias of the database
        """
        found: Search | None = getattr(request, "_idempotency_search", None)
        if found is None or found.text != text:
            found = cls(text)
            found._read(request, using)
            request._idempotency_search = found  # type: ignore[attr-defined]
        return found

    @property
    def is_indexed(self) -> bool:
        """Whether an index finds the records."""
        return self.query.is_indexed

    def narrow(self, records: QuerySet[Any]) -> QuerySet[Any]:
        """Return those of the records that are searched for."""
        if self.mistakes:
            return records.none()
        if self.query != NOTHING:
            records = narrow(records, self.query)
        return records.filter(**self.lookups)

    def advice(self) -> Iterator[str]:
        """Yield what to do if nothing was found."""
        if self.mistakes:
            yield from self.mistakes
            return
        if self.query.key:
            yield _(
                "No record has this key. It may have expired and been purged, it may have been "
                "released because nothing was done, or no guarded view got it. Check that the key "
                "is whole, as it was sent, with or without quotes."
            )
        elif self.query.digest or self.query.key_digest or self.query.scope_digest:
            yield _("No record has this digest, of its key or its scope.")
        elif self.caller is not None:
            yield _("No record belongs to this user, in any of the ways above.")
        else:
            yield _("No record matches. It may have expired and been purged.")
        yield _(
            "Search for the key, for its digest or a line of the log, for a path such as /orders/, "
            "for user:NAME, status:422 or request:ID. Words may be combined."
        )

    def _read(self, request: HttpRequest, using: str) -> None:
        if is_about_no_record(self.text):
            self.mistakes.append(
                _(
                    "This line is about a request without a record: its key was not valid, or its "
                    "caller was not known. The line says why."
                )
            )
            return
        line = query_of(self.text)
        if line != NOTHING and not (line.key or line.digest):  # a line of the log has words, too
            self.query = resolved(using, line)
            return
        words = dict(_WORD.findall(self.text))
        rest = _WORD.sub(" ", self.text).strip()
        path = _PATH.fullmatch(rest)
        if path is not None:
            method, start = path.groups()
            self.lookups |= {"path__startswith": path_as_kept(start)} | (
                {"method": method} if method else {}
            )
        elif rest:
            self.query = resolved(using, query_of(rest))
            if self.query == NOTHING:
                self.mistakes.append(_("No key, no digest and no line of the log."))
        if "status" in words:
            self._read_status(words["status"])
        if "request" in words:
            given = words["request"].strip('"')
            # As a log has it, or as a record shows it.
            self.lookups["request_id__in"] = {given, request_id_as_kept(given)}
        if "user" in words:
            self._read_user(request, words["user"].strip('"'))

    def _read_status(self, text: str) -> None:
        status = _STATUS.fullmatch(text)
        if status is None:
            self.mistakes.append(_("No status: write status:422, or status:4xx."))
        elif status[2].isdecimal():
            self.lookups["response_status"] = int(text)
        else:
            first = int(status[1]) * 100
            self.lookups |= {"response_status__gte": first, "response_status__lt": first + 100}

    def _read_user(self, request: HttpRequest, name: str) -> None:
        if not may_view_users(request):
            self.mistakes.append(_("To search for a user, you need the permission to view users."))
            return
        user = user_named(name)
        if user is None:
            self.mistakes.append(_("No user has this name or primary key."))
            return
        self.caller = caller_of(user)
        self.query = replace(self.query, scopes=self.caller.digests)
