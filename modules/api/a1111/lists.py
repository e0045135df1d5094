"""What there is: the list routes that clients read when they start, options, and what A1111 has beside painting.

A list of what is not built is empty, and says nothing else: a client that finds a name here may use it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request

from modules.api.a1111 import replies
from modules.api.a1111.models import chosen_checkpoint, model_name, own_checkpoint, sha256_of, title, usable
from modules.api.a1111.options import CHECKPOINT, CHECKPOINT_HASH, OPTIONS, OwnOptions, read_options
from modules.api.a1111.scripts import script_infos, script_names
from modules.api.a1111.timing import TimedRoute
from modules.api.error_responses import caller, only_administrators
from modules.api.extensions import a1111_item
from modules.api.guard.bodies import read_json
from modules.api.limits import Limits, limits_of
from modules.app import App
from modules.checkpoints.companions import EmbeddingInfo, text_width
from modules.checkpoints.upscalers import ALIASES, no_files
from modules.diffusion.samplers import SAMPLERS, Sampler
from modules.diffusion.schedules import SCHEDULES
from modules.errors import RequestError, SettingsError
from modules.request import LATENT_UPSCALERS

_RHO = {"karras": 7.0, "polyexponential": 1.0}
_READ_THE_MODEL = {"uniform", "sgm_uniform", "simple", "normal", "ddim", "beta", "turbo"}
"""Schedules that A1111 and Forge build from the model's own noise levels."""


def list_endpoints(app: App, own: OwnOptions) -> APIRouter:
    router = APIRouter(route_class=TimedRoute)
    _models(router, app, own)
    _words(router, app)
    _tables(router, app)
    _options(router, app, own)
    _machine(router, app)
    return router


def _models(router: APIRouter, app: App, own: OwnOptions) -> None:
    @router.get("/sdapi/v1/sd-models", response_model=list[replies.ModelItem])
    def sd_models() -> Any:
        """The checkpoints that can be used."""
        return [_model_item(app, info) for info in usable(app)]

    @router.post("/sdapi/v1/refresh-checkpoints")
    @router.post("/sdapi/v1/refresh-vae")
    @router.post("/sdapi/v1/refresh-embeddings")
    @router.post("/sdapi/v1/refresh-loras")
    async def refresh(request: Request) -> None:
        """Look at all model files again.  New ones are found without it: folders are looked at with each request."""
        only_administrators(request)
        await anyio.to_thread.run_sync(app.model_library.refresh)

    @router.post("/sdapi/v1/unload-checkpoint")
    async def unload(request: Request) -> dict[str, Any]:
        """Let go of the models in memory; the next job loads what it needs."""
        only_administrators(request)
        await anyio.to_thread.run_sync(app.unload)
        return {}

    @router.post("/sdapi/v1/reload-checkpoint")
    async def reload(request: Request) -> dict[str, Any]:
        """Load the default checkpoint into memory ahead of the first job."""
        only_administrators(request)
        await anyio.to_thread.run_sync(app.preload)
        return {}

    @router.get("/sdapi/v1/face-restorers", response_model=list[dict[str, Any]])
    async def face_restorers() -> Any:
        """Empty: this version uses none of them."""
        return []

    @router.get("/sdapi/v1/extensions", response_model=list[replies.ExtensionItem])
    def extensions() -> Any:
        """The extensions that lie here, whatever their state."""
        return [a1111_item(view) for view in app.extensions.list()]

    @router.get("/sdapi/v1/sd-vae", response_model=list[replies.VaeItem])
    def vaes() -> Any:
        """The autoencoders in files of their own; option `sd_vae` chooses one for a picture."""
        return [{"model_name": info.name, "filename": info.path.name} for info in app.vaes() if not info.problem]

    @router.get("/sdapi/v1/embeddings", response_model=replies.Embeddings)
    def embeddings(request: Request) -> Any:
        """Textual inversions that fit your checkpoint, and those made for others."""
        found = [info for info in app.embeddings() if not info.problem]
        chosen = own_checkpoint(app, own, request.state.user)
        width = text_width(chosen.path) if found and chosen else 0
        return {
            "loaded": {info.name: _embedding_item(info) for info in found if width in (0, info.width)},
            "skipped": {info.name: _embedding_item(info) for info in found if width not in (0, info.width)},
        }

    @router.get("/sdapi/v1/hypernetworks", response_model=list[replies.HypernetworkItem])
    def hypernetworks() -> Any:
        """The hypernetworks that can be named in a prompt."""
        return [{"name": info.name, "path": info.path.name} for info in app.hypernetworks() if not info.problem]

    @router.get("/sdapi/v1/loras", response_model=list[replies.LoraItem])
    def loras() -> Any:
        """The LoRAs that can be named in a prompt, with what their trainers wrote into them."""
        return [
            {"name": info.name, "alias": info.alias or info.name, "path": info.path.name, "metadata": dict(info.metadata)}
            for info in app.lora_infos()
            if not info.problem
        ]


