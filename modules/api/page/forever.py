"""The endpoints of generate forever, for the page and in our API: what is on, and how it begins and ends."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from modules.api.error_responses import caller
from modules.api.guard.middleware import AccessConfig
from modules.api.page.jobs import exact
from modules.api.page.queue import json_object
from modules.api.schema import error_responses
from modules.api.v1.bodies import job_body
from modules.app import App
from modules.errors import without_folders
from modules.scripts.forever import ForeverView

BASE = "/api/v1/forever"


class ForeverAnswer(BaseModel):
    on: bool
    pictures: int = Field(description="Finished since it began.")
    started: float | None = Field(description="Seconds since 1970; null where nothing was ever on.")
    jobs: list[str] = Field(description="Ids of its jobs that are in the queue: the one that is painted, and the next.")
    prompt: str
    seed: int | str | None = Field(description="That of all its jobs; null where each draws its own.")
    error: str = Field(description="Why it ended by itself, or why nothing is submitted now; empty otherwise.")


def forever_endpoints(app: App, access: AccessConfig) -> APIRouter:
    """`/internal/forever` and `/api/v1/forever`."""
    if access.accounts is not None:
        store = access.accounts.store

        def let_in(user: str) -> bool:
            account = store.account(user)
            return account is not None and not account.disabled and account.role != "viewer"

        app.forever.let_in = let_in
    router = APIRouter()
    _page(router, app)
    _own(router, app)
    return router


def _page(router: APIRouter, app: App) -> None:
    @router.get("/internal/forever", include_in_schema=False)
    async def forever(request: Request) -> Response:
        """What is on, or was on last."""
        return JSONResponse(_json(await anyio.to_thread.run_sync(app.forever.view, request.state.user)))

    @router.post("/internal/forever/stop", include_in_schema=False)
    async def stop(request: Request) -> Response:
        """`stopped` is false where nothing was on; asking twice does no harm."""
        return JSONResponse({"stopped": await anyio.to_thread.run_sync(app.forever.stop, caller(request))})


def _own(router: APIRouter, app: App) -> None:
    described: dict[str, Any] = {"tags": ["Atelier"], "responses": error_responses(), "response_model": ForeverAnswer}

    @router.get(BASE, **described)
    async def shown(request: Request) -> Any:
        """What you generate forever, or did last."""
        return _json(await anyio.to_thread.run_sync(app.forever.view, request.state.user))

    @router.post(BASE, openapi_extra=job_body(key=False), **described)
    async def start(request: Request) -> Any:
        """Submit a job, as `/api/v1/jobs` takes it, again and again, each with a seed of its own unless `seed` is given.

        It takes the place of what is on, goes on until `/api/v1/forever/stop`, also over a restart, and ends by itself when a
        job fails.
        """
        user, fields = caller(request), await json_object(request)
        return _json(await anyio.to_thread.run_sync(app.forever.start, fields, user))

    @router.post(f"{BASE}/stop", **described)
    async def stop(request: Request) -> Any:
        """Submit no more; what is painted is finished."""
        user = caller(request)
        await anyio.to_thread.run_sync(app.forever.stop, user)
        return _json(await anyio.to_thread.run_sync(app.forever.view, user))


def _json(view: ForeverView | None) -> dict[str, Any]:
    if view is None:
        return {"on": False, "pictures": 0, "started": None, "jobs": [], "prompt": "", "seed": None, "error": ""}
    said = {"prompt": view.prompt[:200], **exact({"seed": view.seed}), "error": without_folders(view.error)}
    return {"on": view.on, "pictures": view.pictures, "started": view.started, "jobs": list(view.jobs), **said}
