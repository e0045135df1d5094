"""How a network paints along a map of classes (latent diffusion's semantic synthesis): the init image is the map, and noise its
start.

A grey picture says the numbers of classes by its values (0 is the first class), as label maps of COCO-Stuff and others do; any
other one by the colours of the Pascal VOC palette, in which such maps are published to be looked at.
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import numpy as np
import torch
from PIL import Image

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.networks import OfMaps
from modules.diffusion.transfers import sent
from modules.errors import RequestError
from modules.pipelines.ops import Program, on_host
from modules.pipelines.prompting import Prompted
from modules.pipelines.region import Region
from modules.pixels import Picture
from modules.request import Img2Img

COLOURS = 256
"""Of the palette."""
NEAR = 24
"""How far a colour may be from the palette's, red, green and blue together: maps were saved as JPEG too."""


def at_size(request: Img2Img, picture: Image.Image) -> Image.Image:
    """The map at the request's size, each pixel one of its own: classes have no means.

    "Crop and resize" cuts what stands over off; with any other resize mode it is stretched.
    """
    width, height = request.width, request.height
    if request.resize_mode == "Crop and resize":
        scale = max(width / picture.width, height / picture.height)
        cut = min(picture.width, round(width / scale)), min(picture.height, round(height / scale))
        left, top = (picture.width - cut[0]) // 2, (picture.height - cut[1]) // 2
        picture = picture.crop((left, top, left + cut[0], top + cut[1]))
    return picture.convert("RGB").resize((width, height), Image.Resampling.NEAREST)


def concat_map(model: ModelHandle, region: Region, words: Prompted) -> Program[Prompted]:
    """The words, with the region's picture, a map of classes, as concat conditioning.

    Raises:
        RequestError: the picture is no map of classes that the network knows.
    """
    space = cast(OfMaps, model.latent)

    def read() -> torch.Tensor:
        return space.of_map(torch.from_numpy(classes_of(region.picture, space.classes)))

    channels = yield from on_host(read)
    return words.concatenated(sent(channels, model.device))


def classes_of(picture: Picture, known: int) -> np.ndarray:
    """The class number of each pixel of a map (h, w, 3): int64 (h, w), each below `known`.

    Raises:
        RequestError: a value or a colour is that of no class.
    """
    if (picture[..., :1] == picture).all():
        numbers = picture[..., 0].astype(np.int64)
        if (beyond := int(numbers.max())) >= known:
            raise RequestError(
                f"source: as a map of classes it says {beyond}, where this checkpoint knows 0 to {known - 1}; give it a grey "
                "picture whose values are numbers of classes, or one in the colours of the Pascal VOC palette"
            )
        return numbers
    colours, which = np.unique(picture.reshape(-1, 3), axis=0, return_inverse=True)
    palette = voc_palette()[: min(known, COLOURS)].astype(np.int64)
    nearest = np.empty(len(colours), dtype=np.int64)
    for start in range(0, len(colours), 4096):
        part = colours[start : start + 4096].astype(np.int64)
        distance = np.abs(part[:, None] - palette[None]).sum(axis=2)
        nearest[start : start + 4096] = distance.argmin(axis=1)
        if (far := distance.min(axis=1)).max() > NEAR:
            colour = "#" + "".join(f"{value:02x}" for value in part[far.argmax()])
            raise RequestError(
                f"source: the colour {colour} stands for no class; this checkpoint paints along a map: a grey picture whose "
                f"values are numbers of classes (0 to {known - 1}), or one in the colours of the Pascal VOC palette"
            )
    return nearest[which.reshape(-1)].reshape(picture.shape[:2])


@lru_cache(maxsize=1)
def voc_palette() -> np.ndarray:
    """The colours (256, 3) uint8 of class numbers: their bits in threes, the lowest as the highest bits of red, green and blue
    (Everingham et al. 2010, The Pascal Visual Object Classes Challenge, development kit)."""
    palette = np.zeros((COLOURS, 3), dtype=np.uint8)
    for number in range(COLOURS):
        rest = number
        for bit in range(7, -1, -1):
            for channel in range(3):
                palette[number, channel] |= (rest >> channel & 1) << bit
            rest >>= 3
    return palette
