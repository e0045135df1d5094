"""The endpoints of the Models tab: the list of model files, one of them, what people write down about it, its preview, and
what is in memory now.

Everybody may look and have favourites of their own; what is written beside the models, for all, is for the local user, or for
administrators where there are accounts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from modules.accounts import AccountsUnavailable
from modules.api.error_responses import caller, only_administrators
from modules.api.guard.middleware import AccessConfig
from modules.api.json_writer import json_text
from modules.api.limits import DECODERS
from modules.api.page.jobs import missing
from modules.api.page.queue import json_object
from modules.app import App
from modules.errors import RequestError
from modules.images import files
from modules.model_library.library import Query, Uses

MAX_LISTS = 4
"""Lists that are put together at a time; more wait."""
AN_HOUR = 3600


def model_endpoints(app: App, access: AccessConfig) -> APIRouter:
    """`/internal/models*` for the page."""
    router = APIRouter(include_in_schema=False)
    names = _Names(access)
    few, decoders = anyio.CapacityLimiter(MAX_LISTS), anyio.CapacityLimiter(DECODERS)
    _lists(router, app, names, few)
    _one(router, app, names, few)
    _pictures(router, app, decoders)
    return router


def _lists(router: APIRouter, app: App, names: _Names, few: anyio.CapacityLimiter) -> None:
    @router.get("/internal/models")
    async def models(request: Request) -> Response:
        """A page of the list (`ModelLibrary.page`), by `kind`, `q`, `folder`, `sort`, `checkpoint`, `offset` and `limit`."""
        asked, user, role = request.query_params, request.state.user, request.state.role
        query = Query(
            kind=asked.get("kind", ""),
            words=asked.get("q", ""),
            folder=asked.get("folder", "")[:4096],
            sort=asked.get("sort", "") or "name",
            checkpoint=asked.get("checkpoint", "")[:1000],
            offset=_whole("offset", asked.get("offset", "0")),
            limit=_whole("limit", asked.get("limit", "60")),
        )

        def page() -> str:
            return json_text(app.model_library.page(query, user, names.uses(app.in_memory(0.0), user, role)))

        text = await anyio.to_thread.run_sync(page, limiter=few)
        return Response(text, media_type="application/json")

    @router.get("/internal/models/loaded")
    async def loaded(request: Request) -> Response:
        """What is in the engine's memory now, and for whom."""
        user, role = request.state.user, request.state.role

        def look() -> list[dict[str, Any]]:
            return [{**model, "users": names.of(model["users"], user, role)} for model in app.in_memory()]

        return JSONResponse(await anyio.to_thread.run_sync(look))

    @router.post("/internal/models/refresh")
    async def refresh(request: Request) -> Response:
        """Look at all files again now."""
        only_administrators(request)
        await anyio.to_thread.run_sync(app.model_library.refresh, limiter=few)
        return JSONResponse({"refreshed": True})


def _one(router: APIRouter, app: App, names: _Names, few: anyio.CapacityLimiter) -> None:
    library = app.model_library

    def detail(request: Request, model: str) -> Callable[[], str | None]:
        user, role, checkpoint = request.state.user, request.state.role, request.query_params.get("checkpoint", "")[:1000]

        def look() -> str | None:
            found = library.detail(model, user, checkpoint, names.uses(app.in_memory(0.0), user, role))
            return None if found is None else json_text({**found, "may_edit": role == "administrator"})

        return look

    async def answer(request: Request, model: str) -> Response:
        text = await anyio.to_thread.run_sync(detail(request, model), limiter=few)
        return missing("model") if text is None else Response(text, media_type="application/json")

    @router.get("/internal/models/{model}")
    async def one(request: Request, model: str) -> Response:
        """All that is known of a model (`ModelLibrary.detail`); its hashes are worked out in the background."""
        return await answer(request, model)

    @router.post("/internal/models/{model}")
    async def edit(request: Request, model: str) -> Response:
        """Write down `notes`, `description`, `weight`, `triggers`, `negative` or `defaults`, for all, and `favourite` for
        oneself; answers like GET."""
        user, given = caller(request), await json_object(request)
        mine = {name: given.pop(name) for name in ("favourite",) if name in given}
        if given or not mine:
            only_administrators(request)

        def keep() -> bool:
            return library.edit(model, given) and (not mine or library.set_favourite(model, user, mine["favourite"]))

        there = await anyio.to_thread.run_sync(keep)
        return await answer(request, model) if there else missing("model")

    @router.post("/internal/models/{model}/hash")
    async def hashes(request: Request, model: str) -> Response:
        """Have its hashes worked out; `progress` is null when that is over."""
        caller(request)
        found = await anyio.to_thread.run_sync(library.hash, model)
        return missing("model") if found is None else JSONResponse(found)


