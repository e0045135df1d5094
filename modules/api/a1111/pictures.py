"""Pictures as text: base64 or data URIs coming in, base64 of whole files going out, with the parameters text inside.

No address is ever fetched.  What a file may be is `modules.images.decode`'s to say; what its text says is not looked at.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.errors import RequestError
from modules.images import exif, png
from modules.images.decode import decode

_ADDRESS = re.compile(r"\s*[a-zA-Z][a-zA-Z0-9+.-]*:")
_DATA = re.compile(r"\s*data:[^,]{0,200};base64,", re.IGNORECASE)
_MOST_EXIF = 65_000
"""Bytes of EXIF that a JPEG carries in one segment."""


def picture_bytes(text: str, name: str) -> bytes:
    """The file that a client sent as base64, with or without a data URI's head.

    Raises:
        RequestError: it is an address, empty, or no base64.
    """
    if head := _DATA.match(text):
        text = text[head.end() :]
    elif _ADDRESS.match(text[:100]):
        raise RequestError(f"{name}: pictures are not fetched from addresses; send base64")
    bare = "".join(text.split()).rstrip("=")
    try:
        data = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(f"{name}: this is not base64; send the picture's file as base64") from None
    if not data:
        raise RequestError(f"{name}: there is no picture; send its file as base64")
    return data


def read_picture(text: str, name: str) -> Image.Image:
    """The decoded picture, RGB or RGBA.

    Raises:
        RequestError: as `picture_bytes`, or it is no picture that is read here.
    """
    return decode(picture_bytes(text, name), name)


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def file_as_asked(data: bytes, infotext: str, options: Mapping[str, Any]) -> bytes:
    """A saved picture's file as the options want it: a PNG as it lies there, else made anew, with the same text inside."""
    kind = options["samples_format"]
    if kind == "png" and data.startswith(b"\x89PNG"):
        return data
    return encoded(decode(data), {png.PARAMETERS: infotext} if infotext else {}, options)


def encoded(image: Image.Image, texts: Mapping[str, str], options: Mapping[str, Any]) -> bytes:
    """A picture as a file of the options' format.  JPEG and WebP carry the parameters in EXIF's UserComment, as A1111's do."""
    kind = options["samples_format"]
    buffer = io.BytesIO()
    if kind == "png":
        info = PngInfo()
        for keyword, text in texts.items():
            info.add_text(keyword, text)
        image.save(buffer, "PNG", pnginfo=info, compress_level=4)
        return buffer.getvalue()
    comment = b"UNICODE\0" + texts.get(png.PARAMETERS, "").encode("utf-16-be")
    told = {"exif": exif.write_tags({exif.USER_COMMENT: comment})} if len(comment) <= _MOST_EXIF else {}
    if kind == "webp":
        image.save(buffer, "WEBP", quality=options["jpeg_quality"], lossless=options["webp_lossless"], **told)
    else:
        image.convert("RGB").save(buffer, "JPEG", quality=options["jpeg_quality"], **told)
    return buffer.getvalue()


def grid(images: Sequence[Image.Image]) -> Image.Image:
    """All pictures side by side on black, in about as many rows as columns, as A1111 lays them out."""
    rows = max(1, min(len(images), round(math.sqrt(len(images)))))
    columns = math.ceil(len(images) / rows)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, rows * height))
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    return sheet
