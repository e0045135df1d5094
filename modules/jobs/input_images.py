"""The pictures that jobs start from: whose they are, whether they are here, how they reach the engine, and what stays of them.

A request names pictures by id alone.  Here ids become files: those that the user sent lately (`modules.images.uploads`), or,
where one of the user's own jobs began with it, the copy beside the outputs.  It knows neither HTTP nor tensors.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from modules.errors import OutputError, RequestError
from modules.images import files
from modules.images.decode import decode
from modules.images.uploads import Upload, Uploads, missing, pixel_id
from modules.pixels.regions import Box, enlarged_size, working_size
from modules.queue.store import JobStore
from modules.request import (
    MAX_SIDE,
    MAX_SOURCE_PIXELS,
    MAX_SOURCE_SIDE,
    MAX_TILED_SIDE,
    GenerationRequest,
    Img2Img,
    Upscaling,
)
from modules.roles import FIELD_OF_ROLE, by_role

log = logging.getLogger("atelier")

KEPT = "sources"
"""The folder below the outputs where pictures stay that pictures were made from."""


class InputImages:
    """Init images and masks for jobs.

    Args:
        folder: where pictures lie that were sent.
        outputs: the outputs folder; init images and masks of saved pictures are kept in its folder `KEPT`.
        store: the job list, which knows what is needed and by whom.
        keep: whether they are kept there.
    """

    def __init__(self, folder: Path, outputs: Path, store: JobStore, keep: bool = True) -> None:
        self.uploads = Uploads(folder, self._needed)
        self._beside, self._store, self.keep = outputs / KEPT, store, keep

    def path(self, upload: str, user: str) -> Path | None:
        """The PNG of a picture that this user sent, or began a remembered job with; None of any other."""
        if found := self.uploads.path(upload, user):
            return found
        if self._store.refers(upload, user) and self._revive(upload, user):
            return self.uploads.path(upload, user)
        return None

    def sized(self, fields: Mapping[str, Any], user: str, native: tuple[int, int], factor: int = 0) -> dict[str, Any]:
        """`fields` with a size where none is given: the init image's aspect ratio, at as many pixels as the model's own size
        `native` has, or `factor` times the init image's size for a model that enlarges pictures."""
        given = {name: value for name, value in fields.items() if value is not None}
        path = self.path(init, user) if isinstance(init := pictures_of(given).get("init"), str) else None
        if path is None or "width" in given or "height" in given:
            return given
        with Image.open(path, formats=["PNG"]) as image:
            whole = Box(0, 0, image.width, image.height)
        if factor:
            most = MAX_TILED_SIDE if given.get("tiled_diffusion") is True else MAX_SIDE
            width, height = enlarged_size(whole, factor, largest=most)
        else:
            width, height = working_size(whole, native[0] * native[1])
        return {**given, "width": width, "height": height}

    def check(self, request: GenerationRequest, user: str) -> None:
        """Find out before anything is accepted whether the request's pictures are here and fit it.

        Raises:
            RequestError: which is not, and what to do.
        """
        for role, picture in named(request).items():
            if self.path(picture, user) is None:
                raise RequestError(f"{FIELD_OF_ROLE[role]}: {missing(picture)}")
        if isinstance(request, Upscaling):
            with Image.open(self._found(request.source, user), formats=["PNG"]) as image:
                size = image.size
            try:
                request.check_size(size)
            except ValueError as error:
                raise RequestError(str(error)) from None
        if isinstance(request, Img2Img) and request.outpaints:
            with Image.open(self._found(request.source, user), formats=["PNG"]) as image:
                width = image.width + request.outpaint_left + request.outpaint_right
                height = image.height + request.outpaint_up + request.outpaint_down
            if max(width, height) > MAX_SOURCE_SIDE or width * height > MAX_SOURCE_PIXELS:
                raise RequestError(
                    f"the picture would grow to {width}x{height}; at most {MAX_SOURCE_SIDE} a side and {MAX_SOURCE_PIXELS:,} "
                    "pixels in all are painted; extend it by less, or shrink it first"
                )

    def read(self, request: GenerationRequest, user: str) -> dict[str, Image.Image]:
        """The request's pictures by role, decoded; none for a picture from words.

        Raises:
            RequestError: one is gone or damaged.
        """
        for picture in named(request).values():
            self.path(picture, user)  # takes one that made room for others back from beside the outputs
        return {role: self.uploads.open(picture, user) for role, picture in named(request).items()}

    def keep_beside(self, request: GenerationRequest, user: str) -> None:
        """Keep the pictures that a saved one was made from beside it, so that it can be made again.  Never raises."""
        if not self.keep or request.private:
            return
        for upload in named(request).values():
            target = self._beside / f"{upload}.png"
            try:
                if not target.exists() and (path := self.uploads.path(upload, user)) is not None:
                    self._beside.mkdir(parents=True, exist_ok=True)
                    with files.part(self._beside, path.read_bytes()) as part, suppress(FileExistsError):
                        part.publish(target)
            except OSError as error:
                log.warning("an init image or mask could not be kept in %s: %s", self._beside, error.strerror or error)

    def adopt(self, fields: Mapping[str, Any], user: str, near: Path) -> None:
        """For the command line, whose user holds the files: take over the pictures that a recipe names from beside the outputs.

        `near` is the picture whose recipe it is; a folder `sources` around it is looked into as well.  What a web user may have
        is for `path` to say; this is for the command line, which may read the files anyway.

        Raises:
            RequestError: one is nowhere; where it was looked for.
        """
        folders = dict.fromkeys([self._beside, *(parent / KEPT for parent in list(near.absolute().parents)[:2])])
        for role, upload in pictures_of(fields).items():
            if not isinstance(upload, str) or self.uploads.path(upload, user) is not None:
                continue
            if not any(self._revive(upload, user, folder) for folder in folders):
                raise RequestError(
                    f"{near.name} was painted from a picture ({FIELD_OF_ROLE.get(role, role)} {upload[:12]}) that is in "
                    f"none of {', '.join(map(str, folders))}; put it back, or give another to start from"
                )

    def _found(self, upload: str, user: str) -> Path:
        path = self.path(upload, user)
        if path is None:
            raise RequestError(missing(upload))
        return path

    def _revive(self, upload: str, user: str, folder: Path | None = None) -> Upload | None:
        """Take a picture back from `folder` (beside the outputs unless given) if its pixels are still those of its id."""
        try:
            image = decode(((folder or self._beside) / f"{upload}.png").read_bytes())
            return self.uploads.keep_image(image, user) if pixel_id(image) == upload else None
        except (OSError, RequestError, OutputError):
            return None

    def _needed(self) -> set[str]:
        queued = {upload for job in self._store.unfinished() for upload in named(job.request).values()}
        plans = [run.plan for run in self._store.scripts.running()]
        named_there = [
            *(pictures_of(plan.get("base") or {}).values() for plan in plans),
            *(plan.get("uploads", ()) for plan in plans),
        ]
        return queued | {upload for uploads in named_there for upload in uploads if isinstance(upload, str)}


def named(request: GenerationRequest) -> dict[str, str]:
    """The ids of a request's pictures by role."""
    pictures = request.pictures if isinstance(request, Img2Img | Upscaling) else {}
    return {str(role): picture for role, picture in pictures.items()}


def pictures_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What fields of a request, which may be anything that a client sent, name as pictures, by role."""
    try:
        pictures = by_role(dict(fields)).get("pictures")
    except ValueError:  # two for one role: the request says so
        return {}
    return pictures if isinstance(pictures, dict) else {}
