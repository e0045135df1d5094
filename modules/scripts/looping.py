"""The request of a cell that starts from what another one made."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from modules.errors import RequestError
from modules.images.decode import decode
from modules.roles import by_role
from modules.scripts.host import Host

_ONCE = ("outpaint_left", "outpaint_right", "outpaint_up", "outpaint_down", "box")
"""Fields that belong to the picture that was given: it is extended once, and the box is a place in it."""


def from_picture_of(host: Host, fields: dict[str, Any], job_id: str, user: str) -> dict[str, Any]:
    """`fields` with the first picture of a job as the init image, and the mask brought to its size.

    Raises:
        RequestError: the picture, or the mask, is gone.
    """
    job = host.job(job_id, user)
    if job is None or not job.pictures:
        raise RequestError("the picture that it would start from is gone")
    picture = job.pictures[0]
    try:
        data = picture.path.read_bytes()
    except OSError:
        raise RequestError(f"the picture that it would start from, {picture.name}, is not in the outputs folder") from None
    found = {name: value for name, value in by_role(fields).items() if name not in _ONCE}
    pictures = {**found["pictures"], "init": host.keep_upload(data, user).id}
    if "mask" in pictures:
        pictures["mask"] = _fitted(host, pictures["mask"], (picture.width, picture.height), user)
    return {**found, "pictures": pictures}


def _fitted(host: Host, mask: str, size: tuple[int, int], user: str) -> str:
    path = host.upload_path(mask, user)
    if path is None:
        raise RequestError("its mask is not kept here any more")
    try:
        image = decode(path.read_bytes())
    except OSError:
        raise RequestError("its mask is not kept here any more") from None
    if image.size == size:
        return mask
    buffer = io.BytesIO()
    image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(buffer, "PNG")
    return host.keep_upload(buffer.getvalue(), user).id
