"""The endpoints of the queue: submit, order, pause, retry, remove, take all pictures along, and changes as they happen.

Like `modules.api.page.jobs`: async, and one's own jobs only.  What asks the job list runs on a thread for that long.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from modules.api.error_responses import caller
from modules.api.guard.bodies import read_json
from modules.api.page.jobs import engine_json, job_json, missing
from modules.api.streams import Streams
from modules.app import App
from modules.errors import RequestError, without_folders
from modules.images.zips import stream_zip
from modules.jobs.estimates import quote_json
from modules.jobs.views import QueueView


def queue_endpoints(app: App) -> APIRouter:
    """`/internal/queue`, `/internal/events` and what is done with jobs, for the page."""
    router = APIRouter(include_in_schema=False)
    _submitting(router, app)
    _ordering(router, app)
    _taking(router, app)
    _events(router, app)
    return router


def _submitting(router: APIRouter, app: App) -> None:
    """Jobs that come in, once or again, and what they would cost."""

    @router.post("/internal/jobs")
    async def submit(request: Request) -> Response:
        """A job from a JSON object of fields.  With an `Idempotency-Key` header, asking twice submits once; the same key with
        other fields is refused."""
        user = caller(request)
        fields = await json_object(request)
        key = request.headers.get("idempotency-key", "")
        job = await anyio.to_thread.run_sync(lambda: app.submit(fields, user, key, exact=True))
        return JSONResponse(job_json(job), status_code=201)

    @router.post("/internal/quote")
    async def quote(request: Request) -> Response:
        """What a request with these fields would cost (`estimates.Quote`), or `error` where they make no sense yet."""
        fields = await json_object(request)
        try:
            found = await anyio.to_thread.run_sync(app.quote, fields)
        except RequestError as error:
            return JSONResponse({"error": without_folders(str(error))})
        return JSONResponse(quote_json(found))

    @router.post("/internal/jobs/{job_id}/retry")
    async def retry(request: Request, job_id: str) -> Response:
        user = request.state.user
        retried = await anyio.to_thread.run_sync(lambda: app.retry(job_id, user))
        there = retried or await anyio.to_thread.run_sync(app.job, job_id, user) is not None
        return JSONResponse({"retried": retried}) if there else missing("job")


def _ordering(router: APIRouter, app: App) -> None:
    """The queue and its order."""

    @router.get("/internal/queue")
    async def queue(request: Request) -> Response:
        return JSONResponse(queue_json(await anyio.to_thread.run_sync(app.queue, request.state.user)) | {"notice": app.notice})

    @router.post("/internal/jobs/{job_id}/move")
    async def move(request: Request, job_id: str) -> Response:
        """Body `{"to": place}`, from 0, among one's own unfinished jobs."""
        user, to = request.state.user, (await json_object(request)).get("to")
        if isinstance(to, bool) or not isinstance(to, int) or not 0 <= to < 1_000_000:
            raise RequestError("to: must be a place from 0, the first")
        moved = await anyio.to_thread.run_sync(lambda: app.move(job_id, user, to))
        there = moved or await anyio.to_thread.run_sync(app.job, job_id, user) is not None
        return JSONResponse({"moved": moved}) if there else missing("job")

    @router.post("/internal/queue/pause")
    async def pause(request: Request) -> Response:
        """Body `{"paused": true}` or false: one's own jobs only."""
        user, paused = caller(request), (await json_object(request)).get("paused")
        if not isinstance(paused, bool):
            raise RequestError("paused: must be true or false")
        await anyio.to_thread.run_sync(lambda: app.pause(user, paused))
        return JSONResponse({"paused": paused})


def _taking(router: APIRouter, app: App) -> None:
    """Jobs that leave the list, and all pictures of one taken along."""

    @router.post("/internal/jobs/{job_id}/remove")
    async def remove(request: Request, job_id: str) -> Response:
        """`removed` is false for a job that is not over: cancel it first."""
        user = request.state.user
        removed = await anyio.to_thread.run_sync(lambda: app.remove(job_id, user))
        there = removed or await anyio.to_thread.run_sync(app.job, job_id, user) is not None
        return JSONResponse({"removed": removed}) if there else missing("job")

    @router.get("/internal/jobs/{job_id}/zip")
    async def zipped(request: Request, job_id: str) -> Response:
        job = await anyio.to_thread.run_sync(app.job, job_id, request.state.user)
        if job is None or not job.pictures:
            return missing("job")
        name = f"atelier-{datetime.fromtimestamp(job.created):%Y%m%d-%H%M%S}-{job.id[:8]}.zip"
        return StreamingResponse(
            stream_zip([(picture.name, picture.path) for picture in job.pictures], job.created),
            media_type="application/zip",
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )


def _events(router: APIRouter, app: App) -> None:
    """Changes as they happen."""
    streams = Streams(app, job_json, engine_json)

    @router.get("/internal/jobs/{job_id}/events")
    async def job_events(request: Request, job_id: str) -> Response:
        """The job as it changes, as server-sent events; ends when it is over."""
        user = caller(request)
        there = await anyio.to_thread.run_sync(app.job, job_id, user)
        return streams.answer(user, job_id) if there else missing("job")

    @router.get("/internal/events")
    async def events(request: Request) -> Response:
        """All of one's jobs as they change, and the engine.  For programs: a browser keeps only six connections to a server."""
        return streams.answer(caller(request))


def queue_json(queue: QueueView) -> dict[str, Any]:
    others = queue.others
    return {
        "jobs": [job_json(job) for job in queue.jobs],
        "paused": queue.paused,
        "others": {
            "users": others.users,
            "jobs": others.jobs,
            "pictures": others.pictures,
            "seconds": None if others.seconds is None else round(others.seconds, 1),
        },
        "limits": {"per_user": queue.per_user, "total": queue.total},
    }


async def json_object(request: Request) -> dict[str, Any]:
    """The request's JSON object.  Only as application/json: no other site's page can send that."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("the request must be application/json")
    body = await request.body()
    if not body:
        raise RequestError("the request is not valid JSON")
    return await read_json(request)
