"""The header `X-Process-Time` that A1111's API sends with every answer: seconds, as text."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class TimedRoute(APIRoute):
    """A route whose answers say how long they took."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def timed(request: Request) -> Response:
            start = time.monotonic()
            response = await handle(request)
            response.headers["x-process-time"] = f"{time.monotonic() - start:.4f}"
            return response

        return timed
