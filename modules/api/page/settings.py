"""The endpoints of the Settings tab: the server's settings, one's own preferences, and presets of forms.

Everybody may look, and choose their own; the server's settings are for the local user, or for administrators where there are
accounts, as is deleting what others share.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args, get_origin

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from modules.api.a1111.option_table import PICTURE
from modules.api.error_responses import caller, only_administrators
from modules.api.page.jobs import missing
from modules.api.page.queue import json_object
from modules.app import App
from modules.errors import RequestError, SettingsError
from modules.fields import about, kind_of
from modules.preferences import preset_file
from modules.preferences.server_settings import LOCKED
from modules.preferences.store import Preset
from modules.preferences.table import PREFERENCES
from modules.request import Img2Img

_OPTION_HELP = {
    "sd_model_checkpoint": "the checkpoint of calls that name none; empty is the default one",
    "samples_format": "the format of the pictures in answers",
    "jpeg_quality": "of JPEG and lossy WebP in answers",
    "webp_lossless": "WebP in answers without loss",
    "return_grid": "answers of several pictures begin with their grid",
    "eta_ancestral": "eta of ancestral samplers",
    "eta_ddim": "eta of DDIM",
    "sd_hypernetwork": "a hypernetwork for every prompt",
    "sd_lora": "a LoRA for every prompt",
    "extra_networks_default_multiplier": "the weight of networks that a prompt names without one",
    "enable_pnginfo": "pictures carry how they were made",
    "sd_noise_schedule": "the noise schedule: the model's own, or with zero terminal SNR",
}


def settings_endpoints(app: App) -> APIRouter:
    """`/internal/settings`, `/internal/preferences` and `/internal/presets*` for the page."""
    router = APIRouter(include_in_schema=False)
    _server(router, app)
    _own(router, app)
    _presets(router, app)
    return router


def _server(router: APIRouter, app: App) -> None:
    @router.get("/internal/settings")
    async def settings(request: Request) -> Response:
        """All settings (`server_settings.Row`) and A1111's options; folders and addresses are for administrators alone, and
        of a folder only its name."""
        rules = request.state.role == "administrator"
        rows, problem = await anyio.to_thread.run_sync(app.server_settings.rows)
        shown = [asdict(row) for row in rows if rules or row.group not in LOCKED]
        if not rules:
            shown = [{**row, "locked": "only an administrator may change it", "given_by": ""} for row in shown]
        file = app.server_settings.path.name if rules else ""
        answer = {"may_edit": rules, "file": file, "problem": problem if rules else "", "rows": shown, "options": _options()}
        return JSONResponse(answer)

    @router.post("/internal/settings")
    async def change(request: Request) -> Response:
        """Body `{"name", "value"}`, or `{"name", "reset": true}` for the default; answers with all settings."""
        only_administrators(request)
        given = await json_object(request)
        name, reset = given.get("name"), given.get("reset") is True
        if not isinstance(name, str) or ("value" in given) == reset or given.get("value", "") is None:
            raise RequestError("name: it must name a setting, with a value or with reset")

        def apply() -> None:
            try:
                app.server_settings.reset(name) if reset else app.server_settings.set(name, given["value"])
            except SettingsError as error:
                raise RequestError(f"{name}: {error}") from None

        await anyio.to_thread.run_sync(apply)
        return await settings(request)


def _options() -> list[dict[str, Any]]:
    """A1111's options that mean something here; their values come and go by /sdapi/v1/options, as for any client."""
    declared, rows = about(Img2Img), []
    for name, option in PICTURE.items():
        field = declared.get(option.field) if option.field else None
        kind = kind_of(Img2Img, option.field) if option.field and option.field in Img2Img.model_fields else None
        default = option.default
        choices = [str(each) for each in get_args(kind)] if get_origin(kind) is not None and isinstance(default, str) else []
        rows.append(
            {
                "name": name,
                "label": field.label if field is not None else "",
                "help": _OPTION_HELP.get(name) or (field.help if field is not None else ""),
                "kind": "switch" if isinstance(default, bool) else "number" if isinstance(default, (int, float)) else "text",
                "choices": choices,
                "default": default,
            }
        )
    return rows


