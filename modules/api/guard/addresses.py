"""Under which names and addresses other machines reach this one."""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import suppress


def own_names() -> list[str]:
    """What this machine calls itself, also as other machines find it by mDNS."""
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    found = [name, short, f"{short}.local"]
    return [each for each in dict.fromkeys(found) if re.fullmatch(r"[a-z0-9._-]+", each) and each != "localhost"]


def own_addresses() -> list[str]:
    """The addresses by which the network knows this machine, the most likely first; none when there is no network."""
    found: list[str] = []
    # A datagram socket that is "connected" sends nothing, but knows from which address it would.  These are documentation
    # addresses (RFC 5737 and RFC 3849), so nobody would hear it anyway.
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            found.append(probe.getsockname()[0])
    with suppress(OSError):
        found += [str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)]
    return [address for address in dict.fromkeys(found) if _reachable(address)]


def _reachable(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    return not (address.is_loopback or address.is_unspecified or address.is_link_local)


def url(scheme: str, host: str, port: int) -> str:
    """
    >>> url("http", "::1", 7860), url("https", "gpu.lan", 443)
    ('http://[::1]:7860', 'https://gpu.lan')
    """
    shown = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{shown}" if port == usual else f"{scheme}://{shown}:{port}"
