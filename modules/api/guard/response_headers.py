"""Response headers of everything that leaves: security headers, the page's nonce, our own CORS headers and no others'.

Knows headers and bytes; not why an answer is what it is.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Scope, Send

from modules.api.error_responses import error_body
from modules.api.json_writer import json_text

TOO_LARGE = "The request is too large."

PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Content-Security-Policy of pages.  Gradio compiles its event handlers, hence 'unsafe-eval'; inline scripts need the nonce."""
LOGIN_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Of the pages for logging in and the account, which have nothing inline."""
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Of everything else: opened on its own, it may do nothing at all."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

_GRADIO = re.compile(r"/gradio_api/(run/|queue/|call/|upload|reset|cancel|component_server)")
_LOGIN_PAGES = re.compile(r"/(login|setup|invite|account(/.*)?)")
_IMMUTABLE = re.compile(r"/(assets|static/fonts|(ui|door)/[0-9a-f]{12})/")
_SCRIPT = re.compile(rb"<script(?=[\s>])(.*?)</script", re.IGNORECASE | re.DOTALL)


class GuardedResponse:
    """The answer on its way out.  `cors` are the headers for the other site's page that asked, if one may."""

    def __init__(self, scope: Scope, send: Send, set_cookie: str = "", cors: Mapping[str, str] | None = None) -> None:
        self._path: str = scope["path"]
        self._send = send
        self._set_cookie = set_cookie
        self._cors = cors or {}
        self._page: Message | None = None
        self._body = bytearray()
        self.started = False
        self.too_large = False
        self.failed = False
        """Whether Gradio failed at the request; what it says of that is not passed on."""

    async def send(self, message: Message) -> None:
        if self.too_large:
            if not self.started:
                self.started = True
                await send_error(self._send, self._path, 413, TOO_LARGE)
            return
        if message["type"] == "http.response.start" and message["status"] == 500 and _GRADIO.match(self._path):
            self.failed = True
        if self.failed:
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

    async def fail(self, status: int, reason: str) -> None:
        """Instead of an answer that did not begin."""
        await send_error(self._send, self._path, status, reason, self._cors)

    def _dress(self, message: Message) -> None:
        raw = [pair for pair in message["headers"] if not pair[0].lower().startswith(b"access-control-")]
        headers = MutableHeaders(raw=raw)
        headers.update(HEADERS)
        headers.update(self._cors)
        headers["content-security-policy"] = DATA_POLICY
        if _IMMUTABLE.match(self._path) and message["status"] == 200:
            headers["cache-control"] = "public, max-age=31536000, immutable"
        headers.setdefault("cache-control", "private, no-store")
        if self._set_cookie and "set-cookie" not in headers:
            headers.append("set-cookie", self._set_cookie)
        message["headers"] = raw

    async def _send_page(self) -> None:
        assert self._page is not None
        body, policy = bytes(self._body), LOGIN_POLICY
        if not _LOGIN_PAGES.fullmatch(self._path):
            nonce = secrets.token_urlsafe(16)
            policy = PAGE_POLICY.format(nonce=nonce)
            # Whole elements are matched, so a "<script" inside a script's text (Gradio's configuration) stays as it is.
            body = _SCRIPT.sub(lambda m: b'<script nonce="%s"%s</script' % (nonce.encode(), m.group(1)), body)
        headers = MutableHeaders(raw=self._page["headers"])
        headers["content-security-policy"] = policy
        if policy is LOGIN_POLICY:  # under "no-referrer" browsers call the origin of a form "null"
            headers["referrer-policy"] = "same-origin"
        headers["content-length"] = str(len(body))
        await self._send(self._page)
        await self._send({"type": "http.response.body", "body": body})


async def send_error(send: Send, path: str, status: int, reason: str, extra: Mapping[str, str] | None = None) -> None:
    """A small JSON error, as callers of `path` know them, in the dress of all answers; `extra` are further headers."""
    body = json_text(error_body(path, status, reason)).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **HEADERS,
        "content-security-policy": DATA_POLICY,
        "cache-control": "private, no-store",
        **({"connection": "close"} if status == 413 else {}),
        **(extra or {}),
    }
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
