"""Watching and stopping: progress, interrupt and skip of the caller's own current job, and progress by the caller's own name.

In A1111 these are one global state that everybody sees and anybody stops.  `/queue/status` is Gradio 3's, which A1111's page
is made with: plug-ins ask there whether the server answers.
"""

from __future__ import annotations

import base64
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Query, Request

from modules.api.a1111.replies import PendingTasks, Progress, QueueStatus, TaskProgress
from modules.api.a1111.requests import TaskBody
from modules.api.a1111.results import timestamp
from modules.api.a1111.tasks import Tasks, current_job
from modules.api.a1111.timing import TimedRoute
from modules.api.error_responses import caller
from modules.api.guard.bodies import fitted, read_json
from modules.api.schema import body_of
from modules.app import App
from modules.errors import without_folders
from modules.jobs.views import JobView
from modules.scripts.views import RunView


def progress_endpoints(app: App, tasks: Tasks) -> APIRouter:
    """`/sdapi/v1/progress`, `interrupt` and `skip`, and A1111's `/internal/*` and `/queue/status`."""
    router = APIRouter(route_class=TimedRoute)
    _progress(router, app, tasks)
    _stopping(router, app)
    _waiting(router, app, tasks)
    return router


def _progress(router: APIRouter, app: App, tasks: Tasks) -> None:
    """How far a job is: the caller's current one, or one that the caller named."""

    @router.get("/sdapi/v1/progress", response_model=Progress)
    async def progress(request: Request, skip_current_image: bool = Query(False)) -> Any:
        """How far your current job is.  Idle: progress 0 and job_count 0."""
        user = request.state.user
        job = current_job(app, user)
        preview = app.preview(job.id, user) if job is not None and not skip_current_image else None
        return {
            "progress": _share(job),
            "eta_relative": (job.eta_s or 0.0) if job else 0.0,
            "state": _state(job),
            "current_image": base64.b64encode(preview.jpeg).decode() if preview else None,
            "textinfo": _said(app, job),
        }

    @router.post(
        "/internal/progress", response_model=TaskProgress, openapi_extra=body_of(TaskBody, {"id_task": "task(my-call-1)"})
    )
    async def task_progress(request: Request) -> Any:
        """How far the call is that you named with `force_task_id`; a job's id is understood as well, and a script's."""
        user = request.state.user
        body = fitted(TaskBody, await read_json(request))
        named = tasks.job_id(user, body.id_task or "")
        job = app.job(named, user)
        if job is None and (run := await anyio.to_thread.run_sync(app.scripts.run, named, user)) is not None:
            return _script_progress(app, run, user, body)
        preview = app.preview(job.id, user) if job is not None and body.live_preview else None
        fresh = preview is not None and preview.rev != body.id_live_preview
        running = job is not None and job.state == "running"
        return {
            "active": running,
            "queued": job is not None and job.state == "queued",
            "completed": job is not None and job.over,
            "progress": _share(job) if running else None,
            "eta": job.eta_s if running and job is not None else None,
            "live_preview": f"data:image/jpeg;base64,{base64.b64encode(preview.jpeg).decode()}" if preview and fresh else None,
            "id_live_preview": preview.rev if preview else body.id_live_preview,
            "textinfo": _said(app, job),
        }


def _script_progress(app: App, run: RunView, user: str, body: TaskBody) -> dict[str, Any]:
    """The same of a call with a script: its pictures are those of the cell that is painted now."""
    jobs = [job for cell in run.cells if cell.state == "queued" and (job := app.job(cell.job, user)) is not None]
    job = next((one for one in jobs if one.state == "running"), None)
    preview = app.preview(job.id, user) if job is not None and body.live_preview else None
    fresh = preview is not None and preview.rev != body.id_live_preview
    going = run.state == "running"
    begun = going and (job is not None or run.progress > 0)
    return {
        "active": begun,
        "queued": going and not begun,
        "completed": not going,
        "progress": max(0.01, round(run.progress, 4)) if begun else None,
        "eta": run.eta_s if begun else None,
        "live_preview": f"data:image/jpeg;base64,{base64.b64encode(preview.jpeg).decode()}" if preview and fresh else None,
        "id_live_preview": preview.rev if preview else body.id_live_preview,
        "textinfo": f"{run.title}: {run.done} of {len(run.cells)}",
    }


