"""The pipeline of a picture that is only enlarged, and upscalers between two stages: an upscaler's tiles, a device op each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image

from modules.checkpoints.upscaler_networks import UpscalerHandle
from modules.diffusion.device_memory import free_memory
from modules.diffusion.upscaling import Canvas, padded
from modules.pipelines.ops import Program, load_upscaler, on_host, progressed, upscale_tile
from modules.pipelines.painted import Painted
from modules.pixels import Picture, resize
from modules.pixels.enlarging import UPSCALERS, by_filter, put_together
from modules.request import Upscaling
from modules.request.upscaling import passes, sizes


@dataclass
class Tally:
    """Tiles that are done, of all that there are to do; `said` is whether they are reported as progress."""

    total: int = 0
    done: int = 0
    said: bool = False


def upscaled_picture(request: Upscaling, pictures: Mapping[str, Image.Image]) -> Program[Painted]:
    """The picture that a request for another size asks for; `pictures` has its source as "init", RGB or RGBA.

    Raises:
        RequestError: an upscaler is not here.
        NotFinite: one gives NaN or infinity.
    """
    image = pictures["init"]
    transparent = image.mode == "RGBA" and np.asarray(image.getchannel("A")).min() < 255
    pixels = yield from on_host(lambda: np.asarray(image.convert("RGB")))
    models = {}
    for name in request.upscalers:
        if name not in UPSCALERS and name not in models:
            models[name] = yield from load_upscaler(name)
    source = image.width, image.height
    exact, final = sizes(source, request.factor(source))
    tally = Tally(sum(_tiles(source, final, models[name]) for name in request.upscalers if name in models), said=True)
    yield from progressed(0, max(1, tally.total))

    results = []
    for name in request.upscalers:
        results.append((yield from _scaled(pixels, name, exact, final, models.get(name), tally)))
    made = yield from on_host(lambda: _finished(request, results or [pixels]))
    yield from progressed(max(1, tally.total), max(1, tally.total))
    facts = {"notes": "transparency is left out"} if transparent else {}
    kinds = {str(model.dtype).removeprefix("torch.") for model in models.values()} - {"float32"}
    facts |= {"dtype": kinds.pop()} if kinds else {}
    return Painted(torch.tensor(made), None, "", request.said(), facts)


def covering(pixels: Picture, width: int, height: int, upscaler: str) -> Program[Picture]:
    """`pixels` (H, W, 3), enlarged by an upscaler of any kind until they cover `width` x `height`, and cut off evenly."""
    if upscaler in UPSCALERS:
        return (yield from on_host(partial(copy_context().run, resize.upscale, pixels, width, height, upscaler)))
    model = yield from load_upscaler(upscaler)
    scale = max(width / pixels.shape[1], height / pixels.shape[0])
    wanted = math.ceil(pixels.shape[1] * scale), math.ceil(pixels.shape[0] * scale)
    large = yield from _passes(pixels, wanted, model, Tally())
    return (yield from on_host(lambda: resize.upscale(large, width, height, "Lanczos")))


def enlarged(pixels: Picture, model: UpscalerHandle, tally: Tally) -> Program[Picture]:
    """`pixels` (H, W, 3) by one pass of a network, tile by tile: (scale H, scale W, 3)."""
    height, width = pixels.shape[:2]
    grown = yield from on_host(lambda: padded(pixels))
    tiles = model.tiles(free_memory(model.device))
    canvas = Canvas(grown.shape[:2], model.scale, tiles)
    for piece in canvas.pieces():
        tile = torch.from_numpy(grown[piece.rows, piece.columns].copy()).permute(2, 0, 1).float() / 255.0
        made = yield from upscale_tile(model, tile)
        # A row of tiles has some hundred megabytes: the device's thread has others to serve meanwhile
        yield from on_host(partial(canvas.put, piece, made.permute(1, 2, 0).numpy()))
        tally.done += 1
        if tally.said:
            yield from progressed(min(tally.done, tally.total), max(1, tally.total))
    return canvas.pixels[: height * model.scale, : width * model.scale]


def _scaled(
    pixels: Picture, name: str, exact: tuple[int, int], final: tuple[int, int], model: UpscalerHandle | None, tally: Tally
) -> Program[Picture]:
    """A filter makes the exact size, a network as many passes as are needed; Lanczos brings both to the final size."""
    if model is None:
        image = Image.fromarray(pixels)
        return np.asarray((yield from on_host(partial(copy_context().run, by_filter, image, name, exact, final))))
    large = yield from _passes(pixels, final, model, tally)
    return (yield from on_host(lambda: resize.scale(large, *final)))


def _passes(pixels: Picture, wanted: tuple[int, int], model: UpscalerHandle, tally: Tally) -> Program[Picture]:
    """`pixels` after the passes of a network that make them as large as `wanted` (width, height)."""
    for size, before in passes((pixels.shape[1], pixels.shape[0]), wanted, model.scale):
        if before != (pixels.shape[1], pixels.shape[0]):
            pixels = yield from on_host(partial(resize.scale, pixels, *before))
        pixels = yield from enlarged(pixels, model, tally)
        assert size == (pixels.shape[1], pixels.shape[0])
    return pixels


def _tiles(source: tuple[int, int], wanted: tuple[int, int], model: UpscalerHandle) -> int:
    """How many tiles the passes take."""
    tiles = model.tiles(free_memory(model.device))
    up = [(math.ceil(before[0] / 4) * 4, math.ceil(before[1] / 4) * 4) for _, before in passes(source, wanted, model.scale)]
    return sum(len(tiles.starts(width)) * len(tiles.starts(height)) for width, height in up)


def _finished(request: Upscaling, results: Sequence[Picture]) -> Picture:
    images = [Image.fromarray(result) for result in results]
    return np.asarray(put_together(images, request.upscaler_2_visibility, request.cropped_to))
