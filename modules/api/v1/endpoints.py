"""The native API, `/api/v1`: submit a job and go away; list, watch and cancel one's own; fetch pictures; what there is.

Small on purpose, and ours: fields are those of `modules.request`, nothing waits for a picture, and a job that is not the
caller's is answered like one that does not exist.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from modules.api.checkpoints import checkpoint_json
from modules.api.error_responses import caller
from modules.api.extensions import options_schema
from modules.api.guard.bodies import read_json
from modules.api.limits import DECODERS, Limits, limits_of
from modules.api.schema import error_responses
from modules.api.streams import Streams
from modules.api.v1.answers import (
    EstimateAnswer,
    ExtensionAnswer,
    JobAnswer,
    JobList,
    ModelAnswer,
    ModelFileList,
    SamplerAnswer,
    ScheduleAnswer,
    UploadAnswer,
    job_answer,
)
from modules.api.v1.bodies import job_body, picture_body
from modules.app import App
from modules.checkpoints.hashes import known_sha256
from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import SCHEDULES
from modules.errors import RequestError
from modules.images import files
from modules.jobs.estimates import quote_json
from modules.jobs.views import JobView, PictureView
from modules.model_library.library import MAX_PAGE as MAX_MODELS
from modules.model_library.library import MAX_QUERY
from modules.model_library.library import Query as ModelQuery

MAX_PAGE = 200
"""Jobs in one answer of the list."""
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".avif": "image/avif"}


def v1_endpoints(app: App) -> APIRouter:
    """`/api/v1/*`."""
    router = APIRouter(prefix="/api/v1", tags=["Atelier"], responses=error_responses())
    _jobs(router, app)
    _events(router, app)
    _estimates(router, app)
    _pictures(router, app)
    _lists(router, app)
    return router


def _found(app: App, job_id: str, user: str) -> JobView:
    job = app.job(job_id, user)
    if job is None:
        raise HTTPException(404, "There is no such job here (any more).")
    return job


def _jobs(router: APIRouter, app: App) -> None:
    found = partial(_found, app)

    @router.post("/jobs", status_code=201, response_model=JobAnswer, openapi_extra=job_body())
    async def submit(request: Request) -> Any:
        """Submit a job.  It is on disk when this answers, and survives anything.

        Fields that are left out have the checkpoint's own defaults.  With a header `Idempotency-Key`, the same key again is the
        same job, whatever became of the first answer; with another body it is refused (422).
        """
        user = caller(request)
        if not await request.body():
            raise RequestError('a job is a JSON object of fields, such as {"prompt": "a cat"}; the request has no body')
        fields = await read_json(request)
        key = request.headers.get("idempotency-key", "")
        job = await anyio.to_thread.run_sync(lambda: app.submit(fields, user, key, exact=True))
        return job_answer(job)

    @router.get("/jobs", response_model=JobList)
    async def jobs(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
        cursor: Annotated[str, Query(max_length=100, description="`next` of the page before.")] = "",
    ) -> Any:
        """Your jobs, newest first."""
        user = request.state.user
        views = await anyio.to_thread.run_sync(lambda: app.jobs(user, limit + 1, cursor))
        more = len(views) > limit
        page = views[:limit]
        return {"jobs": [job_answer(view) for view in page], "next": page[-1].id if more else None}

    @router.get("/jobs/{job_id}", response_model=JobAnswer)
    async def job(request: Request, job_id: str) -> Any:
        """One of your jobs."""
        return job_answer(found(job_id, request.state.user))

    @router.post("/jobs/{job_id}/cancel", response_model=JobAnswer)
    async def cancel(request: Request, job_id: str) -> Any:
        """Stop it; what is finished stays.  Of a job that is over, nothing changes."""
        user = caller(request)
        await anyio.to_thread.run_sync(app.cancel, job_id, user)
        return job_answer(found(job_id, user))

    @router.post("/jobs/{job_id}/skip", response_model=JobAnswer)
    async def skip(request: Request, job_id: str) -> Any:
        """Finish the picture that is painted now with the step that runs, and go on with the next one.  Where none is painted,
        nothing changes."""
        user = caller(request)
        await anyio.to_thread.run_sync(app.skip, job_id, user)
        return job_answer(found(job_id, user))

    @router.post("/jobs/{job_id}/interrupt", response_model=JobAnswer)
    async def interrupt(request: Request, job_id: str) -> Any:
        """Finish all pictures that are painted now with the step that runs, and begin no others.  A job of which nothing is
        painted yet is cancelled; of one that is over, nothing changes."""
        user = caller(request)
        await anyio.to_thread.run_sync(app.interrupt, job_id, user)
        return job_answer(found(job_id, user))

    @router.post("/jobs/{job_id}/retry", response_model=JobAnswer)
    async def retry(request: Request, job_id: str) -> Any:
        """Queue a failed or cancelled job again, for the pictures that it lacks.  Of any other job, nothing changes."""
        user = caller(request)
        await anyio.to_thread.run_sync(app.retry, job_id, user)
        return job_answer(found(job_id, user))


def _events(router: APIRouter, app: App) -> None:
    streams = Streams(app, job_answer)

    @router.get(
        "/jobs/{job_id}/events",
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {}}, "description": "Events `job`, each with the job as JSON."}},
    )
    async def events(request: Request, job_id: str) -> Response:
        """The job as it changes, as server-sent events; ends when it is over."""
        user = caller(request)
        _found(app, job_id, user)
        return streams.answer(user, job_id)


def _estimates(router: APIRouter, app: App) -> None:
    @router.post("/estimate", response_model=EstimateAnswer, openapi_extra=job_body(key=False))
    async def estimate(request: Request) -> Any:
        """What a job with these fields would take of time and memory; nothing is begun.  What enlarging takes depends on the
        picture's size, which `picture` among the fields says: [width, height]."""
        caller(request)
        fields = await read_json(request)
        return quote_json(await anyio.to_thread.run_sync(app.quote, fields))


