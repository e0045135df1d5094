"""The endpoints of the page's pictures: files, thumbnails, deleting one.

A picture that is not the caller's is answered like one that does not exist.
"""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from pathlib import Path

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from PIL import Image

from modules.api.error_responses import caller
from modules.api.page.jobs import missing
from modules.app import App
from modules.errors import RequestError
from modules.images import files
from modules.images.decode import decode
from modules.images.encoding import MEDIA_TYPES
from modules.jobs.views import PictureView

THUMBNAIL_SIDE = 256
"""Pixels of a thumbnail's longer side."""
MAX_THUMBNAILS = 512
"""Thumbnails kept in memory, some 10 kB each."""


def picture_endpoints(app: App) -> APIRouter:
    """`/internal/pictures/*` for the page."""
    router = APIRouter(include_in_schema=False)
    thumbnails = _Thumbnails()

    @router.get("/internal/pictures/{job_id}/{index:int}")
    async def picture(request: Request, job_id: str, index: int) -> Response:
        """The file as it was saved, with its texts.  `?download=1` offers it as a file."""
        found = await anyio.to_thread.run_sync(app.picture, job_id, index, request.state.user)
        if found is None or not await anyio.to_thread.run_sync(files.is_ours, found.path):
            return missing("picture")
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
            return missing("picture")
        tag = _tag(job_id, index, found)
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=_revalidated(tag))
        jpeg = await thumbnails.get(tag, found.path)
        return Response(jpeg, media_type="image/jpeg", headers=_revalidated(tag)) if jpeg else missing("picture")

    @router.post("/internal/pictures/{job_id}/{index:int}/delete")
    async def delete_picture(request: Request, job_id: str, index: int) -> Response:
        """One picture with its file, for good, and the job with its last one; `deleted` as for a job."""
        user = caller(request)
        deleted = await anyio.to_thread.run_sync(app.delete, job_id, user, index)
        there = deleted or await anyio.to_thread.run_sync(app.picture, job_id, index, user) is not None
        return JSONResponse({"deleted": deleted}) if there else missing("picture")

    return router


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
