"""The outermost wall: every request and every answer passes here, Gradio's own routes included.

Gradio protects route by route, answers any origin with credentials when it is reached by an address other than localhost,
and believes forwarded headers; so one ASGI class around everything decides instead.  It knows hosts, origins, sizes and
headers; not what any route does.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import secrets
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modules.api.identity import Identifier

log = logging.getLogger(__name__)

MAX_BODY = 1 << 20
"""Bytes of a request's body, where `BODY_CAPS` does not say otherwise."""
BODY_CAPS = {"/gradio_api/upload": 16 << 20}
MAX_HEADERS, MAX_HEADER_BYTES = 100, 32 << 10
TOO_LARGE = "The request is too large."

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z._-]+)(:\d{1,5})?")
_FORWARDED = re.compile(rb"forwarded|x-forwarded-.*|x-real-ip|x-gradio-server|x-original-.*|via")
_IMMUTABLE = re.compile(r"/(assets|static/fonts|ui/[0-9a-f]{12})/")
_SCRIPT = re.compile(rb"<script(?=[\s>])(.*?)</script", re.IGNORECASE | re.DOTALL)

PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Content-Security-Policy of pages.  Gradio compiles its event handlers, hence 'unsafe-eval'; inline scripts need the nonce."""
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Of everything else: opened on its own, it may do nothing at all."""

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


class Guard:
    """ASGI middleware.  Refuses with a small JSON error, or sets `scope["state"]["user"]` and lets pass.

    Args:
        hosts: names and addresses beside the loopback ones under which this server may be reached.
    """

    def __init__(self, app: ASGIApp, identifier: Identifier, hosts: Iterable[str] = ()) -> None:
        self.app = app
        self.identifier = identifier
        self.hosts = frozenset(host.lower() for host in hosts) | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(send, *refusal)
            return

        identity = self.identifier.identify(scope)
        scope = dict(scope, state={**scope.get("state", {}), "user": identity.user}, headers=_inner_headers(scope))
        answer = _Answer(scope, send, identity.set_cookie)
        body = _Body(receive, BODY_CAPS.get(scope["path"], MAX_BODY), answer)
        try:
            await self.app(scope, body.receive, answer.send)
        except Exception:
            if not answer.too_large:
                log.exception("%s %s failed", scope["method"], scope["path"])
            if not answer.started:
                refusal = (413, TOO_LARGE) if answer.too_large else (500, "Something went wrong; the log has the details.")
                await _refuse(send, *refusal)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason when the request must not go on."""
        raw: list[tuple[bytes, bytes]] = scope["headers"]
        if len(raw) > MAX_HEADERS or sum(len(name) + len(value) for name, value in raw) > MAX_HEADER_BYTES:
            return 431, "The request has too many or too long headers."
        headers = Headers(scope=scope)

        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._knows(hosts[0]):
            shown = hosts[0][:80] if hosts else ""
            return 421, f"This server does not answer to the name {shown!r}. Open it as http://127.0.0.1 or localhost."
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return 400, "The length of the request is not a number."
        if int(length[:20]) > BODY_CAPS.get(scope["path"], MAX_BODY):
            return 413, TOO_LARGE
        if scope["method"] not in ("GET", "HEAD") and not _own_origin(headers, hosts[0]):
            return 403, "This request was started by another site and is refused."
        return None

    def _knows(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match.group(1).lower()
        if name in self.hosts:
            return True
        try:
            return ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False


def _own_origin(headers: Headers, host: str) -> bool:
    """Whether a changing request comes from a page of ours, or from no page at all.

    `Origin` is compared as text: what does not parse, such as `null`, is not ours.  Browsers leave `Sec-Fetch-Site` out on
    plain http outside localhost, so it is only an additional test.
    """
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origins = headers.getlist("origin")
    return all(origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}") for origin in origins)


def _inner_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Without what a proxy could have claimed, and for pages without compression, as their scripts get a nonce."""
    headers = [(name, value) for name, value in scope["headers"] if not _FORWARDED.fullmatch(name)]
    if any(name == b"accept" and b"text/html" in value for name, value in headers):
        headers = [(name, value) for name, value in headers if name != b"accept-encoding"]
    return headers


class _Body:
    """Counts the bytes that really arrive, which a chunked request does not announce."""

    def __init__(self, receive: Receive, cap: int, answer: _Answer) -> None:
        self._receive, self._left, self._answer = receive, cap, answer

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self._answer.too_large = True
                return {"type": "http.disconnect"}
        return message


class _Answer:
    """The answer on its way out: drops foreign CORS headers, adds ours, and gives a page's scripts the nonce."""

    def __init__(self, scope: Scope, send: Send, set_cookie: str) -> None:
        self._path: str = scope["path"]
        self._send = send
        self._set_cookie = set_cookie
        self._page: Message | None = None
        self._body = bytearray()
        self.started = False
        self.too_large = False

    async def send(self, message: Message) -> None:
        if self.too_large:
            if not self.started:
                self.started = True
                await _refuse(self._send, 413, TOO_LARGE)
            return
        if message["type"] == "http.response.start":
            self.started = True
            self._dress(message)
            is_page = Headers(raw=message["headers"]).get("content-type", "").startswith("text/html")
            if is_page:
                self._page = message
            else:
                await self._send(message)
        elif message["type"] == "http.response.body" and self._page is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_page()
        else:
            await self._send(message)

    def _dress(self, message: Message) -> None:
        raw = [pair for pair in message["headers"] if not pair[0].lower().startswith(b"access-control-")]
        headers = MutableHeaders(raw=raw)
        headers.update(_HEADERS)
        headers["content-security-policy"] = DATA_POLICY
        if _IMMUTABLE.match(self._path) and message["status"] == 200:
            headers["cache-control"] = "public, max-age=31536000, immutable"
        headers.setdefault("cache-control", "private, no-store")
        if self._set_cookie:
            headers.append("set-cookie", self._set_cookie)
        message["headers"] = raw

    async def _send_page(self) -> None:
        assert self._page is not None
        nonce = secrets.token_urlsafe(16)
        # Whole elements are matched, so a "<script" inside a script's text (Gradio's configuration) stays as it is.
        body = _SCRIPT.sub(lambda m: b'<script nonce="%s"%s</script' % (nonce.encode(), m.group(1)), bytes(self._body))
        headers = MutableHeaders(raw=self._page["headers"])
        headers["content-security-policy"] = PAGE_POLICY.format(nonce=nonce)
        headers["content-length"] = str(len(body))
        await self._send(self._page)
        await self._send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
    headers += [(b"content-security-policy", DATA_POLICY.encode()), (b"cache-control", b"private, no-store")]
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
