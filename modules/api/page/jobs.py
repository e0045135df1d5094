"""The endpoints of the page: jobs, previews, pictures, checkpoints, the engine's state.

Handlers are async; what asks the job list does so on a thread, for SQLite may be waiting for the disk.  A job or picture that
is not the caller's is answered like one that does not exist.  The guard has already decided who the caller is
(`request.state.user`).
"""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from PIL import Image

from modules.api.checkpoints import checkpoint_json
from modules.api.error_responses import caller
from modules.api.json_writer import json_text
from modules.app import App
from modules.errors import RequestError, without_folders
from modules.images import files
from modules.images.decode import decode
from modules.images.encoding import MEDIA_TYPES
from modules.jobs.views import EngineState, JobView, PictureView, changed_settings, painted_words
from modules.roles import as_role_fields

MAX_JOBS = 200
"""Jobs in one answer of the list."""
MAX_LIST_BYTES = 2 << 20
"""Of JSON in one answer of the list: prompts may be long.  What does not fit comes with the next page."""
MAX_SEARCH = 400
"""Characters of a search."""
THUMBNAIL_SIDE = 256
"""Pixels of a thumbnail's longer side."""
MAX_THUMBNAILS = 512
"""Thumbnails kept in memory, some 10 kB each."""


def job_endpoints(app: App) -> APIRouter:
    """`/internal/*` for the page, and `/health` for monitoring."""
    router = APIRouter(include_in_schema=False)
    thumbnails = _Thumbnails()

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
        return JSONResponse(job_json(found) | {"engine": engine_json(app.engine())}) if found else _missing("job")

    @router.get("/internal/jobs/{job_id}/preview")
    async def preview(request: Request, job_id: str) -> Response:
        """204 while there is no newer preview than `rev`.  Asking is what keeps previews being made."""
        user = request.state.user
        found = await anyio.to_thread.run_sync(app.preview, job_id, user)
        if found is None:
            there = await anyio.to_thread.run_sync(app.job, job_id, user)
            return Response(status_code=204) if there else _missing("job")
        if request.query_params.get("rev") == str(found.rev):
            return Response(status_code=204)
        return Response(found.jpeg, media_type="image/jpeg", headers={"x-preview-rev": str(found.rev)})

    @router.post("/internal/jobs/{job_id}/cancel")
    async def cancel(request: Request, job_id: str) -> Response:
        """`cancelled` is false for a job that was over already; asking twice does no harm."""
        user = request.state.user
        cancelled = await anyio.to_thread.run_sync(app.cancel, job_id, user)
        there = cancelled or await anyio.to_thread.run_sync(app.job, job_id, user) is not None
        return JSONResponse({"cancelled": cancelled}) if there else _missing("job")

    @router.post("/internal/jobs/{job_id}/delete")
    async def delete_job(request: Request, job_id: str) -> Response:
        """The job with its pictures' files, for good.  `deleted` is false for a job that is not over: cancel it first."""
        user = caller(request)
        deleted = await anyio.to_thread.run_sync(app.delete, job_id, user)
        there = deleted or await anyio.to_thread.run_sync(app.job, job_id, user) is not None
        return JSONResponse({"deleted": deleted}) if there else _missing("job")

    @router.post("/internal/pictures/{job_id}/{index:int}/delete")
    async def delete_picture(request: Request, job_id: str, index: int) -> Response:
        """One picture with its file, for good, and the job with its last one; `deleted` as for a job."""
        user = caller(request)
        deleted = await anyio.to_thread.run_sync(app.delete, job_id, user, index)
        there = deleted or await anyio.to_thread.run_sync(app.picture, job_id, index, user) is not None
        return JSONResponse({"deleted": deleted}) if there else _missing("picture")

    @router.get("/internal/pictures/{job_id}/{index:int}")
    async def picture(request: Request, job_id: str, index: int) -> Response:
        """The file as it was saved, with its texts.  `?download=1` offers it as a file."""
        found = await anyio.to_thread.run_sync(app.picture, job_id, index, request.state.user)
        if found is None or not await anyio.to_thread.run_sync(files.is_ours, found.path):
            return _missing("picture")
        tag = _tag(job_id, index, found)
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=_revalidated(tag))
        download = request.query_params.get("download") == "1"
        return FileResponse(
            found.path,
            media_type=MEDIA_TYPES.get(found.path.suffix, "image/png"),
            filename=found.name,
            content_disposition_type="attachment" if download else "inline",
            headers=_revalidated(tag),
        )

    @router.get("/internal/pictures/{job_id}/{index:int}/thumbnail")
    async def thumbnail(request: Request, job_id: str, index: int) -> Response:
        found = await anyio.to_thread.run_sync(app.picture, job_id, index, request.state.user)
        if found is None:
            return _missing("picture")
        tag = _tag(job_id, index, found)
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=_revalidated(tag))
        jpeg = await thumbnails.get(tag, found.path)
        return Response(jpeg, media_type="image/jpeg", headers=_revalidated(tag)) if jpeg else _missing("picture")

    return router


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
        "progress": round(job.progress, 4),
        "eta_s": None if job.eta_s is None else round(job.eta_s, 1),
        "rev": job.rev,
        "error": without_folders(job.error),
        "doing": without_folders(job.doing),
        "held": without_folders(job.held),
        "paused": job.paused,
        "created": job.created,
        "request": exact(as_role_fields(job.request.model_dump(mode="json"))),
        "settings": changed_settings(job.request),
        "pictures": [picture_json(picture) for picture in job.pictures],
    }


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
        "workers": [engine_json(worker) for worker in state.workers],
    }


class _Thumbnails:
    """Small JPEGs of saved pictures, the most recently asked for kept in memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    async def get(self, tag: str, path: Path) -> bytes:
        """Empty when the file is gone or is no picture any more."""
        jpeg = self._kept.get(tag, b"") or await anyio.to_thread.run_sync(_shrink, path)
        if jpeg:
            self._kept[tag] = jpeg
            self._kept.move_to_end(tag)
        while len(self._kept) > MAX_THUMBNAILS:
            self._kept.popitem(last=False)
        return jpeg


def _shrink(path: Path) -> bytes:
    try:
        small = decode(path.read_bytes() if files.is_ours(path) else b"").convert("RGB")
    except (OSError, RequestError):  # gone, torn or replaced by hand
        return b""
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _tag(job_id: str, index: int, picture: PictureView) -> str:
    digest = hashlib.sha256(f"{job_id}/{index}/{picture.path}".encode()).hexdigest()[:16]
    return f'"{digest}"'


def _revalidated(tag: str) -> dict[str, str]:
    """A browser may keep its copy, but asks each time, so that every look is authorised."""
    return {"etag": tag, "cache-control": "private, no-cache"}


def _missing(kind: str) -> Response:
    return JSONResponse({"error": f"There is no such {kind} here (any more)."}, status_code=404)
