"""Connections that say nothing, or too little, or are too many: raw sockets before the real protocol with short patience."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from modules.api.guard.middleware import GuardMiddleware
from modules.api.guard.peers import Peers
from modules.api.guard.protocol import TimeoutProtocol, timeout_protocol
from modules.api.guard.tls import Certificate, self_signed
from modules.server import listen

GIVE_UP = 60.0
"""Seconds after which a test fails; nothing is measured."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    headers = [(b"content-length", str(len(body) + len(scope["path"])).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": scope["path"].encode() + body})


@contextmanager
def serving(
    protocol: type[TimeoutProtocol], application: Any = app, host: str = "127.0.0.1", pair: Certificate | None = None
) -> Iterator[tuple[str, int]]:
    """The address of a server on a listener as the program makes it; with a certificate `pair` over TLS."""
    listener = listen(host, 0)
    tls = {"ssl_certfile": pair.cert, "ssl_keyfile": pair.key} if pair else {}
    common: dict[str, Any] = {"ws": "none", "log_level": "critical", "access_log": False, "lifespan": "off"}
    config = uvicorn.Config(application, http=protocol, **common, **tls)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[:2]
    finally:
        server.should_exit = True
        thread.join(GIVE_UP)
        listener.close()


class Hasty(TimeoutProtocol):
    HEAD_SECONDS = 0.3
    BODY_SECONDS = 0.3


class HastyHeads(TimeoutProtocol):
    HEAD_SECONDS = 0.3


def opened(address: tuple[str, int], data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(address, timeout=GIVE_UP)
    connection.sendall(data)
    return connection


def until_closed(connection: socket.socket) -> bytes:
    """All that comes; raises when nobody ever closes."""
    said = b""
    with connection:
        while True:
            try:
                chunk = connection.recv(65536)
            except ConnectionResetError:
                return said
            if not chunk:
                return said
            said += chunk


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"G",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHo",
    ],
    ids=["silence", "half a head", "one byte", "no body", "half a body", "half a chunk", "half of the second"],
)
def test_a_silent_connection_is_closed_and_others_are_served(start: bytes) -> None:
    with serving(Hasty) as address:
        slow = [opened(address, start) for _ in range(20)]
        quick = until_closed(opened(address, b"GET /quick HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
        assert quick.endswith(b"/quick")
        for connection in slow:
            said = until_closed(connection)
            assert (b"/first" in said) == (b"/first" in start)
            assert b"/second" not in said


def test_dripping_a_head_byte_by_byte_does_not_help() -> None:
    """Each byte comes well within the time, the head does not."""
    with serving(HastyHeads) as address:
        connection = opened(address, b"GET / HTTP/1.1\r\nX: ")
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.02):
                try:
                    connection.send(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert until_closed(connection) == b""
        finally:
            stop.set()
            thread.join()


def test_a_body_that_goes_on_is_waited_for() -> None:
    """The clock of the head must not run on into the body."""
    with serving(HastyHeads) as address:
        connection = opened(address, b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nConnection: close\r\n\r\n")
        pause = threading.Event()
        for _ in range(12):
            pause.wait(0.05)
            connection.sendall(b"x")
        assert until_closed(connection).endswith(b"/slow" + b"x" * 12)


def test_several_requests_on_one_connection() -> None:
    with serving(TimeoutProtocol) as address:
        connection = opened(address, b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        connection.sendall(b"GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        said = until_closed(connection)
        assert said.count(b"HTTP/1.1 200") == 4


class _Transport:
    def __init__(self, host: str) -> None:
        self.host, self.aborted = host, False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": (self.host, 5), "sockname": ("192.168.1.5", 7860)}.get(name, default)

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


@pytest.mark.parametrize(
    ("host", "limited"), [("192.168.1.9", True), ("::ffff:192.168.1.9", True), ("127.0.0.1", False), ("10.0.0.2", False)]
)
def test_one_address_has_so_many_connections(host: str, limited: bool) -> None:
    loop = asyncio.new_event_loop()
    state, kind = ServerState(), timeout_protocol(Peers(["10.0.0.0/8"]))
    config = uvicorn.Config(app, log_level="critical")
    made = []
    for _ in range(TimeoutProtocol.PER_ADDRESS + 2):
        protocol, transport = kind(config, state, {}, loop), _Transport(host)
        protocol.connection_made(transport)  # type: ignore[arg-type]
        made.append((protocol, transport))
    assert [transport.aborted for _, transport in made] == [False] * TimeoutProtocol.PER_ADDRESS + [limited] * 2
    other = _Transport("192.168.1.10")
    kind(config, state, {}, loop).connection_made(other)  # type: ignore[arg-type]
    assert not other.aborted
    for protocol, _ in made:
        protocol._stop()
    loop.close()


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        (b"GET / HTTP/1.0", b"Host: 127.0.0.1", b"403"),
        (b"GET http://evil.example/ HTTP/1.1", b"Host: 127.0.0.1", b"421"),
        (b"GET http://127.0.0.1/plain?x=1 HTTP/1.1", b"Host: evil.example", b"200"),
        (b"GET HTTP://localhost HTTP/1.1", b"Host: localhost", b"200"),
        (b"GET ftp://127.0.0.1/ HTTP/1.1", b"Host: 127.0.0.1", b"400"),
        (b"OPTIONS * HTTP/1.1", b"Host: 127.0.0.1", b"400"),
        (b"GET /a%0d%0ab HTTP/1.1", b"Host: 127.0.0.1", b"400"),
        (b"GET /..%5c..%5cx HTTP/1.1", b"Host: 127.0.0.1", b"400"),
        (b"GET / HTTP/1.1", b"Host: 127.0.0.1\r\nHost: 127.0.0.1", b"400"),
        (b"GET / HTTP/1.1", b"Host: 127.0.0.1/health?x=", b"421"),
        (b"GET / HTTP/1.1", b"Host: evil.example", b"421"),
        (b"GET / HTTP/1.1", b"Host: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade", b"200"),
        (b"POST / HTTP/1.1", b"Host: 127.0.0.1\r\nContent-Length: -1", b"400"),
        (b"POST / HTTP/1.1", b"Host: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6", b"400"),
        (b"POST / HTTP/1.1", b"Host: 127.0.0.1\r\nContent-Length: 99999999999999999999", b"413"),
        (b"GET / HTTP/1.1", b"X: " + b"x" * 70_000, b"400"),
    ],
)
def test_what_is_not_quite_a_request(request_line: bytes, headers: bytes, status: bytes) -> None:
    with serving(Hasty, GuardMiddleware(app)) as address:
        said = until_closed(opened(address, request_line + b"\r\n" + headers + b"\r\nConnection: close\r\n\r\n"))
    assert said.split(b" ")[1] == status, said[:200]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_do_not_wait_to_send_small_answers(tmp_path: Path, host: str, tls: bool) -> None:
    """Without TCP_NODELAY every call on a kept-alive connection takes 44 ms where a new connection takes 2."""
    seen: list[int] = []

    class Noting(TimeoutProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    pair = self_signed(tmp_path, ["localhost"]) if tls else None
    with serving(Noting, host=host, pair=pair) as address, opened(address) as plain:
        context = ssl.create_default_context(cafile=str(pair.cert)) if pair else None
        with context.wrap_socket(plain, server_hostname="localhost") if context else plain as connection:
            connection.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(1)
    assert seen
    assert all(seen)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
