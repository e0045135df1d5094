"""The endpoints of the Gallery tab: pages of pictures, thumbnails, files, what people write down, the trash, zips.

With accounts everybody has their own pictures, and administrators those too that no user of ours made; without, there is one
user who has all.  A picture that is not the caller's is answered like one that does not exist.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from modules.api.error_responses import caller
from modules.api.guard.middleware import AccessConfig
from modules.api.json_writer import json_text
from modules.api.limits import DECODERS
from modules.api.page.jobs import missing
from modules.api.page.queue import json_object
from modules.api.page.reading import found_json, match
from modules.app import App
from modules.errors import RequestError
from modules.gallery.edits import Change
from modules.gallery.gallery import MAX_IDS
from modules.gallery.index import Owners
from modules.gallery.schema import Entry
from modules.images.encoding import MEDIA_TYPES
from modules.images.zips import stream_zip

MAX_ZIPS = 200
"""Selections that wait to be fetched as a zip."""
ZIP_S = 300.0
"""Seconds for which one waits."""
LOOKERS = 4
"""Pages that are put together at a time; more wait."""

CHANGERS = 2
"""Edit requests at a time, apart from queries: moving thousands of files must not hold up pages of the gallery."""

_KINDS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "AVIF": ".avif"}


def gallery_endpoints(app: App, access: AccessConfig) -> APIRouter:
    """`/internal/gallery*` for the page."""
    router = APIRouter(include_in_schema=False)
    few, decoders, changers = (anyio.CapacityLimiter(places) for places in (LOOKERS, DECODERS, CHANGERS))
    whose = _Whose(access)
    _lists(router, app, whose, few)
    _pictures(router, app, whose, decoders)
    _changes(router, app, whose, changers)
    _zips(router, app, whose, few)
    return router


@dataclass(frozen=True)
class _Whose:
    """Whose pictures a caller has."""

    access: AccessConfig

    def __call__(self, request: Request) -> Owners:
        if self.access.accounts is None:
            return None
        own = {request.state.user} - {""}
        return frozenset(own | {""} if request.state.role == "administrator" else own)


def _lists(router: APIRouter, app: App, whose: _Whose, few: anyio.CapacityLimiter) -> None:
    @router.get("/internal/gallery")
    async def page(request: Request) -> Response:
        """A page of pictures (`Gallery.page`), by `q`, `sort`, `cursor` and `limit`; `next` is the cursor of the next."""
        asked, owners = request.query_params, whose(request)
        limit = asked.get("limit", "60")
        if not (limit.isascii() and limit.isdecimal() and len(limit) < 6):
            raise RequestError("limit: must be a whole number")
        sort, cursor = asked.get("sort", "") or "newest", asked.get("cursor", "")[:600]

        def look() -> str:
            found = app.gallery.page(asked.get("q", ""), owners, sort, cursor, int(limit))
            return json_text({"items": [entry_json(entry) for entry in found.entries], "next": found.next})

        return Response(await anyio.to_thread.run_sync(look, limiter=few), media_type="application/json")

    @router.get("/internal/gallery/count")
    async def count(request: Request) -> Response:
        """How many pictures a search finds."""
        owners, text = whose(request), request.query_params.get("q", "")
        return JSONResponse({"count": await anyio.to_thread.run_sync(lambda: app.gallery.count(text, owners), limiter=few)})

    @router.get("/internal/gallery/ids")
    async def ids(request: Request) -> Response:
        """The ids of what a search finds, the newest `MAX_IDS`."""
        owners, text = whose(request), request.query_params.get("q", "")
        found = await anyio.to_thread.run_sync(lambda: app.gallery.ids(text, owners), limiter=few)
        return JSONResponse({"ids": found, "most": MAX_IDS})

    @router.get("/internal/gallery/facets")
    async def facets(request: Request) -> Response:
        """What searches can choose from (`Gallery.facets`)."""
        owners = whose(request)
        return JSONResponse(await anyio.to_thread.run_sync(lambda: app.gallery.facets(owners), limiter=few))

    @router.get("/internal/gallery/state")
    async def state(request: Request) -> Response:
        """How far the index is; asking has the folders looked at."""
        found = await anyio.to_thread.run_sync(app.gallery.state)
        shown = {"scanning": found.scanning, "done": found.done, "total": found.total}
        return JSONResponse({**shown, "problem": found.problem, "revision": found.revision})


def _pictures(router: APIRouter, app: App, whose: _Whose, decoders: anyio.CapacityLimiter) -> None:
    @router.get("/internal/gallery/pictures/{picture}")
    async def file(request: Request, picture: str) -> Response:
        """The file as it is.  `?download=1` offers it as a file; one that is broken is offered in no other way."""
        owners = whose(request)
        found = await anyio.to_thread.run_sync(lambda: _with_file(app, picture, owners))
        if found is None:
            return missing("picture")
        entry, path = found
        headers = _revalidated(entry)
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        shown = entry.said.kind in _KINDS and not entry.said.broken
        download = request.query_params.get("download") == "1" or not shown
        return FileResponse(
            path,
            media_type=MEDIA_TYPES[_KINDS[entry.said.kind]] if shown else "application/octet-stream",
            filename=entry.title,
            content_disposition_type="attachment" if download else "inline",
            headers=headers,
        )

    @router.get("/internal/gallery/pictures/{picture}/thumbnail")
    async def thumbnail(request: Request, picture: str) -> Response:
        """A small JPEG of it, made here."""
        owners = whose(request)
        entry = await anyio.to_thread.run_sync(lambda: _entry(app, picture, owners))
        if entry is None:
            return missing("picture")
        headers = _revalidated(entry)
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        jpeg = await anyio.to_thread.run_sync(lambda: app.gallery.thumbnail(entry), limiter=decoders)
        return Response(jpeg, media_type="image/jpeg", headers=headers) if jpeg else missing("thumbnail")

    @router.get("/internal/gallery/pictures/{picture}/recipe")
    async def recipe(request: Request, picture: str) -> Response:
        """What is known of it, and `found`: what it says of how it was made, as `POST /internal/read` has it."""
        owners, user = whose(request), request.state.user

        def look() -> dict[str, Any] | None:
            entry = _entry(app, picture, owners)
            if entry is None:
                return None
            try:
                found = app.gallery.read(entry)
            except RequestError as error:
                return {**entry_json(entry), "broken": entry.said.broken or str(error), "found": None}
            if found is None:
                return None
            return {**entry_json(entry), "found": found_json(found, match(found, app, user))}

        answer = await anyio.to_thread.run_sync(look, limiter=decoders)
        return missing("picture") if answer is None else JSONResponse(answer)


def _changes(router: APIRouter, app: App, whose: _Whose, changers: anyio.CapacityLimiter) -> None:
    @router.post("/internal/gallery/edit")
    async def edit(request: Request) -> Response:
        """Body `{"ids": [...]}` with any of `favourite`, `rating` (0 to 5), `add_tags`, `remove_tags`, `add_albums` and
        `remove_albums`; the pictures as they are now."""
        caller(request)
        owners, given = whose(request), await json_object(request)
        ids, change = _ids(given.pop("ids", None)), _change(given)
        changed = await anyio.to_thread.run_sync(lambda: app.gallery.edit(ids, owners, change), limiter=changers)
        return JSONResponse({"items": [entry_json(entry) for entry in changed]})

    @router.post("/internal/gallery/trash")
    async def discard(request: Request) -> Response:
        """Body `{"ids": [...]}`: into the trash; the ids of those that are there now."""
        caller(request)
        owners, ids = whose(request), _ids((await json_object(request)).get("ids"))
        return JSONResponse({"ids": await anyio.to_thread.run_sync(lambda: app.gallery.discard(ids, owners), limiter=changers)})

    @router.post("/internal/gallery/restore")
    async def restore(request: Request) -> Response:
        """Body `{"ids": [...]}`: out of the trash, to where they were; the ids of those that are there now."""
        caller(request)
        owners, ids = whose(request), _ids((await json_object(request)).get("ids"))
        return JSONResponse({"ids": await anyio.to_thread.run_sync(lambda: app.gallery.restore(ids, owners), limiter=changers)})

    @router.post("/internal/gallery/empty")
    async def empty(request: Request) -> Response:
        """Body `{"ids": [...]}` of pictures in the trash, or `{"all": true}`: deleted for good; how many."""
        caller(request)
        owners, given = whose(request), await json_object(request)
        ids = None if given.get("all") is True else _ids(given.get("ids"))
        deleted = await anyio.to_thread.run_sync(lambda: app.gallery.empty(owners, ids), limiter=changers)
        return JSONResponse({"deleted": deleted})

    @router.post("/internal/gallery/rescan")
    async def rescan(request: Request) -> Response:
        """Have all files looked at again; `/internal/gallery/state` says how far that is."""
        caller(request)
        await anyio.to_thread.run_sync(app.gallery.rescan)
        return JSONResponse({"scanning": True})


def _zips(router: APIRouter, app: App, whose: _Whose, few: anyio.CapacityLimiter) -> None:
    waiting = _Zips()

    @router.post("/internal/gallery/zips")
    async def ask(request: Request) -> Response:
        """Body `{"ids": [...]}`; the address under which they can be fetched as a zip, within minutes."""
        user, ids = request.state.user, _ids((await json_object(request)).get("ids"))
        return JSONResponse({"url": f"internal/gallery/zips/{waiting.put(user, ids)}"}, status_code=201)

    @router.get("/internal/gallery/zips/{token}")
    async def fetch(request: Request, token: str) -> Response:
        owners, ids = whose(request), waiting.get(request.state.user, token)
        if ids is None:
            return missing("zip")

        def pick() -> list[tuple[str, Path]]:
            entries = app.gallery.index.entries(ids, owners)
            return _named((entry, path) for entry in entries if (path := app.gallery.file(entry)) is not None)

        pictures = await anyio.to_thread.run_sync(pick, limiter=few)
        if not pictures:
            return missing("picture")
        now = time.time()
        name = f"atelier-{datetime.fromtimestamp(now):%Y%m%d-%H%M%S}.zip"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(stream_zip(pictures, now), media_type="application/zip", headers=headers)


class _Zips:
    """Selections by a token each, for the user who asked."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, tuple[float, str, list[int]]] = OrderedDict()

    def put(self, user: str, ids: list[int]) -> str:
        token = secrets.token_hex(16)
        self._waiting[token] = (time.monotonic() + ZIP_S, user, ids)
        while len(self._waiting) > MAX_ZIPS:
            self._waiting.popitem(last=False)
        return token

    def get(self, user: str, token: str) -> list[int] | None:
        until, whose, ids = self._waiting.get(token, (0.0, "", []))
        return ids if whose == user and time.monotonic() < until else None


