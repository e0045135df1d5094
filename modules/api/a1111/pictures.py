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
from modules.images import png, reading
from modules.images.containers import USUAL, WALKED, read_container
from modules.images.decode import decode
from modules.images.encoding import Form, encode, form_of
from modules.images.metadata import record_of

_ADDRESS = re.compile(r"\s*[a-zA-Z][a-zA-Z0-9+.-]*:")
_DATA = re.compile(r"\s*data:[^,]{0,200};base64,", re.IGNORECASE)


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


def file_as_asked(data: bytes, options: Mapping[str, Any]) -> bytes:
    """A saved picture's file as the options want it: as it lies there, or made anew with the same texts inside.

    A grid that is too large to be decoded stays as it lies there.
    """
    container, form = read_container(data, bounds=WALKED), _form(options)
    if container.kind.lower() == form.kind or not USUAL.hold(container.width, container.height):
        return data
    image = decode(data).convert("RGB")
    return encode(image.tobytes(), *image.size, saved_infotext(data), record_of(container), form).data


def encoded(image: Image.Image, texts: Mapping[str, str], options: Mapping[str, Any]) -> bytes:
    """A picture as a file of the options' format.  Only PNG keeps transparency, and texts beside the parameters."""
    form = _form(options)
    if form.kind != "png":
        flat = image.convert("RGB")
        return encode(flat.tobytes(), *flat.size, texts.get(png.PARAMETERS, ""), "", form).data
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info, **png.COMPRESSION)
    return buffer.getvalue()


def saved_infotext(data: bytes) -> str:
    """The parameters text in a picture's file, "" without one."""
    return reading.read_picture(data).infotext


def _form(options: Mapping[str, Any]) -> Form:
    kind = options["samples_format"].replace("jpg", "jpeg")
    lossless = kind == "webp" and options["webp_lossless"]
    return form_of(kind, 100 if lossless else options["jpeg_quality"])


def grid(images: Sequence[Image.Image]) -> Image.Image:
    """All pictures side by side on black, in about as many rows as columns, as A1111 lays them out."""
    rows = max(1, min(len(images), round(math.sqrt(len(images)))))
    columns = math.ceil(len(images) / rows)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, rows * height))
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    return sheet
