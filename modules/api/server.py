"""The HTTP application without its pages: our routes, served scripts and styles, plain errors, and the guard around it all.

Pages are mounted later, at "/" and last, because a route that is added behind a mount at "/" is never reached.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from modules import __version__
from modules.api.guard import Guard
from modules.api.identity import BrowserIdentity, Identifier
from modules.api.internal import routes
from modules.api.prompts import prompt_routes
from modules.api.queue import queue_routes
from modules.api.sources import source_routes
from modules.app import App
from modules.errors import AtelierError, EngineError, LimitError, OutputError, RequestError

ErrorHandler = Callable[[Request, Exception], Awaitable[Response]]


def build_api(app: App, hosts: Iterable[str] = (), identifier: Identifier | None = None) -> FastAPI:
    """Our routes behind the guard.

    Args:
        hosts: further names under which the server may be reached; loopback names always may.
        identifier: who a request comes from; each browser is its own user unless told otherwise.
    """
    server = FastAPI(title="Atelier", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    server.include_router(routes(app))
    server.include_router(queue_routes(app))
    server.include_router(prompt_routes(app))
    server.include_router(source_routes(app))
    for kind, handler in _ERRORS.items():
        server.add_exception_handler(kind, handler)
    server.add_middleware(Guard, identifier=identifier or BrowserIdentity(), hosts=tuple(hosts))
    return server


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, status_code=error.status_code, headers=error.headers)


async def _invalid(_: Request, __: Exception) -> Response:
    """Never echoes what was sent: FastAPI's own handler does, and fails itself on NaN and lone surrogates."""
    return JSONResponse({"error": "The request is not of the expected form."}, status_code=422)


async def _ours(_: Request, error: Exception) -> Response:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    headers = {"retry-after": str(math.ceil(error.retry_after))} if isinstance(error, LimitError) else {}
    return JSONResponse({"error": str(error)}, status_code=status, headers=headers)


_STATUS: dict[type[Exception], int] = {RequestError: 422, LimitError: 429, EngineError: 503, OutputError: 507}


_ERRORS: dict[type[Exception], ErrorHandler] = {
    HTTPException: _http_error,
    RequestValidationError: _invalid,
    AtelierError: _ours,
}
