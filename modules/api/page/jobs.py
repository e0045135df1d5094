"""The endpoints of the page: jobs, previews, checkpoints, the engine's state.

Handlers are async; what asks the job list does so on a thread, for SQLite may be waiting for the disk.  A job or picture that
is not the caller's is answered like one that does not exist.  The guard has already decided who the caller is
(`request.state.user`).
"""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from modules.api.checkpoints import checkpoint_json
from modules.api.error_responses import caller
from modules.api.json_writer import json_text
from modules.app import App
from modules.checkpoints.upscalers import no_files
from modules.errors import without_folders
from modules.jobs.views import EngineState, JobView, PictureView, changed_settings, painted_words
from modules.request import EXTENSIONS, GenerationRequest, Upscaling
from modules.roles import as_role_fields

MAX_JOBS = 200
"""Jobs in one answer of the list."""
MAX_LIST_BYTES = 2 << 20
"""Of JSON in one answer of the list: prompts may be long.  What does not fit comes with the next page."""
MAX_SEARCH = 400
"""Characters of a search."""


def job_endpoints(app: App) -> APIRouter:
    """`/internal/*` for the page, and `/health` for monitoring."""
    router = APIRouter(include_in_schema=False)
    _state(router, app)
    _looking(router, app)
    _ending(router, app)
    return router


def _state(router: APIRouter, app: App) -> None:
    """Of the program: engines and checkpoints."""

    @router.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok", "engine": app.engine().state})

    @router.get("/internal/engine")
    async def engine() -> Response:
        return JSONResponse(engine_json(app.engine()))

    @router.get("/internal/checkpoints")
    async def checkpoints() -> Response:
        found = await anyio.to_thread.run_sync(app.checkpoints)
        return JSONResponse([checkpoint_json(info) for info in found])

    @router.get("/internal/upscalers")
    async def upscalers() -> Response:
        """What enlarges pictures: filters, which have no `kind`, and the upscalers in files that can be used."""
        found = await anyio.to_thread.run_sync(app.upscalers)
        filters = [{"name": name, "kind": "", "scale": 0} for name in no_files()]
        files = [{"name": info.name, "kind": info.kind, "scale": info.scale} for info in found if not info.problem]
        return JSONResponse(filters + files)


def _looking(router: APIRouter, app: App) -> None:
    """Jobs as they are, and what a picture that is being made looks like."""

    @router.get("/internal/jobs")
    async def jobs(request: Request) -> Response:
        """One's own jobs, newest first.  `before` is the last job of the page before, `search` are words of prompts.

        A page may be shorter than `limit`; only an empty one is the end.
        """
        asked, user = request.query_params, request.state.user
        number = asked.get("limit", "50")
        limit = min(int(number), MAX_JOBS) if number.isascii() and number.isdecimal() and len(number) < 10 else 50
        before, words = asked.get("before", "")[:100], asked.get("search", "")[:MAX_SEARCH]
        page = await anyio.to_thread.run_sync(lambda: _bounded([job_json(job) for job in app.jobs(user, limit, before, words)]))
        return Response(page, media_type="application/json")

    @router.get("/internal/jobs/{job_id}")
    async def job(request: Request, job_id: str) -> Response:
        found = await anyio.to_thread.run_sync(app.job, job_id, request.state.user)
        return JSONResponse(job_json(found) | {"engine": engine_json(app.engine())}) if found else missing("job")

    @router.get("/internal/jobs/{job_id}/preview")
    async def preview(request: Request, job_id: str) -> Response:
        """204 while there is no newer preview than `rev`.  Asking is what keeps previews being made."""
        user = request.state.user
        found = await anyio.to_thread.run_sync(app.preview, job_id, user)
        if found is None:
            there = await anyio.to_thread.run_sync(app.job, job_id, user)
            return Response(status_code=204) if there else missing("job")
        if request.query_params.get("rev") == str(found.rev):
            return Response(status_code=204)
        return Response(found.jpeg, media_type="image/jpeg", headers={"x-preview-rev": str(found.rev)})