def _words(router: APIRouter, app: App) -> None:
    @router.get("/sdapi/v1/prompt-styles", response_model=list[replies.StyleItem])
    def prompt_styles() -> Any:
        """The styles of this instance."""
        try:
            styles = app.library.styles()
        except SettingsError as error:
            raise RequestError(f"styles: {error}") from None
        return [
            {"name": style.name, "prompt": style.prompt, "negative_prompt": style.negative_prompt} for style in styles.values()
        ]


def _tables(router: APIRouter, app: App) -> None:
    @router.get("/sdapi/v1/samplers", response_model=list[replies.SamplerItem])
    async def samplers() -> Any:
        return [
            {"name": sampler.name, "aliases": list(sampler.aliases), "options": _flags(sampler)}
            for sampler in SAMPLERS.values()
        ]

    @router.get("/sdapi/v1/schedulers", response_model=list[replies.SchedulerItem])
    async def schedulers() -> Any:
        """The noise schedules."""
        return [
            {
                "name": schedule.name,
                "label": schedule.label,
                "aliases": list(schedule.aliases) or None,
                "default_rho": _RHO.get(schedule.name, -1.0),
                "need_inner_model": schedule.name in _READ_THE_MODEL,
            }
            for schedule in SCHEDULES.values()
        ]

    @router.get("/sdapi/v1/upscalers", response_model=list[replies.UpscalerItem])
    def upscalers() -> Any:
        """What enlarges pictures: filters, and the upscalers in files."""
        nothing = {"model_name": None, "model_path": None, "model_url": None, "scale": 4.0}
        files = [
            {"name": info.name, "model_name": info.name, "model_path": info.path.name, "scale": float(info.scale or 4)}
            for info in app.upscalers()
            if not info.problem
        ]
        return [*({"name": name, **nothing} for name in no_files()), *({**nothing, **each} for each in files)]

    @router.get("/sdapi/v1/realesrgan-models", response_model=list[dict[str, Any]])
    def realesrgan_models() -> Any:
        """The compact Real-ESRGAN networks, and those under A1111's names for published files."""
        published = {stem.casefold() for name, stems in ALIASES.items() if name.startswith("R-ESRGAN") for stem in stems}
        return [
            {"name": info.name, "path": info.path.name, "scale": info.scale}
            for info in app.upscalers()
            if not info.problem and (info.kind == "Real-ESRGAN compact" or info.name.casefold() in published)
        ]

    @router.get("/sdapi/v1/latent-upscale-modes", response_model=list[dict[str, Any]])
    async def latent_upscale_modes() -> Any:
        """By which a second pass may interpolate the latent of the first."""
        return [{"name": name} for name in LATENT_UPSCALERS]

    @router.get("/sdapi/v1/scripts", response_model=replies.Scripts)
    async def scripts() -> Any:
        return {"txt2img": script_names(False), "img2img": script_names(True)}

    @router.get("/sdapi/v1/script-info", response_model=list[replies.ScriptItem])
    async def script_info() -> Any:
        return script_infos(app.scripts.names())

    @router.get("/sdapi/v1/limits", response_model=Limits)
    async def limits() -> Any:
        """What one request may ask for."""
        return limits_of(app)