def _stopping(router: APIRouter, app: App) -> None:
    """The caller's current job ended early, as a whole or the picture that is made now."""

    @router.post("/sdapi/v1/interrupt")
    async def interrupt(request: Request) -> dict[str, Any]:
        """Stop your current job with the step that runs; the unfinished picture is answered and kept too.  Of a script all that
        is left is cancelled, and what is finished is answered."""
        user = caller(request)
        job = current_job(app, user)
        run = await anyio.to_thread.run_sync(app.scripts.with_job, job.id if job else None, user)
        if run:
            await anyio.to_thread.run_sync(app.scripts.cancel, run, user)
        elif job:
            await anyio.to_thread.run_sync(app.interrupt, job.id, user)
        return {}

    @router.post("/sdapi/v1/skip")
    async def skip(request: Request) -> None:
        """Finish the picture that is painted for you now with the step that runs, and go on with the next one of its job."""
        user = caller(request)
        if job := current_job(app, user):
            await anyio.to_thread.run_sync(app.skip, job.id, user)


def _waiting(router: APIRouter, app: App, tasks: Tasks) -> None:
    """The caller's own queue, and whether anything answers here."""

    @router.get("/internal/pending-tasks", response_model=PendingTasks)
    async def pending(request: Request) -> Any:
        """Your own calls that are not answered yet, by `force_task_id` where they have one."""
        user = request.state.user

        def listed() -> list[str]:
            names = tasks.names(user)
            jobs = [job.id for job in app.queue(user).jobs]
            calls = (app.scripts.with_job(job, user) or job for job in jobs)  # a script's cells are one call
            return list(dict.fromkeys(names.get(each, each) for each in calls))

        mine = await anyio.to_thread.run_sync(listed)
        return {"size": len(mine), "tasks": mine}

    @router.get("/queue/status", response_model=QueueStatus)
    async def queue_status(request: Request) -> Any:
        """How long your own queue is."""
        jobs = app.queue(request.state.user).jobs
        return {
            "msg": "estimation",
            "rank": None,
            "queue_size": len(jobs),
            "avg_event_process_time": None,
            "avg_event_concurrent_process_time": None,
            "rank_eta": None,
            "queue_eta": max((job.eta_s or 0.0 for job in jobs), default=0.0),
        }

    @router.get("/internal/ping")
    async def ping() -> dict[str, Any]:
        return {}


def _share(job: JobView | None) -> float:
    """Never 0 while something is under way: clients take that for idle."""
    return 0.0 if job is None else round(max(0.01, job.progress), 4)


def _state(job: JobView | None) -> dict[str, Any]:
    """As A1111 counts: a second pass is a further job of each picture (`StableDiffusionProcessingTxt2Img.init` doubles the
    count, `State.nextjob` goes on), and the steps are those of the pass that runs.
    """
    running = job is not None and job.state == "running"
    return {
        "skipped": job is not None and job.skipping,
        "interrupted": job is not None and job.interrupted,
        "stopping_generation": False,
        "job": f"Picture {min(job.done + 1, job.count)} out of {job.count}" if job else "",
        "job_count": job.count * job.stages if job else 0,
        "job_timestamp": timestamp(job.created) if job else "0",
        "job_no": job.done * job.stages + job.stage - 1 if job else 0,
        "sampling_step": job.stage_step if job and running else 0,
        "sampling_steps": job.stage_steps if job and running else 0,
    }


def _said(app: App, job: JobView | None) -> str | None:
    """What the page would say: why nothing moves."""
    if job is None or job.over:
        return without_folders(job.error) or None if job else None
    if job.paused:
        return "Your queue is paused."
    if job.state == "queued":
        return f"In queue: {job.position} before this one." if job.position else without_folders(app.engine().message)
    message = without_folders(job.doing or app.engine().message)
    return None if message == "Ready." else message
