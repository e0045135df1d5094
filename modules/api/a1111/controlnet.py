"""The list routes of the ControlNet extension, which clients call when they start: nothing of it is built, and they say so.

Facts: sd-webui-controlnet, `scripts/api.py`, external code API version 2.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from modules.api.a1111.timing import TimedRoute
from modules.api.guard.bodies import read_json
from modules.errors import RequestError

API_VERSION = 2
"""Of the extension's interface; some clients compare it as a number."""


def controlnet_endpoints() -> APIRouter:
    router = APIRouter(prefix="/controlnet", route_class=TimedRoute)

    @router.get("/version", response_model=dict[str, int])
    async def version() -> Any:
        return {"version": API_VERSION}

    @router.get("/model_list", response_model=dict[str, list[str]])
    async def model_list() -> Any:
        """Empty: no ControlNet is built in."""
        return {"model_list": []}

    @router.get("/module_list", response_model=dict[str, Any])
    async def module_list() -> Any:
        """Empty: no preprocessor is built in."""
        return {"module_list": [], "module_detail": {}}

    @router.get("/control_types", response_model=dict[str, Any])
    async def control_types() -> Any:
        """Empty, as both lists."""
        return {"control_types": {}}

    @router.get("/settings", response_model=dict[str, int])
    async def settings() -> Any:
        """How many units a call may have."""
        return {"control_net_unit_count": 0}

    @router.post("/detect")
    async def detect(request: Request) -> None:
        """Not built: always refused, with the reason."""
        await read_json(request)
        raise RequestError("controlnet/detect: there are no preprocessors here")

    return router