def _pictures(router: APIRouter, app: App, decoders: anyio.CapacityLimiter) -> None:
    library = app.model_library

    @router.get("/internal/models/{model}/preview")
    async def preview(request: Request, model: str) -> Response:
        """A small JPEG of the model's preview picture, made here.  With its version in the list, `v`, it may be kept."""
        found = await anyio.to_thread.run_sync(library.preview, model, limiter=decoders)
        if found is None:
            return missing("preview")
        jpeg, version = found
        lasting = request.query_params.get("v") == version
        headers = {
            "etag": f'"{version}"',
            "cache-control": f"private, max-age={AN_HOUR}" if lasting else "private, no-cache",
            "x-content-type-options": "nosniff",
        }
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(jpeg, media_type="image/jpeg", headers=headers)

    @router.post("/internal/models/{model}/preview")
    async def set_preview(request: Request, model: str) -> Response:
        """Body `{"job": id, "index": n}`: a picture of one's own becomes the preview, for all."""
        only_administrators(request)
        user, given = caller(request), await json_object(request)
        job, index = given.get("job"), given.get("index")
        if not isinstance(job, str) or isinstance(index, bool) or not isinstance(index, int):
            raise RequestError("job and index: must be the id of a job, and the number of its picture from 0")

        def keep() -> Response | None:
            picture = app.picture(job, index, user)
            if picture is None or not files.is_ours(picture.path):
                return missing("picture")
            try:
                data = picture.path.read_bytes()
            except OSError:
                return missing("picture")
            return None if library.set_preview(model, data, picture.infotext) else missing("model")

        refused = await anyio.to_thread.run_sync(keep, limiter=decoders)
        return refused or JSONResponse({"preview": await anyio.to_thread.run_sync(library.preview_url, model)})

    @router.post("/internal/models/{model}/preview/remove")
    async def remove_preview(request: Request, model: str) -> Response:
        """Remove the preview that was set here; the one that came with the model is seen again."""
        only_administrators(request)
        removed = await anyio.to_thread.run_sync(library.remove_preview, model)
        url = await anyio.to_thread.run_sync(library.preview_url, model)
        return JSONResponse({"preview": url}) if removed else missing("model")


class _Names:
    """The names of users, as far as others may read them: administrators all, everybody else their own."""

    def __init__(self, access: AccessConfig) -> None:
        self._accounts = access.accounts

    def of(self, users: list[str], user: str, role: str) -> list[str]:
        if not users:
            return []
        if self._accounts is None:
            return ["you" if any(one == user for one in users) else "a program"]
        known = self._known() if role == "administrator" else {}
        return sorted("you" if one == user else known.get(one, "another user") for one in users)

    def uses(self, models: list[Mapping[str, Any]], user: str, role: str) -> Uses:
        """What the list says of models in memory."""
        found = {}
        for model in models:
            names = self.of(list(model["users"]), user, role)
            used = f"in memory, used by {', '.join(dict.fromkeys(names))}" if names else "in memory"
            found[model["kind"], model["name"]] = used
        return found

    def _known(self) -> dict[str, str]:
        assert self._accounts is not None
        try:
            return {account.user: account.name for account in self._accounts.store.accounts()}
        except AccountsUnavailable:
            return {}


def _whole(name: str, number: str) -> int:
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise RequestError(f"{name}: must be a whole number from 0")
    return int(number)
