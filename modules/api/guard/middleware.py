"""The outermost middleware: every request and every answer passes here, Gradio's own routes included.

Gradio protects route by route, answers any origin with credentials when it is reached by an address other than localhost,
and believes forwarded headers; so one ASGI class around everything decides instead.  It knows hosts, origins, sizes, headers
and roles; not what any route does.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modules.accounts import AccountError, Accounts, AccountsUnavailable
from modules.api.guard.access import OTHERS, Rule, methods_for, reaches, rule_for
from modules.api.guard.identity import NOBODY, AccountIdentity, Identifier, Identity, LocalIdentity
from modules.api.guard.json_reader import JsonReader, TooMuch
from modules.api.guard.peers import Peer, Peers, looks_proxied, plain, without_claims
from modules.api.guard.response_headers import TOO_LARGE, GuardedResponse, send_error
from modules.api.json_writer import json_text
from modules.errors import LimitError, RequestError

log = logging.getLogger("atelier")

NO_CALL = "This is no call that the page makes."

MAX_BODY = 1 << 20
"""Bytes of a request's body, where `_CAPS` does not say otherwise."""
PICTURES = 64 << 20
"""Bytes of a body with pictures in it."""
_CAPS: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"/(login|setup|invite|account)(/.*)?"), 16 << 10),
    (re.compile(r"/internal/extensions/proposals"), 16 << 20),
    (re.compile(r"/internal/(sources|read)|/(sdapi|api)/v1/.*"), PICTURES),
)
MAX_HEADERS, MAX_HEADER_BYTES = 100, 32 << 10
DISK_FLOOR = 256 << 20
"""Bytes that must be free on the disk for anything large to be taken in."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z._-]+)(:\d{1,5})?")
_ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://([!-.0-~]{1,300})(/.*)?", re.DOTALL)
_ABSOLUTE_BYTES = re.compile(rb"^[a-zA-Z]+://[^/]*")
_API = re.compile(r"/(sdapi|api|controlnet)/.*")
_SAFE = ("GET", "HEAD")


@dataclass(frozen=True)
class AccessConfig:
    """Access configuration: how this server is reached, and which accounts may log in.

    Args:
        hosts: names and addresses beside the loopback ones under which this server may be reached.
        accounts: who has one; None on a local instance, which lets in every user of this machine.
        proxies: networks of reverse proxies that are believed.
        origins: other sites whose pages may call the API, as browsers write them.
        folder: where uploads go; the disk that must not become full.
    """

    hosts: frozenset[str] = frozenset()
    accounts: Accounts | None = None
    proxies: tuple[str, ...] = ()
    origins: frozenset[str] = frozenset()
    folder: Path | None = None
    address: str = ""
    """Where other machines reach this server, such as http://192.168.1.5:7860; for links and QR codes."""


class _Rejected(Exception):
    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


