"""Who is asking: on a local instance, the browser that holds a random cookie.

The cookie is a secret; what the rest of the program sees and stores as `user` is a digest of it, so that neither the
queue's file nor a log hands out anybody's identity.  Accounts take the place of `BrowserIdentity.identify` and nothing else.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import Scope

NOBODY = ""
"""The user of a request that came without an identity and is not given one."""

COOKIE_SECONDS = 400 * 24 * 3600
"""Browsers keep no cookie longer than 400 days (RFC 6265bis, 5.5)."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,64}")


@dataclass(frozen=True)
class Identity:
    """`user` as the rest of the program knows them; `set_cookie` is a header value to send along, or empty."""

    user: str
    set_cookie: str = ""


class Identifier(Protocol):
    """The seam for accounts: decides who a request comes from, before anything else sees it."""

    def identify(self, scope: Scope) -> Identity: ...


class BrowserIdentity:
    """Every browser is a user of its own, known by an HttpOnly, SameSite=Strict cookie.

    The cookie's name carries the port, because browsers share cookies among all ports of a host.
    """

    def identify(self, scope: Scope) -> Identity:
        headers = Headers(scope=scope)
        name = f"atelier_{(scope.get('server') or ('', 0))[1]}"
        token = _cookie(headers.get("cookie", ""), name)

        if token and scope["path"] != "/":
            return Identity(_user(token))
        # A visit that another site's link started comes without our Strict cookie although the browser has one.  Giving
        # out a new one then would cut the visitor off from their pictures; the page's own requests will carry the old.
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        gives = scope["path"] == "/" or scope["path"].startswith("/internal/")
        if foreign or not gives:
            return Identity(_user(token) if token else NOBODY)
        token = token or secrets.token_urlsafe(24)
        attributes = f"Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Strict"
        return Identity(_user(token), f"{name}={token}; {attributes}")


def _cookie(header: str, name: str) -> str:
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel is not None and _TOKEN.fullmatch(morsel.value) else ""


def _user(token: str) -> str:
    return "browser-" + hashlib.sha256(token.encode()).hexdigest()[:20]
