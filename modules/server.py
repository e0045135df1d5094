"""One port: our routes, the page, and the program that serves them.

Stands above `ui` and `api`, which do not know each other.  Gradio is imported only when a server is built, so that starting
the engine first lets both happen at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import logging
import socket
import sys
from collections.abc import Callable, Sequence

import uvicorn
from fastapi import FastAPI
from starlette.routing import Mount

from modules.accounts import Accounts, AccountStore
from modules.api.guard.addresses import own_addresses, own_names, url
from modules.api.guard.middleware import AccessConfig
from modules.api.guard.peers import Peers
from modules.api.guard.protocol import timeout_protocol
from modules.api.guard.tls import certificate
from modules.api.server import answer_errors, build_api
from modules.app import App
from modules.errors import SettingsError
from modules.settings import Settings

log = logging.getLogger("atelier")

GOODBYE_SECONDS = 3
"""How long open connections may take to finish after Ctrl-C."""
HANDSHAKE_SECONDS = 10.0
"""How long a TLS handshake may take."""
_M_MMAP_THRESHOLD = -3
MAX_HEAD_BYTES = 64 << 10
"""Of a request's head, before it is even looked at."""
FILES = 65536
"""Open files and connections that the operating system is asked to allow."""


def build_server(app: App, access: AccessConfig | None = None) -> FastAPI:
    """The whole HTTP application.  `app` is neither started nor closed by it; without `access` it is a local instance's."""
    gc.disable()  # what Gradio's import and the page make stays; looking for garbage in it is a twelfth of the time
    try:
        from modules.ui.page import mount_page

        server = mount_page(build_api(app, access), app)
    finally:
        gc.enable()
    for route in server.routes:  # Gradio's application is one of its own, with FastAPI's handlers, which fail at a NaN
        if isinstance(route, Mount) and isinstance(route.app, FastAPI):
            answer_errors(route.app)
    return server


def serve(app: App, accounts: AccountStore | None = None, on_ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve until Ctrl-C or SIGTERM; `on_ready` gets the address once the page can be opened.

    `accounts` is the open accounts file where the settings need one; it stays the caller's to close.

    When open connections are done, the signal is raised anew: Ctrl-C ends in KeyboardInterrupt, SIGTERM in what the caller set.

    Raises:
        SettingsError: the port is taken, the address is not ours, or there is no usable certificate.
    """
    settings = app.settings
    tls = certificate(settings)
    scheme = "https" if tls else "http"
    _allow_many_files()
    _give_memory_back()
    with contextlib.ExitStack() as stack:
        listeners = listen_all(settings.addresses, settings.port)
        for listener in listeners:
            stack.enter_context(listener)
        port = listeners[0].getsockname()[1]
        access = access_config(settings, accounts, public_url(settings, port))
        # asyncio has no other way to say this to a server that it does not open itself; its own patience is a minute.
        asyncio.constants.SSL_HANDSHAKE_TIMEOUT = HANDSHAKE_SECONDS  # type: ignore[attr-defined]
        config = uvicorn.Config(
            build_server(app, access),
            http=timeout_protocol(Peers(access.proxies)),
            ws="none",
            log_level="warning",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GOODBYE_SECONDS,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            ssl_certfile=tls.cert if tls else None,
            ssl_keyfile=tls.key if tls else None,
        )
        here = settings.addresses[0]
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(here, here)
        gc.freeze()  # a full collection walks 365,000 objects that never go away, and holds all requests for 150 ms meanwhile
        _Server(config, lambda: on_ready(url(scheme, shown, port))).run(sockets=listeners)


def access_config(settings: Settings, accounts: AccountStore | None, address: str = "") -> AccessConfig:
    """The access configuration of these settings; `address` is where other machines reach us.

    Raises:
        ValueError: the settings need accounts and there is no accounts file: an open server must never be an omission.
    """
    hosts = {settings.host, *settings.allowed_hosts} - {"0.0.0.0", "::"}
    origins = frozenset(settings.cors_origins)
    if settings.needs_accounts and accounts is None:
        raise ValueError("the settings need accounts, and no accounts file was opened")
    if accounts is None:
        return AccessConfig(hosts=frozenset(hosts), origins=origins, folder=settings.data_dir)
    return AccessConfig(
        hosts=frozenset(hosts.union(own_names())),
        accounts=Accounts(accounts),
        proxies=settings.trusted_proxies,
        origins=origins,
        folder=settings.data_dir,
        address=address,
    )


def public_url(settings: Settings, port: int) -> str:
    """Where other machines reach this one, as far as that can be known; "" when only this machine can."""
    scheme = "https" if settings.tls else "http"
    if settings.loopback_only:
        return f"{scheme}://{settings.allowed_hosts[0]}" if settings.allowed_hosts else ""
    if settings.host not in ("127.0.0.1", "0.0.0.0", "::") and not settings.listen:
        return url(scheme, settings.host, port)
    found = [*settings.allowed_hosts, *own_addresses(), *own_names()]
    return url(scheme, found[0], port) if found else ""


def listen_all(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """A listening socket for each address, all on one port; a machine without IPv6 does without.

    Raises:
        SettingsError: see `listen`.
    """
    listeners = [listen(addresses[0], port)]
    port = listeners[0].getsockname()[1]
    try:
        for address in addresses[1:]:
            if (further := _listen(address, port)) is not None:
                listeners.append(further)
    except SettingsError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def listen(host: str, port: int) -> socket.socket:
    """A listening socket of this address; port 0 takes any free one.

    Raises:
        SettingsError: the port is taken, or the address is not this machine's.
    """
    listener = _listen(host, port)
    if listener is None:
        raise SettingsError(
            f"cannot serve at {host}: this machine has no such address; use --host 127.0.0.1, or --listen for all"
        )
    return listener


def _listen(host: str, port: int) -> socket.socket | None:
    """None when the machine has no such address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener: socket.socket | None = None
    try:
        # With its protocol named: asyncio sets TCP_NODELAY on connections of such sockets only, and without it every call on
        # a kept-alive connection waits 40 ms for the other side's delayed acknowledgement
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if sys.platform != "win32":  # there it would let two programs share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        if listener is not None:
            listener.close()
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return None
        raise SettingsError(
            f"cannot serve at {host}:{port} ({error.strerror}); is another server running there? Choose another with --port"
        ) from error
    return listener


def _give_memory_back() -> None:
    """Let what a large body or picture took go back to the system when it is done.

    glibc raises the size from which it does so with every such block, up to 32 MiB, and then keeps as much (mallopt(3)).
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def _allow_many_files() -> None:
    """Each connection is an open file, and the usual limit of 1024 is soon reached by an attacker."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < want:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (want, hard))


class _Server(uvicorn.Server):
    """Tells when it is up."""

    def __init__(self, config: uvicorn.Config, on_up: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_up = on_up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_up()
