"""A script that the page runs before all others.

Gradio puts what it is given as `head` into the document when it starts, which is too late for what must see its configuration
before it does.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class FirstScript:
    """ASGI middleware that writes `tag` to the beginning of the head of each HTML page, behind its `base`."""

    def __init__(self, app: ASGIApp, tag: str) -> None:
        self._app, self._tag = app, tag.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        started: Message | None = None
        body = bytearray()

        async def changed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start" and _is_page(message):
                started = message
            elif started is None:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    page = self._with_tag(bytes(body))
                    MutableHeaders(raw=started["headers"])["content-length"] = str(len(page))
                    await send(started)
                    await send({"type": "http.response.body", "body": page})

        await self._app(scope, receive, changed)

    def _with_tag(self, page: bytes) -> bytes:
        before = page.find(b"<base")
        at = page.find(b">", before) + 1 if before >= 0 else 0
        return page[:at] + self._tag + page[at:] if at else page


def _is_page(message: Message) -> bool:
    headers = Headers(raw=message["headers"])
    return headers.get("content-type", "").startswith("text/html") and "content-encoding" not in headers