def _pictures(router: APIRouter, app: App) -> None:
    few = anyio.CapacityLimiter(DECODERS)

    async def found(request: Request, job_id: str, index: int) -> PictureView:
        picture = app.picture(job_id, index, request.state.user)
        if picture is None or not await anyio.to_thread.run_sync(files.is_ours, picture.path):
            raise HTTPException(404, "There is no such picture here (any more).")
        return picture

    @router.get(
        "/jobs/{job_id}/pictures/{index}",
        response_class=FileResponse,
        responses={200: {"content": {"image/png": {}}, "description": "The file as it was saved."}},
    )
    async def picture(request: Request, job_id: str, index: int) -> Response:
        """A finished picture, with its text inside."""
        there = await found(request, job_id, index)
        return FileResponse(
            there.path,
            media_type=TYPES.get(there.path.suffix.lower(), "application/octet-stream"),
            filename=there.name,
            content_disposition_type="inline",
            headers={"cache-control": "private, no-cache"},
        )

    @router.get(
        "/jobs/{job_id}/pictures/{index}/infotext",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The text."}},
    )
    async def infotext(request: Request, job_id: str, index: int) -> Response:
        """A1111's parameters text of a finished picture."""
        return PlainTextResponse((await found(request, job_id, index)).infotext)

    @router.post("/sources", status_code=201, response_model=UploadAnswer, openapi_extra=picture_body())
    async def keep(request: Request) -> Any:
        """Send a picture, or a mask, for jobs to start from: the file itself is the body."""
        user = caller(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not kind.startswith("image/") and kind != "application/octet-stream":
            raise HTTPException(415, "send the picture itself, with a content type image/png or the like")
        data = await request.body()
        kept = await anyio.to_thread.run_sync(lambda: app.keep_upload(data, user), limiter=few)
        return {"id": kept.id, "width": kept.width, "height": kept.height}


def _lists(router: APIRouter, app: App) -> None:
    @router.get("/models", response_model=list[ModelAnswer])
    def models() -> Any:
        """The checkpoints, usable ones first."""
        cache = Path(app.settings.data_dir) / "hashes.json"
        return [{**checkpoint_json(info), "sha256": known_sha256(info.path, cache) or None} for info in app.checkpoints()]

    @router.get("/library", response_model=ModelFileList)
    def library(
        request: Request,
        kind: Annotated[str, Query(max_length=20, description="One kind; all unless given.")] = "",
        q: Annotated[str, Query(max_length=MAX_QUERY, description="Words to be found.")] = "",
        folder: Annotated[str, Query(max_length=4096)] = "",
        sort: Annotated[str, Query(max_length=20, description="name, newest, size or family.")] = "name",
        checkpoint: Annotated[str, Query(max_length=1000, description="What the models are to fit.")] = "",
        offset: Annotated[int, Query(ge=0, lt=10_000_000)] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_MODELS)] = 60,
    ) -> Any:
        """The model files of all kinds, with what is known of them."""
        query = ModelQuery(kind, q, folder, sort, checkpoint, offset, limit)
        return app.model_library.page(query, request.state.user)

    @router.get("/samplers", response_model=list[SamplerAnswer])
    async def samplers() -> Any:
        """The samplers."""
        return [
            {
                "name": sampler.name,
                "aliases": list(sampler.aliases),
                "schedule": sampler.default_schedule or "Uniform",
                "options": list(sampler.takes),
            }
            for sampler in SAMPLERS.values()
        ]

    @router.get("/schedules", response_model=list[ScheduleAnswer])
    async def schedules() -> Any:
        """The noise schedules."""
        return [
            {"name": schedule.label, "aliases": [schedule.name, *schedule.aliases], "options": list(schedule.takes)}
            for schedule in SCHEDULES.values()
        ]

    @router.get("/extensions", response_model=list[ExtensionAnswer])
    def extensions() -> Any:
        """The extensions that lie here, whatever their state; only those that are on can be asked for."""
        return [
            {
                "name": view.name,
                "title": view.title,
                "version": view.version,
                "description": view.description,
                "state": view.state,
                "halves": list(view.halves),
                "options": options_schema(view.name),
            }
            for view in app.extensions.list()
        ]

    @router.get("/limits", response_model=Limits)
    async def limits() -> Any:
        """What one request may ask for."""
        return limits_of(app)
