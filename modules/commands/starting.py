"""The pictures that `generate` starts from: files named on the command line, as fields of a request."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from modules.app import App
from modules.catalogue import enlarging_factor
from modules.errors import RequestError
from modules.images.infotext_fields import IMG2IMG_FIELDS
from modules.images.uploads import Upload
from modules.options import FROM_PICTURES
from modules.request import MAX_SIDE, MIN_SIDE, SIDE_STEP

MAX_FILE = 64 << 20


def starting_fields(app: App, values: argparse.Namespace, fields: dict[str, Any], user: str) -> dict[str, Any]:
    """The fields that --init and --mask stand for, beside what was said in `fields`.

    Without a size the picture keeps its shape, at the area that the checkpoint is best run with, and grows by the factor of a
    checkpoint that enlarges pictures.

    Raises:
        RequestError: there is no such file or it is no picture; or a flag needs a picture to start from and there is none.
    """
    if values.init is None:
        if values.source is None and (idle := [_flag(name) for name in fields if name in IMG2IMG_FIELDS]):
            raise RequestError(f"{idle[0]} needs a picture to start from; add --init PICTURE")
        if values.mask is not None:
            raise RequestError("--mask needs a picture to start from; add --init PICTURE")
        return {}
    start = _kept(app, "--init", values.init, user)
    found: dict[str, Any] = {"source": start.id, "mask": None}
    if values.mask is not None:
        found["mask"] = _kept(app, "--mask", values.mask, user).id
    if "width" not in fields:
        info = app.checkpoint(fields.get("checkpoint"))
        if not enlarging_factor(info):  # else the size is found when it is submitted
            found["width"], found["height"] = shaped(start.width, start.height, info.defaults.width * info.defaults.height)
    return found


def shaped(width: int, height: int, area: int) -> tuple[int, int]:
    """A size of about `area` pixels in the shape of width x height, in steps and bounds that a request allows.

    >>> shaped(3000, 2000, 512 * 512)
    (624, 416)
    """
    scale = math.sqrt(area / (width * height))
    steps = (round(side * scale / SIDE_STEP) * SIDE_STEP for side in (width, height))
    wide, high = (min(max(side, MIN_SIDE), MAX_SIDE) for side in steps)
    return wide, high


def _flag(name: str) -> str:
    return next((option.flag for option in FROM_PICTURES if option.name == name), "--strength")


def _kept(app: App, flag: str, name: str, user: str) -> Upload:
    path = Path(name).expanduser()
    try:
        if path.stat().st_size > MAX_FILE:
            raise RequestError(f"{flag} {name}: it is larger than 64 MiB; scale it down first")
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{flag} {name}: it cannot be read ({error.strerror})") from None
    return app.input_images.uploads.keep(data, user, name)
