"""What one request may ask for, as both APIs tell it; enforced by `modules.request`, the queue and the guard."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from modules.app import App
from modules.fields import bounds_of
from modules.request import (
    MAX_PIXELS,
    MAX_PROMPT,
    MAX_SEED,
    MAX_SIDE,
    MAX_STYLES,
    MAX_TILED_SIDE,
    MIN_SIDE,
    SIDE_STEP,
    Txt2Img,
)

DECODERS = 2
"""Pictures that are decoded at a time: the largest takes some 250 MB while it is."""


class Limits(BaseModel):
    prompt_characters: int
    styles: int
    seed: int = Field(description="The largest.")
    steps: int
    cfg_scale: float
    least_side: int = Field(description="Pixels.")
    most_side: int
    most_side_tiled: int = Field(description="With tiled diffusion.")
    side_multiple: int
    count: int = Field(description="Pictures of one job; in A1111's terms, n_iter x batch_size.")
    n_iter: int
    batch_size: int
    pixels: int = Field(description="width x height x count.")
    source_side: int = Field(description="Pixels a side of a picture that is sent.")
    source_pixels: int
    jobs_per_user: int = Field(description="Unfinished jobs.")
    jobs_in_total: int


def limits_of(app: App) -> dict[str, Any]:
    return {
        "prompt_characters": MAX_PROMPT,
        "styles": MAX_STYLES,
        "seed": MAX_SEED,
        "steps": _most("steps"),
        "cfg_scale": _most("cfg_scale"),
        "least_side": MIN_SIDE,
        "most_side": MAX_SIDE,
        "most_side_tiled": MAX_TILED_SIDE,
        "side_multiple": SIDE_STEP,
        "count": _most("count"),
        "n_iter": 100,
        "batch_size": 100,
        "pixels": MAX_PIXELS,
        "source_side": 8192,
        "source_pixels": MAX_PIXELS,
        "jobs_per_user": app.settings.jobs_per_user,
        "jobs_in_total": app.settings.jobs_in_total,
    }


def _most(field: str) -> Any:
    return bounds_of(Txt2Img, field).le
