"""The endpoints of the styles editor and the wildcards manager: everybody may look and try, administrators write.

Both belong to all users of the server.  A write names the version that was read, and is refused where that has changed since.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from modules.api.error_responses import only_administrators
from modules.api.page.jobs import missing
from modules.api.page.queue import json_object
from modules.app import App
from modules.errors import RequestError, SettingsError
from modules.prompts.style_table import StyleTable, read_table, write_table
from modules.prompts.styles import Style
from modules.prompts.wildcard_files import draws, read_wildcard, remove_wildcard, write_wildcard
from modules.request import MAX_PROMPT, MAX_SEED


def prompt_file_endpoints(app: App) -> APIRouter:
    """`/internal/styles*` and `/internal/wildcards*` for the page."""
    router = APIRouter(include_in_schema=False)
    writing = threading.Lock()
    _styles(router, app, writing)
    _wildcards(router, app, writing)
    return router


def _styles(router: APIRouter, app: App, writing: threading.Lock) -> None:
    def table() -> StyleTable:
        if app.library.styles_file is None:
            raise RequestError("styles: there is no data folder here")
        try:
            return read_table(app.library.styles_file)
        except SettingsError as error:
            raise RequestError(f"styles: {error}") from None

    def listed(rules: bool) -> Response:
        found = table()
        rows = [{**asdict(style), "rows": rows} for style, rows in found.styles()]
        return JSONResponse({"styles": rows, "notes": found.notes(), "version": found.version, "may_edit": rules})

    def changed(version: Any, change: Callable[[StyleTable], StyleTable]) -> Response:
        with writing:
            found = table()
            if version != found.version:
                raise RequestError("styles: the file was changed meanwhile; what it holds now is shown, try again")
            assert app.library.styles_file is not None
            write_table(app.library.styles_file, change(found))
        return listed(True)

    @router.get("/internal/styles")
    async def styles(request: Request) -> Response:
        """All styles in the order of the file, what is odd about it, and its version."""
        return await anyio.to_thread.run_sync(listed, request.state.role == "administrator")

    @router.post("/internal/styles")
    async def put(request: Request) -> Response:
        """Body `{"name", "prompt", "negative_prompt", "version"}`, with `"was"` in the place of another; answers like GET."""
        only_administrators(request)
        given = await json_object(request)
        name, prompt, negative, was = (_text(given, key) for key in ("name", "prompt", "negative_prompt", "was"))
        style = Style(name, prompt, negative)
        return await anyio.to_thread.run_sync(changed, given.get("version"), lambda found: found.put(style, was))

    @router.post("/internal/styles/delete")
    async def delete(request: Request) -> Response:
        """Body `{"name", "version"}`; answers like GET."""
        only_administrators(request)
        given = await json_object(request)
        name = _text(given, "name")
        return await anyio.to_thread.run_sync(changed, given.get("version"), lambda found: found.without(name))


def _wildcards(router: APIRouter, app: App, writing: threading.Lock) -> None:
    def listed(rules: bool) -> Response:
        lists = app.library.wildcards.lists()
        files = [{"name": name, "values": len(lists.values(name) or ())} for name in lists.names()]
        return JSONResponse({"files": files, "may_edit": rules})

    @router.get("/internal/wildcards")
    async def wildcards(request: Request) -> Response:
        """All names, and how many values each has."""
        return await anyio.to_thread.run_sync(listed, request.state.role == "administrator")

    @router.post("/internal/wildcards/read")
    async def read(request: Request) -> Response:
        """Body `{"name"}`: the text of the file and its version."""
        name = _text(await json_object(request), "name")
        found = await anyio.to_thread.run_sync(read_wildcard, app.library.wildcards, name)
        return missing("wildcard") if found is None else JSONResponse(asdict(found))

    @router.post("/internal/wildcards/draw")
    async def draw(request: Request) -> Response:
        """Body `{"text", "seed", "count"}`: what a prompt becomes with seeds from `seed` on, and names without a file."""
        given = await json_object(request)
        text, seed, count = _text(given, "text"), _whole(given, "seed", MAX_SEED), _whole(given, "count", 50, 5)
        if len(text) > MAX_PROMPT:
            raise RequestError(f"text: it must have at most {MAX_PROMPT:,} characters")
        drawn, unknown = await anyio.to_thread.run_sync(draws, app.library.wildcards, text, seed, count)
        return JSONResponse({"drawn": drawn, "unknown": unknown})

    def write(given: dict[str, Any], delete: bool) -> Response:
        name, version = _text(given, "name"), _text(given, "version")
        with writing:
            if delete:
                remove_wildcard(app.library.wildcards, name, version)
            else:
                write_wildcard(app.library.wildcards, name, _text(given, "text"), version)
        return listed(True)

    @router.post("/internal/wildcards")
    async def put(request: Request) -> Response:
        """Body `{"name", "text", "version"}`, the version "" for a new file; answers with the list."""
        only_administrators(request)
        return await anyio.to_thread.run_sync(write, await json_object(request), False)

    @router.post("/internal/wildcards/delete")
    async def delete(request: Request) -> Response:
        """Body `{"name", "version"}`; answers with the list."""
        only_administrators(request)
        return await anyio.to_thread.run_sync(write, await json_object(request), True)


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str):
        raise RequestError(f"{name}: it must be text")
    return value


def _whole(given: dict[str, Any], name: str, most: int, otherwise: int = 0) -> int:
    value = given.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise RequestError(f"{name}: it must be a whole number from 0 to {most}")
    return value
