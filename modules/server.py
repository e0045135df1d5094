"""One port: our routes, the page, and the program that serves them.

Stands above `ui` and `api`, which do not know each other.  Gradio is imported only when a server is built, so that starting
the engine first lets both happen at the same time.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from modules.api.server import build_api
from modules.app import App
from modules.errors import SettingsError

log = logging.getLogger("atelier")

GOODBYE_SECONDS = 3
"""How long open connections may take to finish after Ctrl-C."""


def build_server(app: App) -> FastAPI:
    """The whole HTTP application.  `app` is neither started nor closed by it."""
    from modules.ui.page import mount_page

    return mount_page(build_api(app, hosts=[app.settings.host]), app)


def serve(app: App, on_ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve until Ctrl-C or SIGTERM; `on_ready` gets the address once the page can be opened.

    When open connections are done, the signal is raised anew: Ctrl-C ends in KeyboardInterrupt, SIGTERM in what the caller set.

    Raises:
        SettingsError: the port is taken, the address is not ours, or it would let other machines in.
    """
    listener = listen(app.settings.host, app.settings.port)
    with listener:
        config = uvicorn.Config(
            build_server(app),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GOODBYE_SECONDS,
        )
        host, port = listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        _Server(config, lambda: on_ready(url)).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket of this address; port 0 takes any free one."""
    if not _is_loopback(host):
        raise SettingsError(
            f"host {host!r} would let other machines in without a login, and accounts are not built yet; "
            "use 127.0.0.1, and from another machine: ssh -L 7860:127.0.0.1:7860 THIS-MACHINE"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot serve at {host}:{port} ({error.strerror}); is another server running there? Choose another with --port"
        ) from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Server(uvicorn.Server):
    """Tells when it is up."""

    def __init__(self, config: uvicorn.Config, on_up: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_up = on_up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_up()
