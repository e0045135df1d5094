"""The key of tiled diffusion in A1111's text: one object, as the extension of that name (pkuliyi2015, "Tiled Diffusion & VAE")
writes it.

Its sizes count latent positions of 8 pixels.  We quote the object, so that readers that know no JSON find its end; it comes
without quotes (A1111 since 1.6), in quotes, and in Python's notation (before).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

from modules.request import GenerationRequest
from modules.request.tiles import TileMethod

TILED = "Tiled Diffusion"
LATENT = 8
"""Pixels of a latent position."""
_LONGEST = 4_000
_SIZES = {"tile_width": "Tile tile width", "tile_height": "Tile tile height", "tile_overlap": "Tile Overlap"}
_BATCH = "Tile batch size"
_BEYOND = {"NoiseInv": "inverted noise", "Region control": "regions with words of their own", "Upscaler": "an upscaler"}


def tile_items(request: GenerationRequest) -> Iterator[tuple[str, str]]:
    """The item, where a picture was painted in windows; sizes that a request left open are left out."""
    if not request.tiled_diffusion:
        return
    sizes = {key: getattr(request, name) for name, key in _SIZES.items()}
    said = {key: value // LATENT for key, value in sizes.items() if value is not None}
    yield TILED, json.dumps({"Method": request.tile_method, **said, _BATCH: request.tile_batch})


def tile_fields(text: str) -> dict[str, Any]:
    """The fields that its value names; none where it names no method that is known here."""
    text = text[:_LONGEST]
    method = re.search(r"""["']Method["']:\s*["']([^"']{0,40})["']""", text)
    if method is None or method[1] not in get_args(TileMethod):
        return {}
    fields: dict[str, Any] = {"tiled_diffusion": True, "tile_method": method[1]}
    for name, key in _SIZES.items():
        if (value := _number(text, key)) is not None:
            fields[name] = value * LATENT
    if (batch := _number(text, _BATCH)) is not None:
        fields["tile_batch"] = min(max(1, batch), 8)
    return fields


def beyond_tiles(text: str) -> list[str]:
    """What the value asks for and is not here."""
    if not tile_fields(text):
        return ["a picture in tiles"] if text else []
    return [what for key, what in _BEYOND.items() if re.search(rf"""["']{key}["']""", text[:_LONGEST])]


def _number(text: str, key: str) -> int | None:
    found = re.search(rf"""["']{key}["']:\s*([0-9]{{1,5}})\b""", text)
    return int(found[1]) if found else None
