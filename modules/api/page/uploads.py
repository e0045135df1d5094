"""The endpoints of uploaded pictures: a raw file goes in, an id comes out, and the owner may look at what was kept.

Another user's picture is answered like one that does not exist.  What a file may be is `modules.images.decode`'s to say.
"""

from __future__ import annotations

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from modules.api.limits import DECODERS
from modules.app import App


def upload_endpoints(app: App) -> APIRouter:
    """`/internal/sources`: keep a picture, and get it back by its id."""
    router = APIRouter(include_in_schema=False)
    few = anyio.CapacityLimiter(DECODERS)

    @router.post("/internal/sources")
    async def keep(request: Request) -> Response:
        """The body is the file itself; 201 with the id that requests name it by."""
        kind = request.headers.get("content-type", "")
        if not kind.startswith("image/"):
            found = f"{kind[:60]!r} was given" if kind else "none was given"
            return JSONResponse({"error": f"Send the picture itself, with a content type image/...; {found}."}, status_code=415)
        data = await request.body()
        user = request.state.user
        kept = await anyio.to_thread.run_sync(lambda: app.keep_upload(data, user), limiter=few)
        body = {"id": kept.id, "width": kept.width, "height": kept.height}
        return JSONResponse(body, status_code=201)

    @router.get("/internal/sources/{source}")
    async def look(request: Request, source: str) -> Response:
        user = request.state.user
        path = await anyio.to_thread.run_sync(lambda: app.upload_path(source, user))
        if path is None:
            return JSONResponse({"error": "There is no such picture here (any more)."}, status_code=404)
        headers = {"etag": f'"{source}"', "cache-control": "private, no-cache"}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return FileResponse(path, media_type="image/png", headers=headers)

    return router
