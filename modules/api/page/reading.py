"""The endpoint that says how a picture was made: `POST /internal/read`, for PNG Info and for what is dropped on a prompt.

The reading itself is `modules.images.reading`'s; here it meets this instance: which of what it names is here, under which name,
and what is missing.  Nothing is kept of what was sent.  Everything that comes back is text for the page to show as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from modules.api.page.jobs import exact
from modules.app import App
from modules.checkpoints.hashes import known_sha256
from modules.diffusion.samplers import find_sampler
from modules.diffusion.schedules import find_schedule
from modules.errors import RequestError, UnknownName
from modules.images.infotext_parsing import MAX_INFOTEXT
from modules.images.reading import Found, read_picture, read_text
from modules.request import LATER_FIELDS, GuidanceOptions, NoiseOptions, SamplerOptions, Txt2Img

READERS = 2
"""Pictures that are read at a time: one that says nothing openly is decoded."""

_UNSAID = {
    name: Txt2Img.model_fields[name].default
    for options in (NoiseOptions, SamplerOptions, GuidanceOptions)
    for name in (*options.model_fields, *LATER_FIELDS)
    if name in Txt2Img.model_fields  # what only some pictures from pictures have, they name themselves
} | {
    "clip_skip": 1,
    "emphasis": "Original",
    "comments": True,
    "old_prompt_editing": False,
    "styles": [],
    "extensions": {},
    "kept_extensions": {},
    "hires": None,
}
"""What a recipe means that does not name them, whatever the form shows."""


@dataclass(frozen=True)
class Here:
    """`fields` for a form of this instance: names are those of what is here, and only of that.

    `checkpoint` is None when the picture names none that is here; `missing` are kind, name and hash of what is not.
    """

    fields: dict[str, Any]
    checkpoint: str | None
    missing: tuple[dict[str, str], ...]
    notes: tuple[str, ...]


def match(found: Found, app: App, user: str) -> Here:
    """What of a read picture can be used here by this user."""
    fields = {**_UNSAID, **found.fields} if found.fields else {}
    fields, said = app.with_local_loras(fields, found.lora_hashes)
    notes = [*found.notes, *said]
    checkpoint = _checkpoint(found.checkpoints, app)
    missing = []
    fields.pop("checkpoint", None)
    if checkpoint is not None:
        fields["checkpoint"] = checkpoint
    elif found.checkpoints:
        missing.append(_missing("checkpoint", *_name_and_hash(found.checkpoints)))
    here = {
        "lora": {name.casefold() for name in app.loras()},
        "embedding": {info.name.casefold() for info in app.embeddings() if not info.problem},
        "hypernetwork": {info.name.casefold() for info in app.hypernetworks() if not info.problem},
    }
    named = fields.get("prompt", "")
    for network in found.networks:
        if network.kind == "lora" and said and f":{network.name}" not in named:
            continue  # it is here under another name
        if network.name.casefold() not in here[network.kind]:
            missing.append(_missing(network.kind, network.name, network.hash))
    notes += _known_names(fields)
    known = (app.recipe_vae(fields), app.recipe_refiner(fields), app.recipe_hires(fields), app.recipe_upscaler(fields))
    notes += [note for note in known if note]
    for name in ("source", "mask"):
        if fields.get(name) and app.upload_path(fields[name], user) is None:
            del fields[name]
            notes.append(f"the picture's {name} is not kept here (any more)")
    return Here(fields, checkpoint, tuple(missing), tuple(notes))


def _checkpoint(names: tuple[str, ...], app: App) -> str | None:
    """By its hash, which is sure, then by its name.  Files that were never loaded have no known hash."""
    cache = Path(app.settings.data_dir) / "hashes.json"
    for name in names:
        if re.fullmatch("[0-9a-f]{8,64}", digits := name.lower()):
            usable = (info for info in app.checkpoints() if not info.problem)
            if found := next((info.name for info in usable if known_sha256(info.path, cache).startswith(digits)), None):
                return found
        try:
            return app.checkpoint(name).name
        except RequestError:
            continue
    return None


def _name_and_hash(names: tuple[str, ...]) -> tuple[str, str]:
    return (names[1], names[0]) if len(names) > 1 else (names[0], "")


def _missing(kind: str, name: str, digits: str) -> dict[str, str]:
    return {"kind": kind, "name": name, "hash": digits}


def _known_names(fields: dict[str, Any]) -> list[str]:
    """Sampler and schedule under our names, in place; what is not here is left out and named."""
    notes = []
    try:
        if "sampler" in fields:
            sampler, schedule = find_sampler(fields["sampler"])
            fields |= {"sampler": sampler.name} | ({"schedule": schedule} if schedule else {})
    except UnknownName:
        notes.append(f"the sampler {fields.pop('sampler')!r} is not here")
        fields.pop("schedule", None)
    try:
        if "schedule" in fields:
            fields["schedule"] = find_schedule(fields["schedule"]).label
    except UnknownName:
        notes.append(f"the schedule {fields.pop('schedule')!r} is not here")
    return notes


def reading_endpoints(app: App) -> APIRouter:
    """`/internal/read`."""
    router = APIRouter(include_in_schema=False)
    few = anyio.CapacityLimiter(READERS)

    @router.post("/internal/read")
    async def read(request: Request) -> Response:
        """The body is a picture, or with text/plain an A1111 text; 200 also for one that says nothing, with no `program`."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        data, user = await request.body(), request.state.user

        def answer() -> dict[str, Any]:
            if kind == "text/plain":
                found = read_text(data[: 4 * MAX_INFOTEXT].decode("utf-8", "replace")[:MAX_INFOTEXT])
            else:
                found = read_picture(data)
            return found_json(found, match(found, app, user))

        return JSONResponse(await anyio.to_thread.run_sync(answer, limiter=few))

    return router


def found_json(found: Found, here: Here) -> dict[str, Any]:
    return {
        "program": found.program,
        "version": found.version,
        "infotext": found.infotext,
        "prompt": found.prompt,
        "negative_prompt": found.negative_prompt,
        "fields": exact(here.fields),
        "checkpoint": here.checkpoint,
        "missing": list(here.missing),
        "items": [[key, value] for key, value in found.items.items()],
        "texts": [[name, text] for name, text in found.texts.items()],
        "notes": list(here.notes),
        "format": found.format,
        "width": found.width,
        "height": found.height,
    }
