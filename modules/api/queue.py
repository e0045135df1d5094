"""The routes of the queue: submit, order, pause, retry, remove, take all pictures along, and changes as they happen.

Like `modules.api.internal`: async, at once, and one's own jobs only.  What waits for the disk runs on a thread for that long.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from modules.api.internal import engine_json, job_json
from modules.app import App
from modules.errors import LimitError, RequestError
from modules.images.zips import stream_zip
from modules.views import JobView, QueueView

MAX_STREAMS = 8
"""Event streams of one user at a time."""
STREAM_SECONDS = 0.2
"""At most one round of events in this time."""
SILENCE_SECONDS = 15.0
"""A comment is sent after this long without an event, so that nobody on the way cuts the line."""


def queue_routes(app: App) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    streams: Counter[str] = Counter()

    @router.get("/internal/queue")
    async def queue(request: Request) -> Response:
        return JSONResponse(queue_json(app.queue(request.state.user)) | {"notice": app.notice})

    @router.post("/internal/jobs")
    async def submit(request: Request) -> Response:
        """A job from a JSON object of fields.  With an `Idempotency-Key` header, asking twice submits once."""
        user = _somebody(request)
        fields = await json_object(request)
        key = request.headers.get("idempotency-key", "")
        job = await anyio.to_thread.run_sync(lambda: app.submit(fields, user, key))
        return JSONResponse(job_json(job), status_code=201)

    @router.post("/internal/jobs/{job_id}/retry")
    async def retry(request: Request, job_id: str) -> Response:
        user = request.state.user
        retried = await anyio.to_thread.run_sync(lambda: app.retry(job_id, user))
        return JSONResponse({"retried": retried}) if retried or app.job(job_id, user) else _missing()

    @router.post("/internal/jobs/{job_id}/remove")
    async def remove(request: Request, job_id: str) -> Response:
        """`removed` is false for a job that is not over: cancel it first."""
        user = request.state.user
        removed = await anyio.to_thread.run_sync(lambda: app.remove(job_id, user))
        return JSONResponse({"removed": removed}) if removed or app.job(job_id, user) else _missing()

    @router.post("/internal/jobs/{job_id}/move")
    async def move(request: Request, job_id: str) -> Response:
        """Body `{"to": place}`, from 0, among one's own unfinished jobs."""
        user, to = request.state.user, (await json_object(request)).get("to")
        if isinstance(to, bool) or not isinstance(to, int) or not 0 <= to < 1_000_000:
            raise RequestError("to: must be a place from 0, the first")
        moved = await anyio.to_thread.run_sync(lambda: app.move(job_id, user, to))
        return JSONResponse({"moved": moved}) if moved or app.job(job_id, user) else _missing()

    @router.post("/internal/queue/pause")
    async def pause(request: Request) -> Response:
        """Body `{"paused": true}` or false: one's own jobs only."""
        user, paused = _somebody(request), (await json_object(request)).get("paused")
        if not isinstance(paused, bool):
            raise RequestError("paused: must be true or false")
        await anyio.to_thread.run_sync(lambda: app.pause(user, paused))
        return JSONResponse({"paused": paused})

    @router.get("/internal/jobs/{job_id}/zip")
    async def zipped(request: Request, job_id: str) -> Response:
        job = app.job(job_id, request.state.user)
        if job is None or not job.pictures:
            return _missing()
        name = f"atelier-{datetime.fromtimestamp(job.created):%Y%m%d-%H%M%S}-{job.id[:8]}.zip"
        return StreamingResponse(
            stream_zip([(picture.name, picture.path) for picture in job.pictures], job.created),
            media_type="application/zip",
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )

    @router.get("/internal/jobs/{job_id}/events")
    async def job_events(request: Request, job_id: str) -> Response:
        """The job as it changes, as server-sent events; ends when it is over."""
        user = _somebody(request)
        return _stream(user, job_id) if app.job(job_id, user) else _missing()

    @router.get("/internal/events")
    async def events(request: Request) -> Response:
        """All of one's jobs as they change, and the engine.  For programs: a browser keeps only six connections to a server."""
        return _stream(_somebody(request))

    def _stream(user: str, job_id: str = "") -> Response:
        if streams[user] >= MAX_STREAMS:
            raise LimitError(f"you have {MAX_STREAMS} event streams open, which is the most; close one", 5.0)
        return StreamingResponse(_events(user, job_id), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def _events(user: str, job_id: str) -> AsyncIterator[str]:
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop ends with the server
                loop.call_soon_threadsafe(woken.set)

        seen: dict[str, object] = {}
        end = app.listen(wake)
        streams[user] += 1
        try:
            while True:
                woken.clear()
                for name, key, mark, data in _news(user, job_id):
                    if seen.get(key) != mark:
                        seen[key] = mark
                        yield f"event: {name}\ndata: {json.dumps(data)}\n\n"
                        if job_id and name == "job" and data["state"] in ("done", "failed", "cancelled"):
                            return
                try:
                    await asyncio.wait_for(woken.wait(), SILENCE_SECONDS)
                    await asyncio.sleep(STREAM_SECONDS)
                except asyncio.TimeoutError:
                    yield ": still here\n\n"
        finally:
            end()
            streams[user] -= 1
            if not streams[user]:
                del streams[user]

    def _news(user: str, job_id: str) -> list[tuple[str, str, object, dict[str, Any]]]:
        """(event, what it is about, its state, its data)."""
        state = app.engine()
        jobs = app.jobs(user) if not job_id else [job for job in [app.job(job_id, user)] if job is not None]
        news: list[tuple[str, str, object, dict[str, Any]]] = [("engine", "engine", state, engine_json(state))]
        return news + [("job", job.id, _mark(job), job_json(job)) for job in reversed(jobs)]

    return router


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


def _mark(job: JobView) -> object:
    return job.state, job.rev, job.done, job.position, job.paused


def _somebody(request: Request) -> str:
    user: str = request.state.user
    if not user:
        raise RequestError("nobody knows whose job this would be: keep the cookie of the first answer and send it along")
    return user


async def json_object(request: Request) -> dict[str, Any]:
    """The request's JSON object.  Only as application/json: no other site's page can send that."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("the request must be application/json")
    try:
        data = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise RequestError("the request is not valid JSON") from None
    if not isinstance(data, dict):
        raise RequestError("the request must be a JSON object")
    return data


def _missing() -> Response:
    return JSONResponse({"error": "There is no such job here (any more)."}, status_code=404)
