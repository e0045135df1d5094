"""The endpoints of the model tools, for administrators: what can be worked on, and one's own runs.

Names mean files of the models folders as they are listed; no path comes in or goes out.
"""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from modules.api.error_responses import caller, only_administrators
from modules.api.page.jobs import missing
from modules.api.page.queue import json_object
from modules.app import App
from modules.errors import RequestError, without_folders
from modules.model_tools.look import look
from modules.model_tools.places import Convertible
from modules.model_tools.runs import RunView


def model_tool_endpoints(app: App) -> APIRouter:
    """`/internal/model-tools`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/internal/model-tools")
    async def runs(request: Request) -> Response:
        """One's own runs, newest first, and how many unfinished ones others have."""
        user = _administrator(request)

        def found() -> dict[str, Any]:
            tools = app.model_tools
            return {"runs": [run_json(run) for run in tools.runs(user)], "others": tools.others(user)}

        return JSONResponse(await anyio.to_thread.run_sync(found))

    @router.get("/internal/model-tools/sources")
    async def sources(request: Request) -> Response:
        """Names of what the tools can work on: `checkpoints`, `loras`, `vaes`, `pickles`, diffusers' `folders`."""
        _administrator(request)
        return JSONResponse(await anyio.to_thread.run_sync(_sources, app))

    @router.post("/internal/model-tools")
    async def start(request: Request) -> Response:
        """A run from a JSON object, see `model_tools.requests`."""
        user = _administrator(request)
        fields = await json_object(request)
        run = await anyio.to_thread.run_sync(app.model_tools.start, fields, user)
        return JSONResponse(run_json(run), status_code=201)

    @router.post("/internal/model-tools/look")
    async def look_into(request: Request) -> Response:
        """What is in the repository that a JSON object's `source` names, to choose from; see `model_tools.look`."""
        _administrator(request)
        source = (await json_object(request)).get("source")
        if not isinstance(source, str):
            raise RequestError("source: is needed, as text")
        return JSONResponse(await anyio.to_thread.run_sync(look, source))

    @router.post("/internal/model-tools/{run_id}/cancel")
    async def cancel(request: Request, run_id: str) -> Response:
        """`cancelled` is false for a run that was over already."""
        user = _administrator(request)
        cancelled = await anyio.to_thread.run_sync(app.model_tools.cancel, run_id, user)
        there = cancelled or await anyio.to_thread.run_sync(app.model_tools.run, run_id, user) is not None
        return JSONResponse({"cancelled": cancelled}) if there else missing("run")

    @router.post("/internal/model-tools/{run_id}/forget")
    async def forget(request: Request, run_id: str) -> Response:
        """`forgotten` is false for a run that is not over: cancel it first."""
        user = _administrator(request)
        forgotten = await anyio.to_thread.run_sync(app.model_tools.forget, run_id, user)
        there = forgotten or await anyio.to_thread.run_sync(app.model_tools.run, run_id, user) is not None
        return JSONResponse({"forgotten": forgotten}) if there else missing("run")

    return router


def _administrator(request: Request) -> str:
    """
    Raises:
        HTTPException: 403, the caller is no administrator; the guard has said so before.
        RequestError: nobody knows who asks.
    """
    only_administrators(request)
    return caller(request)


def _sources(app: App) -> dict[str, Any]:
    places = app.model_tools.places
    return {
        "checkpoints": [{"name": info.name, "family": info.family} for info in app.checkpoints() if not info.problem],
        "loras": places.loras(),
        "vaes": sorted(places.vaes(), key=str.casefold),
        "pickles": [convertible_json(each) for each in places.pickles()],
        "folders": [convertible_json(each) for each in places.diffusers()],
    }


def convertible_json(each: Convertible) -> dict[str, Any]:
    return {"name": each.name, "size": each.size, "converted": each.converted}


def run_json(run: RunView) -> dict[str, Any]:
    return {
        "id": run.id,
        "tool": run.request.tool,
        "title": run.request.title,
        "request": run.request.model_dump(),
        "state": run.state,
        "created": run.created,
        "finished": run.finished,
        "progress": round(run.progress, 4),
        "doing": without_folders(run.doing),
        "error": without_folders(run.error),
        "file": run.file,
        "notes": [without_folders(note) for note in run.notes],
    }
