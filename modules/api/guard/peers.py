"""The client's address and scheme, and which proxies' forwarded headers are believed.

A header of a proxy counts only when the connection comes from an address that was named as trusted; else anybody could write
one.  What remains of such headers never gets past the guard.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

_CLAIMS = re.compile(rb"forwarded|x-forwarded-.*|x-original-.*|x-real-ip|x-client-ip|true-client-ip|cf-connecting-ip|via")
"""Headers by which a proxy says that it is one."""
_NEVER_INSIDE = re.compile(rb"x-gradio-server|x-rewrite-url")
"""Headers by which a caller could change what the application takes its own address for."""


@dataclass(frozen=True)
class Peer:
    """`address` is an IP address, "" when unknown; `scheme` is what the browser speaks, "http" or "https"."""

    address: str
    scheme: str


class Peers:
    """Finds the peer of a connection.  `proxies` are the networks whose X-Forwarded-For and X-Forwarded-Proto are believed."""

    def __init__(self, proxies: Iterable[str] = ()) -> None:
        self._proxies = [ipaddress.ip_network(network) for network in proxies]

    def look(self, scope: Scope) -> Peer:
        client, scheme = scope.get("client"), str(scope.get("scheme", "http"))
        address = plain(client[0]) if client else ""
        if not self.trusts(address):
            return Peer(address, scheme)
        headers = Headers(scope=scope)
        # Each proxy adds whom it got the request from at the right end; the first that is none of ours is who asks.
        for hop in reversed(",".join(headers.getlist("x-forwarded-for")).split(",")):
            if not plain(hop.strip()):
                break
            address = plain(hop.strip())
            if not self.trusts(address):
                break
        proto = headers.get("x-forwarded-proto", "").strip().lower()
        return Peer(address, proto if proto in ("http", "https") else scheme)

    def trusts(self, address: str) -> bool:
        """Is this one of the proxies?"""
        address = plain(address)
        return bool(address) and any(ipaddress.ip_address(address) in network for network in self._proxies)


def plain(text: str) -> str:
    """An IP address as it is compared, "" when it is none: without zone, port brackets or IPv4 in IPv6's clothes.

    >>> plain("::ffff:10.0.0.1"), plain("[fe80::1%eth0]"), plain("a name")
    ('10.0.0.1', 'fe80::1', '')
    """
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def looks_proxied(scope: Scope) -> bool:
    """Whether a proxy has passed this request on.  nginx speaks HTTP/1.0 to whom it proxies unless told otherwise."""
    return scope.get("http_version") == "1.0" or any(_CLAIMS.fullmatch(name) for name, _ in scope["headers"])


def without_claims(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The headers without what a proxy could have said."""
    return [pair for pair in scope["headers"] if not _CLAIMS.fullmatch(pair[0]) and not _NEVER_INSIDE.fullmatch(pair[0])]