def _named(pictures: Iterable[tuple[Entry, Path]]) -> list[tuple[str, Path]]:
    """Each with a name of its own, flat and safe in any system."""
    named: dict[str, Path] = {}
    for entry, path in pictures:
        stem, suffix = re.sub(r"[^\w. ()+-]", "_", Path(entry.title).stem)[:120], path.suffix.lower()
        name, number = f"{stem}{suffix}", 2
        while name in named:
            name, number = f"{stem} ({number}){suffix}", number + 1
        named[name] = path
    return list(named.items())


def entry_json(entry: Entry) -> dict[str, Any]:
    """`date` in milliseconds since 1970; `trashed` in seconds, null for what is not in the trash."""
    said, written = entry.said, entry.written
    return {
        "id": entry.id,
        "name": entry.title,
        "date": entry.id // 1000,
        "width": said.width,
        "height": said.height,
        "bytes": said.stamp.size,
        "seed": said.seed,
        "model": said.model,
        "sampler": said.sampler,
        "program": said.program,
        "prompt": said.prompt,
        "broken": said.broken,
        "favourite": written.favourite,
        "rating": written.rating,
        "tags": list(written.tags),
        "albums": list(written.albums),
        "trashed": entry.trashed,
        "version": said.sha256[:12],
    }


def _entry(app: App, picture: str, owners: Owners) -> Entry | None:
    if not (picture.isascii() and picture.isdecimal() and len(picture) < 17):
        return None
    return app.gallery.entry(int(picture), owners)


