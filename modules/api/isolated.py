"""Routes of extensions: what one raises is counted as any failure of it, and what is not in use any more is not answered."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from modules.extensions.isolation import ISOLATION, extension_of
from modules.extensions.lines import speaking
from modules.hooks import HOOKS


class IsolatedRoute:
    """The application of one route of the plugin `owner`.

    The server answers 500 where it raises.

    Raises:
        HTTPException: 404, the extension was switched off or disabled since the server was built.
    """

    def __init__(self, app: ASGIApp, owner: str) -> None:
        self._app, self._owner = app, owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not HOOKS.has(self._owner):
            raise HTTPException(404, f"the extension {extension_of(self._owner)} is not in use")
        try:
            with speaking(extension_of(self._owner)):
                await self._app(scope, receive, send)
        except Exception as error:
            ISOLATION.failed(self._owner, "routes", error)
            raise


def isolate(server: FastAPI, before: list[BaseRoute], owner: str) -> None:
    """Isolate the routes of `server` that are not among those `before`."""
    for route in server.router.routes:
        app = getattr(route, "app", None)
        if app is not None and not any(route is one for one in before):
            route.app = IsolatedRoute(app, owner)  # type: ignore[attr-defined]
