"""Authentication of a request: the one user of a local instance, or the account of its session or token.

A cookie is a secret; what the rest of the program sees and stores as `user` is a constant or the account's id, so that neither
the queue's file nor a log hands out anybody's identity.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Protocol

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.types import Scope

from modules.accounts import Account, Accounts, WrongPassword
from modules.api.guard.peers import Peer
from modules.queue.owners import OWNER

NOBODY = ""
"""The user of a request that came without an identity and is not given one."""
LOCAL = "local"
"""The user of programs that call the API of a local instance: they keep no cookies."""

COOKIE_SECONDS = 400 * 24 * 3600
"""Browsers keep no cookie longer than 400 days (RFC 6265bis, 5.5)."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,64}")
_FOR_PROGRAMS = re.compile(r"/(sdapi|api|controlnet)/.*|/internal/(progress|pending-tasks|ping)|/queue/status")
"""What A1111's clients and scripts call, and no page that would keep a cookie."""


@dataclass(frozen=True)
class Identity:
    """Who asks.

    `user` as the rest of the program knows them; `role` is "" for who has not said who they are; `name` and `account` (its id)
    are those of an account; `session` is the id of the browser's session, "" for programs; `set_cookie` is a header value to
    send along, or empty.
    """

    user: str = NOBODY
    role: str = ""
    name: str = ""
    account: str = ""
    session: str = ""
    set_cookie: str = ""


class Identifier(Protocol):
    """Decides who a request comes from, before anything else sees it."""

    async def identify(self, scope: Scope, peer: Peer) -> Identity:
        """Authenticate a request.  Raises AccountError (WrongPassword) or LimitError for credentials that are wrong."""
        ...


class LocalIdentity:
    """All browsers are one user, `OWNER`: pictures are found again whatever the port, host name or browser.  Programs that call
    the API are another, `LOCAL`, so that what they interrupt or list is their own.

    The users of a local instance sit at the machine, so each is its administrator.  A browser shows an HttpOnly,
    SameSite=Strict cookie.  It says nothing about who it is: it tells requests of the page itself, which act for the user,
    from visits that another site started, which come without and act for nobody.
    """

    async def identify(self, scope: Scope, peer: Peer) -> Identity:
        user, set_cookie = self._browser(scope)
        if _FOR_PROGRAMS.fullmatch(scope["path"]) and (not user or set_cookie):
            user, set_cookie = LOCAL, ""
        return Identity(user, "administrator", set_cookie=set_cookie)

    def _browser(self, scope: Scope) -> tuple[str, str]:
        headers = Headers(scope=scope)
        name = f"atelier_{port(scope)}"
        token = cookie(headers.get("cookie", ""), name)

        if token and scope["path"] != "/":
            return OWNER, ""
        # A visit that another site's link started comes without our Strict cookie, and is not given one for it.
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        gives = scope["path"] == "/" or scope["path"].startswith("/internal/")
        if foreign or not gives:
            return (OWNER if token else NOBODY), ""
        token = token or secrets.token_urlsafe(24)
        attributes = f"Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Strict"
        return OWNER, f"{name}={token}; {attributes}"


class AccountIdentity:
    """A session's cookie, an API token as Bearer, or HTTP Basic with a token or the password.

    A header that shows nothing is refused even beside a good cookie: a client that sends it means it.
    """

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts

    async def identify(self, scope: Scope, peer: Peer) -> Identity:
        headers = Headers(scope=scope)
        if shown := headers.get("authorization", ""):
            account = await self._shown(shown, peer)
            return Identity(account.user, account.role, account.name, account.id)
        secret = cookie(headers.get("cookie", ""), session_cookie(scope))
        there = self.accounts.store.session(secret) if secret else None
        if there is None:
            return Identity()
        account, session, extended = there
        again = set_session(scope, peer, secret) if extended else ""
        return Identity(account.user, account.role, account.name, account.id, session.id, again)

    async def _shown(self, header: str, peer: Peer) -> Account:
        scheme, _, rest = header.partition(" ")
        if scheme.lower() == "bearer":
            account = self.accounts.store.token(rest.strip())
            if account is not None:
                return account
            raise WrongPassword("This API token is not one of ours, was revoked, or its account is disabled.")
        if scheme.lower() == "basic":
            name, _, secret = _decoded(rest).partition(":")
            return await anyio.to_thread.run_sync(lambda: self.accounts.by_basic(name, secret, peer.address))
        raise WrongPassword("The Authorization header is neither Bearer nor Basic.")


def session_cookie(scope: Scope) -> str:
    return f"sid_{port(scope)}"


def set_session(scope: Scope, peer: Peer, secret: str) -> str:
    """The Set-Cookie header that keeps a session's secret in the browser; with an empty one, that takes it away."""
    seconds = 30 * 24 * 3600 if secret else 0
    secure = "; Secure" if peer.scheme == "https" else ""
    return f"{session_cookie(scope)}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def port(scope: Scope) -> int:
    return int((scope.get("server") or ("", 0))[1] or 0)


def cookie(header: str, name: str) -> str:
    """The secret in this cookie, "" when there is none or it cannot be one of ours."""
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel is not None and _TOKEN.fullmatch(morsel.value) else ""


def _decoded(text: str) -> str:
    try:
        data = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise WrongPassword("The Authorization header is not readable.") from None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