def _with_file(app: App, picture: str, owners: Owners) -> tuple[Entry, Path] | None:
    entry = _entry(app, picture, owners)
    path = app.gallery.file(entry) if entry is not None else None
    return None if entry is None or path is None else (entry, path)


def _ids(given: Any) -> list[int]:
    if not isinstance(given, list) or not given or not all(type(one) is int and 0 < one < 2**53 for one in given):
        raise RequestError("ids: must be a list of pictures' ids, with one at least")
    if len(given) > MAX_IDS:
        raise RequestError(f"ids: {len(given)} pictures were named; at most {MAX_IDS} are changed or fetched at a time")
    return given


def _change(given: dict[str, Any]) -> Change:
    known = ("favourite", "rating", "add_tags", "remove_tags", "add_albums", "remove_albums")
    if not given or set(given) - set(known):
        raise RequestError(f"the change must have some of {', '.join(known)}, and nothing else")
    if type(given.get("favourite", False)) is not bool:
        raise RequestError("favourite: must be true or false")
    if type(rating := given.get("rating", 0)) is not int or not 0 <= rating <= 5:
        raise RequestError("rating: must be a whole number from 0, none, to 5")
    labels = {name: given[name] for name in known[2:] if name in given}
    for name, value in labels.items():
        if not isinstance(value, list) or len(value) > 50 or not all(isinstance(one, str) and len(one) <= 200 for one in value):
            raise RequestError(f"{name}: must be a list of at most 50 texts")
    return Change(given.get("favourite"), given.get("rating"), **{name: tuple(value) for name, value in labels.items()})


def _revalidated(entry: Entry) -> dict[str, str]:
    """A browser may keep its copy, but asks each time, so that every look is authorised."""
    tag = f'"{entry.id}-{entry.said.sha256[:16]}"'
    return {"etag": tag, "cache-control": "private, no-cache", "x-content-type-options": "nosniff"}