def _ending(router: APIRouter, app: App) -> None:
    """Jobs stopped, and forgotten with their files."""

    @router.post("/internal/jobs/{job_id}/cancel")
    async def cancel(request: Request, job_id: str) -> Response:
        """`cancelled` is false for a job that was over already; asking twice does no harm."""
        user = request.state.user
        cancelled = await anyio.to_thread.run_sync(app.cancel, job_id, user)
        there = cancelled or await anyio.to_thread.run_sync(app.job, job_id, user) is not None
        return JSONResponse({"cancelled": cancelled}) if there else missing("job")

    @router.post("/internal/jobs/{job_id}/skip")
    async def skip(request: Request, job_id: str) -> Response:
        """Finish the picture that is painted now with the step that runs.  `skipped` is false where none is."""
        user = caller(request)
        skipped = await anyio.to_thread.run_sync(app.skip, job_id, user)
        there = skipped or await anyio.to_thread.run_sync(app.job, job_id, user) is not None
        return JSONResponse({"skipped": skipped}) if there else missing("job")

    @router.post("/internal/jobs/{job_id}/interrupt")
    async def interrupt(request: Request, job_id: str) -> Response:
        """Cancel, but keep what is painted now, unfinished as it is.  `interrupted` is false for a job that was over."""
        user = caller(request)
        interrupted = await anyio.to_thread.run_sync(app.interrupt, job_id, user)
        there = interrupted or await anyio.to_thread.run_sync(app.job, job_id, user) is not None
        return JSONResponse({"interrupted": interrupted}) if there else missing("job")

    @router.post("/internal/jobs/{job_id}/delete")
    async def delete_job(request: Request, job_id: str) -> Response:
        """The job with its pictures' files, for good.  `deleted` is false for a job that is not over: cancel it first."""
        user = caller(request)
        deleted = await anyio.to_thread.run_sync(app.delete, job_id, user)
        there = deleted or await anyio.to_thread.run_sync(app.job, job_id, user) is not None
        return JSONResponse({"deleted": deleted}) if there else missing("job")


def _bounded(jobs: list[dict[str, Any]]) -> bytes:
    """A JSON list of the first of these that `MAX_LIST_BYTES` hold, and of one at least."""
    parts: list[bytes] = []
    for job in jobs:
        part = json_text(job, ascii_only=False, compact=True).encode("utf-8", "replace")
        if parts and sum(map(len, parts)) + len(part) > MAX_LIST_BYTES:
            break
        parts.append(part)
    return b"[" + b",".join(parts) + b"]"


def job_json(job: JobView) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state,
        "position": job.position,
        "count": job.count,
        "done": job.done,
        "step": job.step,
        "steps": job.steps,
        "stage": job.stage,
        "stages": job.stages,
        "stage_step": job.stage_step,
        "stage_steps": job.stage_steps,
        "progress": round(job.progress, 4),
        "eta_s": None if job.eta_s is None else round(job.eta_s, 1),
        "rev": job.rev,
        "error": without_folders(job.error),
        "doing": without_folders(job.doing),
        "held": without_folders(job.held),
        "paused": job.paused,
        "created": job.created,
        "request": exact({**as_role_fields(_fields(job.request)), **_extensions(job.request)}),
        "settings": changed_settings(job.request),
        "pictures": [picture_json(picture) for picture in job.pictures],
    }


def _fields(request: GenerationRequest) -> dict[str, Any]:
    """The request's fields.  One that only enlarges also has what the page shows of any picture: its source's prompts."""
    fields = request.model_dump(mode="json")
    if not isinstance(request, Upscaling):
        return fields
    prompt, negative = painted_words(fields.pop("source_text")) or ("", "")
    return {**fields, "prompt": prompt, "negative_prompt": negative, "styles": []}


def _extensions(request: GenerationRequest) -> dict[str, Any]:
    """The options of extensions, where there are any to set in a form: a request without them sets all to their defaults."""
    return {"extensions": request.extensions} if EXTENSIONS else {}


def picture_json(picture: PictureView) -> dict[str, Any]:
    """`prompt` and `negative_prompt` are what was encoded, with styles and drawn wildcards; None where that is not known."""
    prompt, negative = painted_words(picture.infotext) or (None, None)
    return {
        "index": picture.index,
        "name": picture.name,
        "infotext": picture.infotext,
        "prompt": prompt,
        "negative_prompt": negative,
        **exact({"seed": picture.seed}),
        "width": picture.width,
        "height": picture.height,
    }


def exact(fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` as a page can hold them: JavaScript's numbers have 53 bits, so larger whole numbers (seeds) go as texts.

    Requests take them back as they are.

    >>> exact({"seed": 2**53, "steps": 20})
    {'seed': '9007199254740992', 'steps': 20}
    """
    large = {name: str(value) for name, value in fields.items() if isinstance(value, int) and abs(value) >= 2**53}
    return fields | large


def engine_json(state: EngineState) -> dict[str, Any]:
    return {
        "state": state.state,
        "message": without_folders(state.message),
        "device": state.device,
        "dtype": state.dtype,
        "attention": state.attention,
        "kernels": state.kernels,
        "accelerator": state.accelerator,
        "weights": state.weights,
        "workers": [engine_json(worker) for worker in state.workers],
    }


def missing(kind: str) -> Response:
    """The answer about a "job" or a "picture" that is not here, or not the caller's."""
    return JSONResponse({"error": f"There is no such {kind} here (any more)."}, status_code=404)