def _options(router: APIRouter, app: App, own: OwnOptions) -> None:
    def current(user: str) -> dict[str, Any]:
        mine = own.of(user)
        values = {name: mine[name] for name in OPTIONS}
        info = own_checkpoint(app, own, user)
        sha256 = sha256_of(app, info) if info else ""
        return {**values, CHECKPOINT: title(info, sha256) if info else "", CHECKPOINT_HASH: sha256}

    @router.get("/sdapi/v1/options", response_model=dict[str, Any])
    def get_options(request: Request) -> Any:
        """Your own options."""
        return current(request.state.user)

    @router.post("/sdapi/v1/options")
    async def set_options(request: Request) -> None:
        """Set options of your own; those of the server and of other users do not change."""
        user, given = caller(request), await read_json(request)

        def keep() -> None:
            now = current(user)
            values = read_options(given)
            if values.get(CHECKPOINT) == now[CHECKPOINT]:  # a client that sends all options back chooses nothing by it
                values.pop(CHECKPOINT)
            if values.get(CHECKPOINT):
                values[CHECKPOINT] = chosen_checkpoint(app, values[CHECKPOINT]).name
            own.set(user, values)

        await anyio.to_thread.run_sync(keep)


def _machine(router: APIRouter, app: App) -> None:
    @router.get("/sdapi/v1/cmd-flags", response_model=dict[str, Any])
    async def cmd_flags() -> Any:
        """How the server was started, as far as it concerns its visitors: no folders, no secrets."""
        settings = app.settings
        return {
            "api": True,
            "nowebui": False,
            "port": settings.port,
            "share": False,
            "api_server_stop": False,
            "allow_code": False,
            "xformers": app.engine().attention.startswith("xformers"),
        }

    @router.get("/sdapi/v1/memory", response_model=replies.Memory)
    async def memory() -> Any:
        """The machine's memory in bytes.  The GPU's is known to the engine's process alone."""
        return {"ram": _ram(), "cuda": {"error": "not known to the web process"}}


def _embedding_item(info: EmbeddingInfo) -> dict[str, Any]:
    return {
        "step": None,
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
        "shape": info.width,
        "vectors": info.vectors,
    }


def _model_item(app: App, info: Any) -> dict[str, Any]:
    sha256 = sha256_of(app, info)
    return {
        "title": title(info, sha256),
        "model_name": model_name(info),
        "hash": sha256[:10] or None,
        "sha256": sha256 or None,
        "filename": info.path.name,
        "config": None,
    }


def _flags(sampler: Sampler) -> dict[str, Any]:
    """What A1111's table says of a sampler beside its names."""
    flags: dict[str, Any] = {}
    if sampler.default_schedule:
        flags["scheduler"] = next(s.name for s in SCHEDULES.values() if s.label == sampler.default_schedule)
    if sampler.discards_penultimate:
        flags["discard_next_to_last_sigma"] = True
    if sampler.stages > 1:
        flags["second_order"] = True
    if sampler.brownian:
        flags["brownian_noise"] = True
    return flags


def _ram() -> dict[str, Any]:
    """Where the system tells; this process's share of it as A1111 counts."""
    if not sys.platform.startswith("linux"):
        return {"error": "not known on this system"}
    try:
        said = dict(re.findall(r"^(\w+):\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE))
        used = re.search(r"^VmRSS:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        total, mine = int(said["MemTotal"]) << 10, int(used[1]) << 10 if used else 0
    except (OSError, KeyError) as error:
        return {"error": str(error)}
    return {"free": total - mine, "used": mine, "total": total}
