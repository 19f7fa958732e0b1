"""Keep a request as plain data, and build it again for its view when the client is gone."""

import string
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from urllib.parse import quote, unquote

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from django.urls import Resolver404, ResolverMatch, get_script_prefix, resolve
from django.utils.translation import get_language, get_language_from_path, override

from ..compat.frameworks import authenticate_as
from .body import MULTIPART
from .claim import LONGEST_PATH, BodyTooLarge, whole_body

LARGEST = 64 * 1024
"""Bytes of the largest body that is kept."""

HEADERS = ("HTTP_ACCEPT", "HTTP_ACCEPT_LANGUAGE", "CONTENT_TYPE")
"""Names in ``META`` of what is kept of the header, beside the host. Others may be credentials."""

VERSION = 1

CALLER = (
    "resumable=True: the caller of this request cannot be looked up again without the request. It "
    "must be a user of AUTH_USER_MODEL in request.user, or anonymous, and not {found}. Declare a "
    "function instead (resumable=..., resume_data=...). Nothing has run."
)


class NotKept(Exception):
    """This one request cannot be kept; the message says why."""


def kept_request(request: Any, view_request: Any) -> dict[str, Any]:
    """Return what :func:`rebuilt` needs of a request, as plain data: its target, its body, the
    primary key of its user, and no credentials.

    :param request: Django's request
    :param view_request: the request that the view gets, which knows its caller
    :raises NotKept: if its body is too large or not text, or nothing leads from its path to its
        view without the request
    :raises ImproperlyConfigured: if its caller is no user of ``AUTH_USER_MODEL``
    """
    user = _user_of(view_request)
    if getattr(request, "urlconf", None) is not None:
        raise NotKept("a middleware has chosen its URLconf")
    if len(quote(request.path)) > LONGEST_PATH:
        raise NotKept(f"its path has more than {LONGEST_PATH} characters")
    return {
        "version": VERSION,
        "method": request.method,
        "script": request.path.removesuffix("/" + request.path_info.replace("/", "", 1)),
        "path": request.path_info,
        "query": _query_of(request.META),
        "host": request._get_raw_host(),
        "scheme": request.scheme,
        "headers": {name: request.META[name] for name in HEADERS if request.META.get(name)},
        "body": _body_of(request),
        "user": user,
    }


def _query_of(meta: Mapping[str, Any]) -> str:
    """Return the query string in ASCII. Other bytes are one character each under WSGI, and UTF-8
    under ASGI."""
    encoding = "latin-1" if "wsgi.input" in meta else "utf-8"
    return quote(meta.get("QUERY_STRING", "").encode(encoding), safe=string.printable)


def _body_of(request: HttpRequest) -> str:
    if (request.content_type or "").lower() == MULTIPART:
        raise NotKept("its body is multipart/form-data, which may hold files")
    try:
        body = whole_body(request, LARGEST)
    except BodyTooLarge:
        raise NotKept(f"its body has more than {LARGEST} bytes") from None
    if body is None:
        raise NotKept("its body was consumed before the guard began")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise NotKept("its body is not UTF-8 text") from None


def _user_of(view_request: Any) -> str | None:
    user, auth = (getattr(view_request, name, None) for name in ("user", "auth"))
    is_anonymous = user is None or not user.is_authenticated
    # In DRF a token comes with its user. Django Ninja sets ``auth``, whoever the user is.
    if auth is not None and (is_anonymous or not hasattr(view_request, "_request")):
        raise ImproperlyConfigured(CALLER.format(found=f"a {type(auth).__name__} in request.auth"))
    if is_anonymous:
        return None
    if not isinstance(user, get_user_model()):
        raise ImproperlyConfigured(CALLER.format(found=f"a {user.__class__.__name__}"))
    return str(user._meta.pk.value_to_string(user))


def rebuilt(kept: dict[str, Any]) -> WSGIRequest:
    """Return the request, with its user.

    It has what :func:`kept_request` has kept. It went through no middleware: it has no session, no
    messages, and no address of a client.

    :raises LookupError: if its user is gone, or not active any more
    """
    body = kept["body"].encode()
    host, _, port = kept["host"].rpartition(":")
    environ = {
        **kept["headers"],
        "REQUEST_METHOD": kept["method"],
        # PEP 3333: one character per byte.
        "SCRIPT_NAME": kept["script"].encode().decode("latin-1"),
        "PATH_INFO": kept["path"].encode().decode("latin-1"),
        "QUERY_STRING": kept["query"],
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_HOST": kept["host"],
        "SERVER_NAME": host if port.isdecimal() else kept["host"],
        "SERVER_PORT": port if port.isdecimal() else "443" if kept["scheme"] == "https" else "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": kept["scheme"],
        "wsgi.input": BytesIO(body),
    }
    request: Any = WSGIRequest(environ)
    user = _found_user(kept["user"])
    authenticate_as(request, user)
    request.resolver_match = match_of(request.path_info)
    return request  # type: ignore[no-any-return]


def _found_user(primary_key: str | None) -> Any:
    if primary_key is None:
        from django.contrib.auth.models import AnonymousUser  # a model needs its app

        return AnonymousUser()
    model = get_user_model()
    user = model._default_manager.filter(pk=primary_key).first()
    if user is None:
        raise LookupError("its user is gone")
    if not user.is_active:
        raise LookupError("its user is not active any more")
    return user


def request_to(method: str, path: str) -> HttpRequest:
    """Return a request of which only the target is known, and with it the view.

    :param path: as a record has it
    """
    request = HttpRequest()
    request.method, request.path = method, unquote(path)
    request.path_info = "/" + request.path.removeprefix(get_script_prefix())
    request.resolver_match = match_of(request.path_info)
    return request


def match_of(path_info: str) -> ResolverMatch | None:
    """Return the view at a path; ``None`` if there is none any more."""
    try:
        # i18n_patterns() know the active language alone.
        with override(get_language_from_path(path_info) or get_language()):
            return resolve(path_info)
    except Resolver404:
        return None
