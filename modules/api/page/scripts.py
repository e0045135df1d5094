"""The endpoints of scripts: what can vary, one's own scripts and their cells, and their grid pictures.

A script is begun by the page's own form (`modules.ui`), which knows how its fields are read, or by A1111's API.
"""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from modules.api.error_responses import caller
from modules.api.page.jobs import exact, missing
from modules.api.page.queue import json_object
from modules.app import App
from modules.errors import RequestError, without_folders
from modules.images import files
from modules.images.encoding import MEDIA_TYPES
from modules.queue.scripts import StoredRun
from modules.scripts.detectors import DETECTORS
from modules.scripts.plan import TITLES
from modules.scripts.views import RunView


def script_endpoints(app: App) -> APIRouter:
    """`/internal/scripts`."""
    router = APIRouter(include_in_schema=False)
    _looking(router, app)
    _changing(router, app)
    return router


def _looking(router: APIRouter, app: App) -> None:
    """What can vary, and scripts as they are."""

    @router.get("/internal/scripts/axes")
    async def axes(request: Request) -> Response:
        """The axes of an X/Y/Z plot, in A1111's order; `?image=1` those of pictures from a picture.  `choices` are all that can
        be chosen, null where values are typed."""
        image = request.query_params.get("image") == "1"
        found = await anyio.to_thread.run_sync(app.scripts.axes, image)
        return JSONResponse(
            [{"key": one.key, "label": one.label, "kind": one.kind, "choices": choices} for one, choices in found]
        )

    @router.get("/internal/scripts/detectors")
    async def detectors(request: Request) -> Response:
        """The names of what finds details for the detail pass."""
        return JSONResponse([one.name for one in DETECTORS])

    @router.get("/internal/scripts")
    async def scripts(request: Request) -> Response:
        """One's own scripts, newest first, without their cells."""
        found = await anyio.to_thread.run_sync(app.scripts.runs, request.state.user)
        return JSONResponse([_listed(run) for run in found])

    @router.get("/internal/scripts/{run_id}")
    async def script(request: Request, run_id: str) -> Response:
        found = await anyio.to_thread.run_sync(app.scripts.run, run_id, request.state.user)
        return JSONResponse(run_json(found)) if found else missing("script")

    @router.get("/internal/scripts/{run_id}/sheets/{number:int}")
    async def sheet(request: Request, run_id: str, number: int) -> Response:
        """A grid picture, as it was saved.  `?download=1` offers it as a file."""
        found = await anyio.to_thread.run_sync(app.scripts.sheet, run_id, number, request.state.user)
        if found is None:
            return missing("picture")
        path = app.outputs.folder / found["name"]
        if not await anyio.to_thread.run_sync(files.is_ours, path):
            return missing("picture")
        download = request.query_params.get("download") == "1"
        return FileResponse(
            path,
            media_type=MEDIA_TYPES.get(path.suffix, "image/png"),
            filename=path.name,
            content_disposition_type="attachment" if download else "inline",
            headers={"cache-control": "private, no-cache"},
        )


def _changing(router: APIRouter, app: App) -> None:
    """Scripts stopped, cells made again, and what is over forgotten."""

    @router.post("/internal/scripts/{run_id}/cancel")
    async def cancel(request: Request, run_id: str) -> Response:
        """`cancelled` is false for a script that was over already."""
        user = caller(request)
        cancelled = await anyio.to_thread.run_sync(app.scripts.cancel, run_id, user)
        return await _answer(run_id, user, cancelled=cancelled)

    @router.post("/internal/scripts/{run_id}/again")
    async def again(request: Request, run_id: str) -> Response:
        """Body `{"cells": [number, ...]}`: these cells once more; without `cells` all that failed or were cancelled."""
        user, numbers = caller(request), (await json_object(request)).get("cells")
        sound = isinstance(numbers, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in numbers)
        if numbers is not None and not sound:
            raise RequestError("cells: must be a list of the numbers of cells")
        done = await anyio.to_thread.run_sync(app.scripts.again, run_id, user, numbers)
        return await _answer(run_id, user, again=done)

    @router.post("/internal/scripts/{run_id}/remove")
    async def remove(request: Request, run_id: str) -> Response:
        """`removed` is false for a script that is under way: cancel it first.  Pictures stay."""
        user = caller(request)
        removed = await anyio.to_thread.run_sync(app.scripts.remove, run_id, user)
        return JSONResponse({"removed": True}) if removed else await _answer(run_id, user, removed=False)

    async def _answer(run_id: str, user: str, **said: bool) -> Response:
        there = any(said.values()) or await anyio.to_thread.run_sync(app.scripts.run, run_id, user) is not None
        return JSONResponse(said) if there else missing("script")


def _listed(run: StoredRun) -> dict[str, Any]:
    plan = run.plan
    return {
        "id": run.id,
        "title": TITLES.get(str(plan.get("script")), "Script"),
        "state": run.state,
        "created": run.created,
        "prompt": str((plan.get("base") or {}).get("prompt") or "")[:200],
    }


def run_json(run: RunView) -> dict[str, Any]:
    plan = run.plan
    return {
        "id": run.id,
        "title": run.title,
        "script": plan.get("script"),
        "state": run.state,
        "created": run.created,
        "error": without_folders(run.error),
        "drawing": run.drawing,
        "progress": round(run.progress, 4),
        "eta_s": None if run.eta_s is None else round(run.eta_s, 1),
        "done": run.done,
        "columns": plan.get("columns"),
        "rows": plan.get("rows"),
        "sheets": plan.get("sheets"),
        "notes": plan.get("notes") or [],
        "grids": [{**sheet, "url": f"internal/scripts/{run.id}/sheets/{number}"} for number, sheet in enumerate(run.sheets)],
        "cells": [
            {
                "number": cell.number,
                "state": cell.state,
                "job": cell.job,
                "error": without_folders(cell.error),
                "progress": round(cell.progress, 4),
                "pictures": [exact(dict(picture)) for picture in cell.pictures],
            }
            for cell in run.cells
        ],
    }
