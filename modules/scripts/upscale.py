"""SD upscale: a picture enlarged by an upscaler, painted again in overlapping tiles, which are put together.

Where the upscaler is a file, one more cell behind the tiles enlarges the picture first, on the device; filters need none.

Source: AUTOMATIC1111 v1.10.1, `scripts/sd_upscale.py`: its options, seeds and keys of the infotext.  The form's size is that of
a tile.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from modules.checkpoints.upscalers import no_files
from modules.errors import RequestError
from modules.images.decode import decode
from modules.pixels import Picture, resize
from modules.request import MAX_SOURCE_PIXELS, MAX_SOURCE_SIDE, MIN_SIDE, SIDE_STEP
from modules.request.tiles import Tiles, Window
from modules.roles import by_role
from modules.scripts.host import Host
from modules.scripts.plan import ENLARGE, Cell, Fields, Plan, ScriptError, changes, check_size, counted, with_seeds
from modules.scripts.xyz import Check

NO_UPSCALER = "None"
MAX_SCALE = 8.0

Size = tuple[int, int]
SizeOf = Callable[[Fields], Size | None]
"""The size (width, height) of the picture that a request starts from, None where it is not known."""

TILE = "tile"
"""What a cell's changes have beside fields of a request: left, top, width and height of its tile in the enlarged picture, the
enlarged picture's width and height, and the upscaler's name."""


@dataclass(frozen=True)
class Upscale:
    """`overlap` in pixels; `scale_factor` counts with an `upscaler` only."""

    overlap: int = 64
    upscaler: str = "Lanczos"
    scale_factor: float = 2.0


def plan_upscale(asked: Upscale, base: Fields, check: Check, size_of: SizeOf, named: Callable[[str], str]) -> Plan:
    """A cell for each tile; a sheet for each of the request's pictures.  `named` is the name here of an upscaler.

    Raises:
        ScriptError: a number is out of range, there is no such upscaler, or it is not a whole picture from a picture.
    """
    try:
        name = named(asked.upscaler)
    except RequestError as error:
        raise ScriptError(str(error), "upscaler") from None
    if not 1 <= asked.scale_factor <= MAX_SCALE:
        raise ScriptError(f"the scale factor is 1 to {MAX_SCALE:g}, not {asked.scale_factor:g}", "scale_factor")
    count = base.get("count") or 1
    base = {**with_seeds(base), "count": 1}
    request = check(base, True)
    if getattr(request, "denoising_strength", None) is None:
        raise ScriptError("SD upscale starts from a picture; use it in img2img")
    if getattr(request, "inpaints", False):
        raise ScriptError("SD upscale paints the whole picture; take the mask and the extension away")
    old = size_of(base)
    if old is None:
        raise ScriptError("choose a picture to start from: how many tiles it becomes depends on its size")
    width, height = large = enlarged_size(old, name, asked.scale_factor)
    tile = min(request.width, width // SIDE_STEP * SIDE_STEP), min(request.height, height // SIDE_STEP * SIDE_STEP)
    if not 0 <= asked.overlap < min(tile):
        raise ScriptError(f"the overlap is 0 to {min(tile) - 1} pixels with tiles of {tile[0]}x{tile[1]}", "overlap")
    pictures = count if isinstance(count, int) else 1
    tiles = Tiles(*tile, asked.overlap)
    number = tiles.count(*large, unit=1) * pictures
    check_size(number, 1)
    windows = tiles.windows(*large, unit=1)
    enlarger = None if name in no_files() else number
    cells = [
        Cell({**changes(base, _tile_fields(base, tile, picture + number)), TILE: _place(window, large, name)}, enlarger)
        for picture in range(pictures)
        for number, window in enumerate(windows)
    ]
    if enlarger is not None:
        cells.append(Cell({ENLARGE: [name, asked.scale_factor]}))
    across = len({window.left for window in windows})
    return Plan(
        script="upscale",
        base=base,
        cells=tuple(cells),
        columns=((),) * across,
        rows=((),) * (len(windows) // across),
        sheets=tuple(f"Picture {number + 1}" for number in range(pictures)) if pictures > 1 else ("",),
        items={
            "SD upscale overlap": str(asked.overlap),
            "SD upscale upscaler": name,
            "SD upscale scale factor": f"{asked.scale_factor:g}",
        },
        order=() if enlarger is None else (enlarger, *range(enlarger)),
        draw_legend=False,
        notes=(f"It becomes {width} x {height} pixels, in {len(windows)} tiles of {tile[0]} x {tile[1]}.",),
    )


def enlarged_size(old: Size, upscaler: str, factor: float) -> Size:
    """The size of the enlarged picture: sides in steps of 8 where an upscaler makes it, as in A1111.

    Raises:
        ScriptError: it is too large, or too small to be painted.
    """
    width, height = old if upscaler == NO_UPSCALER else (int(side * factor) // SIDE_STEP * SIDE_STEP for side in old)
    if max(width, height) > MAX_SOURCE_SIDE or width * height > MAX_SOURCE_PIXELS:
        raise ScriptError(
            f"the picture would grow to {width}x{height}; at most {MAX_SOURCE_SIDE} a side and {MAX_SOURCE_PIXELS:,} pixels "
            "in all are painted; take a smaller scale factor",
            "scale_factor",
        )
    if min(width, height) < MIN_SIDE:
        raise ScriptError(f"the picture would have {width}x{height} pixels; a side has {MIN_SIDE} at least", "scale_factor")
    return width, height


def _tile_fields(base: Fields, tile: Size, seeds: int) -> Fields:
    return counted({**base, "width": tile[0], "height": tile[1], "resize_mode": "Just resize"}, seeds)


def _place(window: Window, large: Size, upscaler: str) -> list[int | str]:
    return [window.left, window.top, window.width, window.height, *large, upscaler]


def size_in(host: Host, user: str) -> SizeOf:
    """Of pictures that `user` sent."""

    def size_of(fields: Fields) -> Size | None:
        path = _init(host, fields, user)
        if path is None:
            return None
        with Image.open(path, formats=["PNG"]) as image:
            return image.size

    return size_of


def with_tile(host: Host, fields: Fields, user: str, enlarged_by: str = "") -> Fields:
    """The request of a cell: its tile of the enlarged picture, kept as a picture of its own, as the init image.

    `enlarged_by` is the job that made the enlarged picture, "" where a filter makes it here.

    Raises:
        RequestError: the picture that it starts from is gone.
    """
    left, top, width, height, *_ = place = fields[TILE]
    if enlarged_by:
        path, upscaler = enlarged_picture(host, enlarged_by, user), NO_UPSCALER
    else:
        path, upscaler = _init(host, fields, user), place[6]
    if path is None:
        what = "enlarged picture is not in the outputs folder" if enlarged_by else "picture that is enlarged is not kept here"
        raise RequestError(f"the {what} any more")
    whole = _enlarged(path, tuple(place[4:6]), upscaler)
    if whole.shape[1::-1] != tuple(place[4:6]):
        size = f"{whole.shape[1]}x{whole.shape[0]}"
        raise RequestError(f"the enlarged picture has {size} pixels in place of {place[4]}x{place[5]}; start the script again")
    buffer = io.BytesIO()
    Image.fromarray(whole[top : top + height, left : left + width]).save(buffer, "PNG", compress_level=1)
    found = {name: value for name, value in by_role(fields).items() if name != TILE}
    return {**found, "pictures": {"init": host.keep_upload(buffer.getvalue(), user).id}}


def enlarged_picture(host: Host, job_id: str, user: str) -> Path | None:
    """The file of the picture that a job enlarged, None where it is gone."""
    job = host.job(job_id, user)
    path = job.pictures[0].path if job is not None and job.pictures else None
    return path if path is not None and path.is_file() else None


def _init(host: Host, fields: Fields, user: str) -> Path | None:
    init = (by_role(fields).get("pictures") or {}).get("init")
    return host.upload_path(init, user) if isinstance(init, str) else None


def forget_enlarged() -> None:
    """Let go of the picture whose tiles were cut last."""
    _enlarged.cache_clear()


@lru_cache(maxsize=1)
def _enlarged(path: Path, large: Size, upscaler: str) -> Picture:
    """The enlarged picture, kept while its tiles are cut from it (`forget_enlarged`); a path has one content for ever."""
    image = decode(path.read_bytes())
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.asarray(image.convert("RGB"))
    return pixels if upscaler == NO_UPSCALER else resize.upscale(pixels, *large, upscaler)
