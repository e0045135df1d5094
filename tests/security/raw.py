"""HTTP byte by byte: nothing is tidied up on the way out, as every client library would, and every answer is kept."""

from __future__ import annotations

import json as _json
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 90.0
"""Seconds after which something hangs, on a busy machine too; nothing waits for them."""

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Reply:
    """An answer.  `status` is 0 when the connection was closed without one."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    @property
    def refused(self) -> bool:
        return 400 <= self.status < 500

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        return _json.loads(self.body)


def exchange(port: int, data: bytes, address: str = "127.0.0.1") -> Reply:
    """Send exactly these bytes and read until the other side closes."""
    with socket.create_connection((address, port), timeout=PATIENCE) as connection:
        try:
            connection.sendall(data)
        except OSError:  # it was refused while we were still talking; what it said is there to be read
            pass
        chunks = []
        try:
            while chunk := connection.recv(1 << 16):
                chunks.append(chunk)
        except ConnectionError:
            pass
    return parse(b"".join(chunks))


def compose(
    port: int,
    target: str | bytes,
    method: str = "GET",
    headers: Pairs = (),
    body: bytes | None = None,
    host: str | None = "",
    version: str = "1.1",
) -> bytes:
    """The bytes of a request.  `host` "" is the right one, None leaves the header out; a body gets its length, if not given."""
    where = target if isinstance(target, bytes) else target.encode("utf-8")
    lines = [method.encode() + b" " + where + b" HTTP/" + version.encode()]
    given = [(name, value) for name, value in headers]
    if host is not None:
        given.insert(0, ("Host", host or f"127.0.0.1:{port}"))
    names = {name.lower() for name, _ in given}
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        given.append(("Content-Length", str(len(body))))
    if "connection" not in names:
        given.append(("Connection", "close"))
    lines += [f"{name}: {value}".encode("utf-8", "surrogateescape") for name, value in given]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def parse(data: bytes) -> Reply:
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/"):
        return Reply(0)
    first, *rest = head.decode("latin-1").split("\r\n")
    pairs = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in rest)]
    reply = Reply(int(first.split()[1]), pairs, body)
    if reply.header("transfer-encoding").lower() == "chunked":
        return Reply(reply.status, pairs, _dechunked(body))
    return reply


def _dechunked(data: bytes) -> bytes:
    parts = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if not length:
            break
        parts.append(data[:length])
        data = data[length + 2 :]
    return b"".join(parts)
