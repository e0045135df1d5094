"""Connections for downloads: redirects, the token, private networks.  Standard library only.

Redirects are bounded and never lead from https to http; the token goes to the hub's own origin alone.  Where private networks
are forbidden, the address that was checked is the one that is connected to.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from modules import __version__
from modules.errors import AtelierError, RequestError
from modules.model_tools.origins import endpoint, origin, shown

REDIRECTS = 5
TIMEOUT = 30.0
"""Seconds without a byte after which a connection is given up."""


class Unreachable(AtelierError):
    """The other side cannot be reached, or the connection broke; what has come stays."""


class Broken(Exception):
    """In the middle of a file; another try may go on there."""


class Changed(Exception):
    """What is there is no beginning of what comes."""


class Opener:
    """Opens addresses.

    Args:
        token: for the hub's own origin, "" without one.
        public_only: refuse addresses of this machine and of private networks, but for the hub's own origin.
    """

    def __init__(self, token: str, public_only: bool) -> None:
        self._token, self._hub, self._public_only = token, origin(endpoint()), public_only
        self._director = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            _Plain(self._guarded),
            _Secure(self._guarded),
            urllib.request.HTTPDefaultErrorHandler(),
            _Redirects(self._authorise),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.UnknownHandler(),
        ):
            self._director.add_handler(handler)

    def open(self, url: str, headers: dict[str, str]) -> Any:
        """The reply to a GET.

        Raises:
            RequestError: it is refused, Unreachable: this machine is meant to be offline, Broken, Changed: as they say.
        """
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise Unreachable("HF_HUB_OFFLINE is set, so nothing is downloaded; unset it to go online")
        request = urllib.request.Request(url, headers={"User-Agent": f"atelier/{__version__}", **headers})
        self._authorise(request)
        try:
            return self._director.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416:
                    raise Changed from None
                raise RequestError(_refused(url, error.code, error.headers.get("X-Error-Code", ""))) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, AtelierError):
                raise error.reason from None
            raise Broken(reason_of(error.reason)) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Broken(reason_of(error)) from None

    def _authorise(self, request: urllib.request.Request) -> None:
        if self._token and origin(request.full_url) == self._hub:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")

    def _guarded(self, request: urllib.request.Request) -> bool:
        """Whether the connection for this request must lead to a public address.  A proxy is where its administrator put it."""
        proxied = request.has_proxy() or bool(getattr(request, "_tunnel_host", None))
        return self._public_only and not proxied and origin(request.full_url) != self._hub


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = REDIRECTS

    def __init__(self, authorise: Callable[[urllib.request.Request], None]) -> None:
        self._authorise = authorise

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        target = urljoin(req.full_url, newurl)
        try:
            parts = urlsplit(target)
            _ = parts.port
        except ValueError:
            raise RequestError(f"{shown(req.full_url)} leads to an address that makes no sense") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise RequestError(f"{shown(req.full_url)} leads to {parts.scheme or 'no'} address; only https is followed")
        if urlsplit(req.full_url).scheme == "https" and parts.scheme == "http":
            raise RequestError(f"{shown(req.full_url)} leads from https to http, which is not followed")
        visited = getattr(req, "redirect_dict", {})
        if sum(visited.values()) >= REDIRECTS:
            raise RequestError(f"{shown(req.full_url)} leads on more than {REDIRECTS} times; use the file's own link")
        made = super().redirect_request(req, fp, code, msg, headers, target)
        if made is not None:
            self._authorise(made)
        return made


def _public(address: tuple[str, int], timeout: Any = None, source: Any = None) -> socket.socket:
    """A connection to a public address of a host; it is the checked address that is connected to."""
    host, port = address[:2]
    refused: Exception | None = None
    for *_, found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        ip = ipaddress.ip_address(str(found[0]).partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if not ip.is_global or ip.is_multicast:
            raise RequestError(f"{host} is in a private network, into which a shared server does not reach")
        try:
            return socket.create_connection((str(ip), port), timeout, source)
        except OSError as error:
            refused = error
    raise refused or OSError("it has no address")


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, guarded: Callable[[urllib.request.Request], bool]) -> None:
        super().__init__()
        self._guarded = guarded

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_to_public(http.client.HTTPConnection) if self._guarded(req) else http.client.HTTPConnection, req)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, guarded: Callable[[urllib.request.Request], bool]) -> None:
        super().__init__()
        self._guarded = guarded

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        kind = _to_public(http.client.HTTPSConnection) if self._guarded(req) else http.client.HTTPSConnection
        return self.do_open(kind, req)


def _to_public(kind: type[http.client.HTTPConnection]) -> Any:
    def connection(*arguments: Any, **options: Any) -> http.client.HTTPConnection:
        made = kind(*arguments, **options)
        made._create_connection = _public  # type: ignore[attr-defined]
        return made

    return connection


def _refused(url: str, code: int, kind: str) -> str:
    where = shown(url)
    if kind == "GatedRepo":
        return gated(where)
    if code in (401, 403):
        return f"{where} is not given to everybody ({code}): set HF_TOKEN for a repository, or use a link with a token"
    if code in (404, 410):
        return f"{where} is not there ({code}); check the name"
    if code == 429:
        return f"{where} has been asked too often (429); what has come stays, start it again later"
    return f"{where} answered {code}; what has come stays, start it again later"


def gated(where: str) -> str:
    return (
        f"{where} is gated: accept its terms on its page with your account there, and set HF_TOKEN to a token of that account"
    )


def reason_of(error: Any) -> str:
    if isinstance(error, TimeoutError | socket.timeout):
        return f"nothing came for {TIMEOUT:.0f} seconds"
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()[:100]