def _own(router: APIRouter, app: App) -> None:
    def listed(user: str) -> list[dict[str, Any]]:
        values = app.preferences.of(user)
        return [{**asdict(one), "kind": one.kind, "value": values[one.name]} for one in PREFERENCES]

    @router.get("/internal/preferences")
    async def preferences(request: Request) -> Response:
        """One's own choices, with what there is to choose."""
        return JSONResponse(await anyio.to_thread.run_sync(listed, request.state.user))

    @router.post("/internal/preferences")
    async def choose(request: Request) -> Response:
        """Body `{name: value}`, null for the default; answers like GET."""
        user, given = caller(request), await json_object(request)
        await anyio.to_thread.run_sync(app.preferences.set, user, given)
        return JSONResponse(await anyio.to_thread.run_sync(listed, user))


def _presets(router: APIRouter, app: App) -> None:
    def listed(user: str) -> Response:
        return JSONResponse([asdict(one) for one in app.preferences.presets(user)])

    @router.get("/internal/presets")
    async def presets(request: Request) -> Response:
        """One's own presets and those that are shared."""
        return await anyio.to_thread.run_sync(listed, request.state.user)

    @router.post("/internal/presets")
    async def keep(request: Request) -> Response:
        """Body `{"tab", "name", "fields"}`, with `"replace": true` in the place of one's own of that name."""
        user, given = caller(request), await json_object(request)
        tab, name, fields = given.get("tab"), given.get("name"), given.get("fields")
        shared, replace = given.get("shared") is True, given.get("replace") is True
        preset_file.checked_fields(tab, fields)
        await anyio.to_thread.run_sync(
            lambda: app.preferences.keep_preset(user, str(tab), str(name or ""), fields, shared, replace)
        )
        return await anyio.to_thread.run_sync(listed, user)

    @router.post("/internal/presets/read")
    async def read(request: Request) -> Response:
        """The JSON of a preset's file: tab, name and fields, checked; nothing is kept."""
        caller(request)
        tab, name, fields = preset_file.read(await json_object(request))
        return JSONResponse({"tab": tab, "name": name, "fields": fields})

    @router.get("/internal/presets/{preset}/file")
    async def file(request: Request, preset: str) -> Response:
        """One's own preset, or one that is shared, as a file to hand on."""
        one = await anyio.to_thread.run_sync(_found, app, request.state.user, preset)
        if one is None:
            return missing("preset")
        headers = {"content-disposition": 'attachment; filename="preset.json"'}
        return Response(preset_file.written(one.tab, one.name, one.fields), media_type="application/json", headers=headers)

    @router.post("/internal/presets/{preset}")
    async def change(request: Request, preset: str) -> Response:
        """Body `{"name"}`, `{"shared"}` or `{"starts"}`: one's own gets another name, is shared or not, or is what the form of
        a new browser begins with."""
        user, given = caller(request), await json_object(request)
        name, shared, starts = given.get("name"), given.get("shared"), given.get("starts")
        if isinstance(starts, bool):
            changed = await anyio.to_thread.run_sync(app.preferences.start_with, user, preset, starts)
            return await anyio.to_thread.run_sync(listed, user) if changed else missing("preset")
        if not (isinstance(name, str) or isinstance(shared, bool)):
            raise RequestError("name, shared or starts: one of them must be given")
        changed = await anyio.to_thread.run_sync(
            lambda: app.preferences.change_preset(user, preset, name, shared if isinstance(shared, bool) else None)
        )
        return await anyio.to_thread.run_sync(listed, user) if changed else missing("preset")

    @router.post("/internal/presets/{preset}/delete")
    async def delete(request: Request, preset: str) -> Response:
        user, rules = caller(request), request.state.role == "administrator"
        deleted = await anyio.to_thread.run_sync(lambda: app.preferences.delete_preset(user, preset, any_user=rules))
        return await anyio.to_thread.run_sync(listed, user) if deleted else missing("preset")


def _found(app: App, user: str, preset: str) -> Preset | None:
    return next((one for one in app.preferences.presets(user) if one.id == preset), None)
