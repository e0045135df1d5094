"""From an untrusted file to a picture in memory: the one decoder for every uploaded picture.

The header is read and judged before anything is decoded, the decoder sees the bare picture and nothing else of the file, and
whatever goes wrong in it is a sentence for a person.  What the file says about itself is `reading`'s business.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from modules.errors import RequestError
from modules.images import exif
from modules.images.containers import USUAL, Bounds, Container, read_container

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture of EXIF's orientation upright (EXIF 2.32, table 6)."""


def decode(data: bytes, name: str = "the picture", bounds: Bounds = USUAL) -> Image.Image:
    """A PNG, JPEG, WebP or AVIF, known by its content, as loaded "RGB", or "RGBA" where something of it is transparent.

    Upright as EXIF asks; 16 bits are cut to 8, palettes, grey and CMYK become RGB, of an animation the first frame is taken.
    Colour profiles are not applied, as in A1111.  `name` begins the sentence of an error.

    Raises:
        RequestError: none of these formats, more pixels than `bounds` hold (33.5 megapixels, 8192 a side), over 1 MiB of text
            or EXIF, or damaged.
    """
    container = read_container(data, name, bounds)
    try:
        return _upright(_decoded(container), container)
    except (Exception, Image.DecompressionBombWarning):
        # Pillow's decoders raise OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, MemoryError and more.
        raise RequestError(f"{name} is damaged: its pixels cannot be decoded") from None


def _decoded(container: Container) -> Image.Image:
    with Image.open(io.BytesIO(container.essence), formats=[container.kind]) as image:
        if image.size != (container.width, container.height):
            raise ValueError("the decoder sees another size than the header says")
        image.load()
        if image.mode.startswith("I"):
            return _from_deep_grey(image)
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            return rgba if rgba.getchannel("A").getextrema() != (255, 255) else rgba.convert("RGB")
        return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """16-bit grey, whose upper 8 bits are kept; Pillow would clip it instead."""
    grey = np.asarray(image).astype(np.uint16)
    upper = Image.fromarray((grey >> 8).astype(np.uint8), "L").convert("RGB")
    clear = image.info.get("transparency")
    if isinstance(clear, int) and (grey == clear).any():
        upper.putalpha(Image.fromarray(np.where(grey == clear, 0, 255).astype(np.uint8), "L"))
    return upper


def _upright(image: Image.Image, container: Container) -> Image.Image:
    turn = _TURNS.get(exif.orientation(exif.read_tags(container.exif)))
    return image if turn is None else image.transpose(turn)