class GuardMiddleware:
    """ASGI middleware.  Refuses with a small JSON error, or tells who asks in `scope["state"]` and lets pass.

    The state has `user`, `role`, `account` (the name to show), `identity` and `peer`.
    """

    def __init__(self, app: ASGIApp, access: AccessConfig | None = None) -> None:
        self.app = app
        self.access = access or AccessConfig()
        self.hosts = frozenset(host.lower() for host in self.access.hosts) | {"localhost"}
        self.peers = Peers(self.access.proxies)
        accounts = self.access.accounts
        self.identifier: Identifier = LocalIdentity() if accounts is None else AccountIdentity(accounts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        cors: dict[str, str] = {}
        scope = _in_origin_form(scope)
        try:
            headers = Headers(scope=scope)
            peer = self.peers.look(scope)
            self._check_form(scope, headers)
            self._check_host(scope, headers)
            cors = self._check_origin(scope, headers, peer)
            if cors and scope["method"] == "OPTIONS":
                await _preflight(send, headers, cors)
                return
            if cors:  # another site's page acts for itself and never with the cookies of the user who has it open
                scope = dict(scope, headers=[pair for pair in scope["headers"] if pair[0] != b"cookie"])
            identity = await self._identify(scope, peer)
            rule = self._check_role(scope, identity)
            await self._check_disk(scope, headers)
        except _Rejected as rejected:
            extra = {**cors, **_closing(scope), **(rejected.headers or {})}
            await send_error(send, scope["path"], rejected.status, rejected.reason, extra)
            return
        await self._pass(scope, receive, GuardedResponse(scope, send, identity.set_cookie, cors), identity, rule, peer)

    async def _pass(
        self, scope: Scope, receive: Receive, answer: GuardedResponse, identity: Identity, rule: Rule, peer: Peer
    ) -> None:
        user = identity.user if not identity.role or reaches(identity.role, rule.acts_from) else NOBODY
        state = {"user": user, "role": identity.role, "account": identity.name, "identity": identity, "peer": peer}
        client = (peer.address, (scope.get("client") or ("", 0))[1])
        inner = dict(
            scope, state={**scope.get("state", {}), **state}, headers=_inner_headers(scope), scheme=peer.scheme, client=client
        )
        body = _Body(receive, body_cap(scope["path"]), answer, walks=_is_gradio_json(scope))
        try:
            await self.app(inner, body.receive, answer.send)
            if answer.failed and not answer.started:
                await answer.fail(400, NO_CALL)
        except ClientDisconnect:  # or we stopped reading what is too large
            if answer.too_large and not answer.started:
                await answer.fail(413, TOO_LARGE)
                return
            log.info("%s %s: hung up before the request was complete", scope["method"], json_text(scope["path"][:200]))
        except Exception as error:
            if answer.failed:  # Gradio raises for calls that no page makes
                what = f"{type(error).__name__}: {error}".split("\n", 1)[0][:200]
                log.warning("%s %s refused (%s)", scope["method"], json_text(scope["path"][:200]), json_text(what))
                await answer.fail(400, NO_CALL)
                return
            if not answer.too_large:
                log.exception("%s %s failed", scope["method"], json_text(scope["path"]))
            if not answer.started:
                status, reason = (
                    (413, TOO_LARGE) if answer.too_large else (500, "Something went wrong; the log has the details.")
                )
                await answer.fail(status, reason)

    # ---- one check after the other, in the order in which they are made

    def _check_form(self, scope: Scope, headers: Headers) -> None:
        """Nothing that is oversized or that two readers could understand in two ways."""
        raw: list[tuple[bytes, bytes]] = scope["headers"]
        if len(raw) > MAX_HEADERS or sum(len(name) + len(value) for name, value in raw) > MAX_HEADER_BYTES:
            raise _Rejected(431, "The request has too many or too long headers.")
        path: str = scope["path"]
        if not path.startswith("/") or "\\" in path or any(ord(c) < 32 or ord(c) == 127 for c in path):
            raise _Rejected(400, "This is not a path of this server.")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise _Rejected(400, "The length of the request is not a number.")
        if int(length[:20]) > body_cap(path):
            raise _Rejected(413, TOO_LARGE)
        if "," in headers.get("range", "") or len(headers.getlist("range")) > 1:
            raise _Rejected(416, "One range at a time, please.")
        if self.access.accounts is None and looks_proxied(scope):
            raise _Rejected(
                403,
                "This request looks proxied: enable accounts. Who reaches a local instance counts as its owner, so it answers "
                "no proxies; start it with --trusted-proxy ADDRESS (or --listen), which asks everybody who they are.",
            )

    def _check_host(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._knows(hosts[0], scope):
            shown = hosts[0][:80] if hosts else ""
            raise _Rejected(
                421,
                f"This server does not answer to the name {shown!r}. Open it as http://127.0.0.1 or localhost, or by the "
                "address that it prints when it starts; --allowed-host adds a name.",
            )

    def _knows(self, host: str, scope: Scope) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match.group(1).lower()
        if name.strip("[]") in self.hosts:
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        if address.is_loopback:
            return True
        # The very address that the connection came in by: no other site's name can stand there, so nothing is rebound.
        own = plain(str((scope.get("server") or ("",))[0]))
        return self.access.accounts is not None and not address.is_unspecified and str(address) == own

    def _check_origin(self, scope: Scope, headers: Headers, peer: Peer) -> dict[str, str]:
        """Only pages of ours, programs, and those other sites that were named.  Returns the CORS headers for these.

        `Origin` is compared as text: what does not parse, such as `null`, is not ours.  Browsers leave `Sec-Fetch-Site` out
        on plain http outside localhost, so it is only an additional test.
        """
        host = headers["host"].lower()
        origins = [origin.lower() for origin in headers.getlist("origin")]
        if len(origins) == 1 and origins[0] in self.access.origins and _API.fullmatch(scope["path"]):
            return {
                "access-control-allow-origin": headers["origin"],
                "cross-origin-resource-policy": "cross-origin",
                "vary": "Origin",
            }
        if not origins and scope["method"] not in _SAFE and (referer := headers.get("referer", "")):
            origins = ["/".join(referer.lower().split("/")[:3])]
        own = all(origin in (f"http://{host}", f"https://{host}") for origin in origins)
        foreign = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
        if own and not foreign:
            return {}
        if own and scope["method"] in _SAFE and _is_visit(headers):  # a link on another page leads here
            return {}
        raise _Rejected(403, "This request was started by another site and is refused.")

    async def _identify(self, scope: Scope, peer: Peer) -> Identity:
        try:
            return await self.identifier.identify(scope, peer)
        except LimitError as error:
            raise _Rejected(429, str(error), {"retry-after": str(math.ceil(error.retry_after))}) from None
        except AccountError as error:
            raise _Rejected(401, str(error), _challenge(scope)) from None
        except AccountsUnavailable as error:
            raise _Rejected(503, str(error)) from None

    def _check_role(self, scope: Scope, identity: Identity) -> Rule:
        rule = rule_for(scope["method"], scope["path"])
        if rule.least == "nobody":
            raise _Rejected(404, "There is nothing here.")
        if reaches(identity.role, rule.least):
            if rule is OTHERS and (allowed := methods_for(scope["path"], identity.role)):
                raise _Rejected(405, f"This is asked for by {' or '.join(allowed)} only.", {"allow": ", ".join(allowed)})
            if rule.in_person and self.access.accounts is not None and not identity.session:
                raise _Rejected(403, "This is for people who are logged in with a browser, not for programs.")
            return rule
        if identity.role:
            raise _Rejected(403, f"This needs an account that is {_a(rule.least)}; yours is {_a(identity.role)}.")
        if scope["method"] in _SAFE and _is_visit(Headers(scope=scope)) and not _API.fullmatch(scope["path"]):
            raise _Rejected(303, "Log in first.", {"location": self._login(scope)})
        raise _Rejected(401, "Log in first, or send an API token.", _challenge(scope))

    def _login(self, scope: Scope) -> str:
        """Where to say who one is; relative, so that no header can lead elsewhere."""
        if self.access.accounts is not None and not self.access.accounts.store.has_administrator():
            return "/setup"
        return "/login" if scope["path"] == "/" else f"/login?next={quote(scope['path'][:200], safe='')}"

    async def _check_disk(self, scope: Scope, headers: Headers) -> None:
        """Nothing large is taken in when it might be the last that fits."""
        folder = self.access.folder
        if folder is None or scope["method"] in _SAFE or body_cap(scope["path"]) <= MAX_BODY:
            return
        length = int(headers.get("content-length", "0")[:20])
        if length <= MAX_BODY and "transfer-encoding" not in headers:
            return
        free = await anyio.to_thread.run_sync(_free, folder)
        if free < DISK_FLOOR + length:
            raise _Rejected(507, "The disk of this server is nearly full, so it takes no uploads; make room on it first.")


def body_cap(path: str) -> int:
    """How many bytes the body of a request to this path may have."""
    return next((cap for pattern, cap in _CAPS if pattern.fullmatch(path)), MAX_BODY)


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:  # not there yet: the code that makes it says what is wrong
        return 1 << 62


def _is_visit(headers: Headers) -> bool:
    """Does a browser open this as a page, in its own window?"""
    return (
        "text/html" in headers.get("accept", "")
        and headers.get("sec-fetch-mode", "navigate") == "navigate"
        and headers.get("sec-fetch-dest", "document") == "document"
    )


def _challenge(scope: Scope) -> dict[str, str]:
    """The authentication challenge: Basic and Bearer for programs; a browser would open a window of its own for it."""
    if _API.fullmatch(scope["path"]):
        return {"www-authenticate": 'Basic realm="Atelier", charset="UTF-8", Bearer realm="Atelier"'}
    return {"www-authenticate": 'Session realm="Atelier"'}


def _closing(scope: Scope) -> dict[str, str]:
    """A body that nobody is going to read ends the connection, unless it is small enough to be read past."""
    headers = Headers(scope=scope)
    length = headers.get("content-length", "0")
    large = not length.isdecimal() or int(length[:20]) > MAX_BODY or "transfer-encoding" in headers
    return {"connection": "close"} if large else {}


def _in_origin_form(scope: Scope) -> Scope:
    """A target that names the whole address, as clients of proxies send it, is asked for like any other.

    The host in it counts, and the header Host does not (RFC 9112, section 3.2.2).
    """
    whole = _ABSOLUTE.fullmatch(scope["path"])
    if whole is None:
        return scope
    host, path = whole[1], whole[2] or "/"
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"] + [(b"host", host.encode())]
    raw = _ABSOLUTE_BYTES.sub(b"", scope.get("raw_path", b"")) or b"/"
    return dict(scope, path=path, raw_path=raw, headers=headers)


def _is_gradio_json(scope: Scope) -> bool:
    return scope["path"].startswith("/gradio_api/") and "json" in Headers(scope=scope).get("content-type", "").lower()


def _a(role: str) -> str:
    return f"an {role}'s" if role[0] in "aeio" else f"a {role}'s"


async def _preflight(send: Send, headers: Headers, cors: Mapping[str, str]) -> None:
    """The answer to a browser's question whether another site's page may call; never with cookies."""
    allowed = {
        "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE",
        "access-control-allow-headers": "authorization, content-type, idempotency-key",
        "access-control-max-age": "600",
        "content-length": "0",
    }
    raw = [(name.encode(), value.encode()) for name, value in {**cors, **allowed}.items()]
    await send({"type": "http.response.start", "status": 204, "headers": raw})
    await send({"type": "http.response.body", "body": b""})


def _inner_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Without what a proxy could have claimed, and for pages without compression, as their scripts get a nonce."""
    headers = without_claims(scope)
    if any(name == b"accept" and b"text/html" in value for name, value in headers):
        headers = [(name, value) for name, value in headers if name != b"accept-encoding"]
    return headers


class _Body:
    """Counts the bytes that really arrive, which a chunked request does not announce.

    `walks`: the values of a JSON body are counted too, for routes that are Gradio's and parse it themselves.
    """

    def __init__(self, receive: Receive, cap: int, answer: GuardedResponse, walks: bool) -> None:
        self._receive, self._left, self._answer = receive, cap, answer
        self._reader = JsonReader() if walks else None

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            body = message.get("body", b"")
            self._left -= len(body)
            if self._left < 0 or not self._walked(body):
                self._answer.too_large = True
                return {"type": "http.disconnect"}
        return message

    def _walked(self, body: bytes) -> bool:
        """Whether the JSON so far is within what `json_reader` allows; what is no JSON at all is for the route to say."""
        try:
            if self._reader is not None:
                self._reader.feed(body)
        except TooMuch:
            return False
        except RequestError:
            self._reader = None
        return True
