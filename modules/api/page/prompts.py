"""The endpoints of the prompt tools: what is understood of a prompt, and the names that may stand in one.

Both answers are the same for everybody.  Working them out takes up to a second for the worst text that is allowed, so it is
done on a thread, and only a few at a time: the page asks while people type.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

from modules.api.json_writer import json_text
from modules.api.page.queue import json_object
from modules.app import App
from modules.checkpoints.families import FAMILIES
from modules.checkpoints.files import CheckpointInfo
from modules.errors import SettingsError

MAX_CHECKS = 2
"""Checks that are worked out at the same time; more wait."""


def prompt_endpoints(app: App) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    few = anyio.CapacityLimiter(MAX_CHECKS)

    @router.post("/internal/prompt/check")
    async def check(request: Request) -> Response:
        """A `PromptCheck` from a JSON object of a request's fields; those that have nothing to do with prompts are ignored."""
        fields = await json_object(request)
        return await _answer(lambda: dataclasses.asdict(app.check_prompt(fields)), few)

    @router.get("/internal/prompt/names")
    async def names(request: Request) -> Response:
        """What can be written or chosen: `wildcards` without their underscores, `styles` in the order of the file, `embeddings`
        that can be used with some checkpoint, and `loras` as they are named between angle brackets; `lora_words` has, by name,
        the trigger words, weight and negative words that are preferred for one.  `classes` are, by
        checkpoint, the names of classes of those that are told a class or boxes."""
        return await _answer(lambda: _names(app), few)

    return router


async def _answer(work: Callable[[], dict[str, Any]], few: anyio.CapacityLimiter) -> Response:
    """What `work` returns, worked out and written as JSON on a thread."""
    text = await anyio.to_thread.run_sync(lambda: json_text(work()), limiter=few)
    return Response(text, media_type="application/json")


def _names(app: App) -> dict[str, Any]:
    return {
        "wildcards": app.library.wildcard_names(),
        "styles": _styles(app),
        "embeddings": [info.name for info in app.embeddings() if not info.problem],
        "loras": app.loras(),
        "lora_words": app.model_library.prompt_words(),
        "classes": {info.name: list(info.motifs) for info in app.checkpoints() if _names_classes(info)},
    }


def _names_classes(info: CheckpointInfo) -> bool:
    """Whether prompts of a checkpoint name classes."""
    family = FAMILIES.find(info.family)
    return family is not None and family.words in ("class", "boxes") and bool(info.motifs)


def _styles(app: App) -> list[str]:
    """None when the file is damaged: the form says so, and so does a request that names a style."""
    try:
        return list(app.library.styles())
    except SettingsError:
        return []
