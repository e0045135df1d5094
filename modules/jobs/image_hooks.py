"""Image hooks: what happens to a finished picture around its saving, from the hook `image_hooks`; on the saver's thread.

Before it is saved, pixels and notes can be changed; after that, a hook learns of its path and its recipe.  Pictures of jobs
pass here, those of scripts included; the sheets that scripts put together of them do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from modules.extensions.isolation import Picture as Making
from modules.extensions.isolation import call, made, making
from modules.hooks import HOOKS, Listing, hookimpl
from modules.images.infotext import GenerationInfo
from modules.images.outputs import SavedImage
from modules.jobs.input_images import InputImages
from modules.pixels import Picture

HOOK = "image_hooks"
HOOK_SECONDS = 60.0
"""An extension's hook that takes longer has failed: other pictures wait for it."""


@dataclass(frozen=True, eq=False)
class Finished:
    """A picture that is to be saved: `pixels` (H, W, 3), which may not be written to; its recipe `info`, the request in it that
    for this picture alone; `user` is whose it is; `notes` are sentences that its record will say."""

    pixels: Picture
    info: GenerationInfo
    user: str
    notes: tuple[str, ...] = ()

    def changed(self, pixels: Picture, note: str = "") -> Finished:
        """The same with other pixels, of any size, and a note about them."""
        return replace(self, pixels=pixels, notes=(*self.notes, note) if note else self.notes)


@dataclass(frozen=True, eq=False)
class Saved:
    """A picture that is on disk: `image` says where, and what the file says of itself; `info` and `user` as of `Finished`.

    `input_images` keeps the pictures that it was made from.
    """

    image: SavedImage
    info: GenerationInfo
    user: str
    input_images: InputImages


@dataclass(frozen=True)
class ImageHook:
    """`before` answers what is saved in the place of a finished picture, itself for no change; `after` is told of a saved one.

    Both are called on the thread that saves, so what takes long belongs on one of their own.  A save that the disk refused is
    repeated: `before` must answer the same for the same picture, and `after` may hear of one twice.
    """

    name: str
    before: Callable[[Finished], Finished] | None = None
    after: Callable[[Saved], None] | None = None


def before_saving(finished: Finished) -> Finished:
    """What every hook makes of a finished picture, with the notes that it is to have.

    Raises:
        ExtensionFailed: a hook raised whose extension says that pictures fail then; else it is left out, and a note says so.
    """
    with making(noted := Making()):
        try:
            for one in IMAGE_HOOKS.owned():
                if one.entry.before is not None:
                    step = partial(_changed, one.entry.before, finished)
                    finished = call(one.owner, HOOK, step, partial(_itself, finished), HOOK_SECONDS)
        finally:
            made(noted)
    return replace(finished, notes=(*finished.notes, *noted.notes))


def _itself(finished: Finished) -> Finished:
    return finished


def _changed(before: Callable[[Finished], Finished], finished: Finished) -> Finished:
    changed = before(finished)
    pixels = changed.pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"a picture is uint8 (height, width, 3), not {pixels.dtype} {pixels.shape}")
    return replace(finished, pixels=pixels, notes=tuple(map(str, changed.notes)))


def after_saving(saved: Saved) -> None:
    """Tell every hook; what an extension's raises is reported, and the picture is saved anyhow.

    Raises:
        OutputError: the pictures that it was made from could not be kept beside it.
    """
    for one in IMAGE_HOOKS.owned():
        if one.entry.after is not None:
            call(one.owner, HOOK, partial(one.entry.after, saved), lambda: None, HOOK_SECONDS)


def _keep_input_images(saved: Saved) -> None:
    saved.input_images.keep_beside(saved.info.request, saved.user)


class _BuiltIn:
    @hookimpl
    def image_hooks(self) -> tuple[ImageHook, ...]:
        return (ImageHook("Input images", after=_keep_input_images),)


IMAGE_HOOKS: Listing[ImageHook] = Listing(HOOKS, HOOK, "image hook", lambda hook: (hook.name,))
"""Every hook in the order in which they are called, extensions' last."""

HOOKS.register(_BuiltIn(), "atelier.image_hooks", built_in=True)
