"""The endpoints of the Extensions tab: what there is, switching on and off, and getting one in two steps.

Everybody may look.  Everything else is for the local user, or for administrators in person where there are accounts.  Code
comes in by no other way over HTTP than this: an address or a zip is fetched and laid aside, its manifest, files, needs and
warnings are shown, and only what was shown, named by its token, is put among the extensions, switched off.  Nothing of it runs
before somebody switches it on, and nothing here installs Python packages.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from modules.api.error_responses import caller, only_administrators
from modules.api.extensions import public_source
from modules.api.guard.middleware import AccessConfig
from modules.api.page.queue import json_object
from modules.app import App
from modules.errors import RequestError, without_folders
from modules.extensions.packages import MISSING
from modules.extensions.service import ExtensionView, Proposal
from modules.request import EXTENSIONS

MAX_FILES = 500
"""Files of a proposal that are named in an answer."""

OPEN = (
    "Extensions run with all rights of this program, and this server can be reached from other machines without accounts. "
    "Start it with accounts and log in as an administrator, or use the command line on its own machine."
)


def extension_endpoints(app: App, access: AccessConfig) -> APIRouter:
    """`/internal/extensions*`."""
    router = APIRouter(include_in_schema=False)
    _switching(router, app, access)
    _getting(router, app, access)
    return router


def _switching(router: APIRouter, app: App, access: AccessConfig) -> None:
    async def answer(request: Request) -> Response:
        rules, refusal = request.state.role == "administrator", refusal_for(request, app, access)

        def found() -> dict[str, Any]:
            views, notices = app.extensions.list(), app.extensions.notices if rules else ()
            return {
                "extensions": [view_json(view, rules) for view in views],
                "options": list(EXTENSIONS),
                "may_edit": rules,
                "refusal": refusal if rules else "",
                "notices": [without_folders(notice) for notice in notices],
            }

        return JSONResponse(await anyio.to_thread.run_sync(found))

    @router.get("/internal/extensions")
    async def extensions(request: Request) -> Response:
        """All extensions; why one failed, and the notices, are for administrators.  `options` are the names of those that
        requests may have options of now; `refusal` says why nothing can be changed here."""
        return await answer(request)

    @router.post("/internal/extensions/{name}/enable")
    async def enable(request: Request, name: str) -> Response:
        _may_change(request, app, access)
        await anyio.to_thread.run_sync(app.extensions.enable, name)
        return await answer(request)

    @router.post("/internal/extensions/{name}/disable")
    async def disable(request: Request, name: str) -> Response:
        _may_change(request, app, access)
        await anyio.to_thread.run_sync(app.extensions.disable, name)
        return await answer(request)

    @router.post("/internal/extensions/{name}/remove")
    async def remove(request: Request, name: str) -> Response:
        """Its folder goes into the trash of the data folder."""
        _may_change(request, app, access)
        await anyio.to_thread.run_sync(app.extensions.remove, name)
        return await answer(request)


def _getting(router: APIRouter, app: App, access: AccessConfig) -> None:
    one = anyio.CapacityLimiter(1)

    async def fetched(request: Request, fetch: Callable[[], Proposal]) -> Response:
        proposal = await anyio.to_thread.run_sync(fetch, limiter=one)
        return JSONResponse(proposal_json(proposal))

    @router.post("/internal/extensions/proposals")
    async def propose(request: Request) -> Response:
        """The body is a zip (application/zip), or JSON `{"address"}` of a git repository; answers with what it holds."""
        _may_change(request, app, access)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/zip":
            data = await request.body()
            return await fetched(request, lambda: app.extensions.propose_zip(data))
        address = (await json_object(request)).get("address")
        if not isinstance(address, str) or not address.strip():
            raise RequestError("address: it must be that of a git repository, such as https://example.org/someone/name.git")
        return await fetched(request, lambda: app.extensions.propose(address.strip()))

    @router.post("/internal/extensions/{name}/update")
    async def update(request: Request, name: str) -> Response:
        """What is at its address now, as a proposal."""
        _may_change(request, app, access)
        return await fetched(request, lambda: app.extensions.update(name))

    @router.post("/internal/extensions/proposals/{token}/accept")
    async def accept(request: Request, token: str) -> Response:
        """Put what was shown among the extensions, switched off; answers with it as it is listed."""
        _may_change(request, app, access)
        view = await anyio.to_thread.run_sync(app.extensions.install, token)
        return JSONResponse(view_json(view, True), status_code=201)

    @router.post("/internal/extensions/proposals/{token}/discard")
    async def discard(request: Request, token: str) -> Response:
        _may_change(request, app, access)
        await anyio.to_thread.run_sync(app.extensions.discard, token)
        return JSONResponse({})


def _may_change(request: Request, app: App, access: AccessConfig) -> None:
    """
    Raises:
        HTTPException: 403, the caller is no administrator (the guard has said so before), or `refusal_for` says why not.
        RequestError: nobody knows who asks, as of what another site's page started.
    """
    only_administrators(request)
    caller(request)
    if refusal := refusal_for(request, app, access):
        raise HTTPException(403, refusal)


def refusal_for(request: Request, app: App, access: AccessConfig) -> str:
    """Why this request may change nothing about extensions, "" where it may: without accounts everybody who reaches the server
    is its administrator, so then it must be one that only its own machine reaches."""
    if access.accounts is not None:
        return ""
    try:
        near = ipaddress.ip_address(request.state.peer.address).is_loopback
    except ValueError:  # no connection over a network
        near = True
    return "" if near and not app.settings.needs_accounts else OPEN


def view_json(view: ExtensionView, rules: bool) -> dict[str, Any]:
    """For the page; `rules`: for an administrator."""
    shown = {**asdict(view), "source": public_source(view)}
    lacks = rules and view.state == "refused" and any(MISSING in need for need in view.needs)
    command = packages_command(view.name) if lacks else ""
    return {**shown, "reason": without_folders(view.reason) if rules else "", "command": command}


def proposal_json(proposal: Proposal) -> dict[str, Any]:
    manifest = proposal.manifest
    missing = any(need.verdict == "missing" for need in proposal.needs)
    return {
        "token": proposal.token,
        "name": manifest.name,
        "title": manifest.title,
        "version": manifest.version,
        "description": manifest.description,
        "halves": list(manifest.halves),
        "atelier": manifest.atelier,
        "misfit": manifest.misfit(),
        "on_failure": manifest.on_failure,
        "address": proposal.address,
        "commit": proposal.commit,
        "sha256": proposal.sha256,
        "replaces": proposal.replaces,
        "files": [list(file) for file in proposal.files[:MAX_FILES]],
        "files_left_out": max(0, len(proposal.files) - MAX_FILES),
        "bytes": sum(size for _, size in proposal.files),
        "changes": [list(change) for change in proposal.changes[:MAX_FILES]],
        "needs": [asdict(need) for need in proposal.needs],
        "warnings": [without_folders(warning) for warning in proposal.warnings],
        "command": packages_command(manifest.name) if missing else "",
    }


def packages_command(name: str) -> str:
    """What a person runs in the folder of the program to get the packages that an extension lacks: it shows them first, and
    changes none that is installed."""
    return f"python3 webui.py extension enable {name}"
