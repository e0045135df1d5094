"""Timeouts of HTTP/1.1 connections: a client that sends nothing, or one byte at a time, does not keep one.

uvicorn waits for ever for the head of a request and for its body, so that a few hundred idle sockets would use up what the
server has.  This knows time and connections, and leaves everything else to uvicorn's own protocol.
"""

from __future__ import annotations

import asyncio
import ipaddress

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from modules.api.guard.peers import Peers, plain


class TimeoutProtocol(H11Protocol):
    """uvicorn's protocol with limits.

    `HEAD_SECONDS` is how long the head of a request may take from its first byte (from connecting, for the first one),
    `BODY_SECONDS` how long a body may pause, `PER_ADDRESS` how many connections one address may have.  Programs on this machine
    and trusted proxies, which speak for many, may have any number.
    """

    HEAD_SECONDS = 10.0
    BODY_SECONDS = 30.0
    PER_ADDRESS = 64
    proxies = Peers()

    _timer: asyncio.TimerHandle | None = None
    _waits_for_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._one_too_many():
            transport.abort()
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.timeout_keep_alive_task is not None:  # it was idle between two requests: the next begins now
            self._stop()
        super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def _watch(self) -> None:
        """Set the clock for what the other side owes us."""
        state = self.conn.their_state
        if self.transport.is_closing() or state not in (h11.IDLE, h11.SEND_BODY):
            self._stop()
        elif state is h11.SEND_BODY:
            self._stop()
            self._timer = self.loop.call_later(self.BODY_SECONDS, self._body_pauses)
        elif not self._waits_for_head:
            self._stop()
            self._waits_for_head = True
            self._timer = self.loop.call_later(self.HEAD_SECONDS, self.transport.abort)

    def _body_pauses(self) -> None:
        if self.flow.read_paused:  # it is we who do not read
            self._watch()
        else:
            self.transport.abort()

    def _stop(self) -> None:
        self._waits_for_head = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _one_too_many(self) -> bool:
        host = plain(self.client[0]) if self.client else ""
        if not host or ipaddress.ip_address(host).is_loopback:
            return False
        if self.proxies.trusts(host):
            return False
        return [_host(each) for each in self.connections].count(host) > self.PER_ADDRESS


def _host(connection: object) -> str:
    client = getattr(connection, "client", None)
    return plain(client[0]) if client else ""


def timeout_protocol(proxies: Peers) -> type[TimeoutProtocol]:
    """The protocol for a server that believes these proxies."""
    return type("ImpatientHere", (TimeoutProtocol,), {"proxies": proxies})
