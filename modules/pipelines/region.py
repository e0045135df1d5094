"""The inpaint region: what of an init image the network sees, and how what it paints comes back into the picture.

The pixel side of img2img and inpainting, on host threads: resizing, masks, crops, masked content and the last blend, in A1111's
order.  The arithmetic is `modules.pixels`'; this file knows requests, and neither tensors nor networks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from modules.errors import RequestError
from modules.pixels import Floats, Mask, Picture, compose, infill, masks, outpaint, regions, resize, soft
from modules.pixels.regions import Box
from modules.request import MAX_SIDE, MAX_TILED_SIDE, Img2Img

LATENT_UPSCALE = "Just resize (latent upscale)"
STITCH = "Crop and stitch"
OVERLAP = 16
"""Pixels of the old picture that outpainting repaints along the extended sides, so that there is no line."""
_NEAR_SEAM = 64
"""Pixels around the mask that are looked at where it ends."""


@dataclass(frozen=True)
class Region:
    """What the network sees: `picture` (h, w, 3) and, where only a part is painted, `mask` of the same size.

    `whole` is the picture that the result goes back into, at `box` (all of it when None), blended by `blend` of its size;
    `blend` is None where everything is new.  `notes` are for the user.  `digest` is the MD5 of the init image's pixels.
    """

    picture: Picture
    whole: Picture
    digest: str
    mask: Mask | None = None
    box: Box | None = None
    blend: Mask | None = None
    stitched: bool = False
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) at which is painted."""
        return self.picture.shape[1], self.picture.shape[0]

    def returned(self, painted: Picture, adaptive: Mask | None = None) -> Picture:
        """The result: what was painted where the mask is, the init image's own bytes everywhere else.

        `adaptive`, of the painted size, replaces the blend within its bounds: soft inpainting's.
        """
        if self.blend is None:
            return painted
        blend, box = self.blend, self.box or Box(0, 0, self.whole.shape[1], self.whole.shape[0])
        if adaptive is not None:
            soft_blend = np.zeros_like(blend)
            soft_blend[box.slices] = resize.resize(adaptive, box.width, box.height, "Crop and resize")
            blend = np.where(blend > 0, soft_blend, 0).astype(np.uint8)
        if self.box is None:
            return compose.overlay(self.whole, painted, blend)
        if self.stitched:
            painted = self._seamless(resize.resize(painted, box.width, box.height), box, blend)
        return compose.paste_back(self.whole, painted, box, blend)

    def _seamless(self, painted: Picture, box: Box, blend: Mask) -> Picture:
        """The crop `painted` with its colours moved to meet the picture's; only the mask's neighbourhood is looked at."""
        near = regions.crop_region(blend[box.slices], _NEAR_SEAM)
        if near is None:
            return painted
        original, part = self.whole[box.slices][near.slices], blend[box.slices][near.slices]
        matched = painted.copy()
        matched[near.slices] = compose.match_seam(original, painted[near.slices], part)
        return matched

    def adaptive(self, request: Img2Img, moved: Floats, repaint: Floats) -> Mask:
        """Soft inpainting's last blend: from how far the latent moved, and the latent's mask, both (h, w)."""
        return soft.adaptive_mask(
            moved,
            repaint,
            *self.size,
            preservation=request.soft_preservation,
            mask_influence=request.soft_mask_influence,
            difference_threshold=request.soft_difference_threshold,
            difference_contrast=request.soft_difference_contrast,
        )

    def seam(self, result: Picture) -> float | None:
        """How visible the edge of what was painted is in `result` (`compose.seam_error`), None without a mask."""
        region = regions.crop_region(self.blend, _NEAR_SEAM) if self.blend is not None else None
        if region is None or self.blend is None:
            return None
        return compose.seam_error(result[region.slices], self.blend[region.slices])


def region_of(request: Img2Img, init: Image.Image, mask: Image.Image | None, native: tuple[int, int], factor: int) -> Region:
    """The inpaint region of `request`, which starts from the picture `init` (`preprocessing.prepared`).

    `native` is the model's own size (width, height), `factor` the pixels per latent position.

    Raises:
        RequestError: the mask and the box, or the picture and its extension, leave nothing that could be painted.
    """
    picture = np.asarray(init.convert("RGB"))
    digest = hashlib.md5(picture.tobytes(), usedforsecurity=False).hexdigest()
    drawn = None if mask is None else _drawn(request, mask, (init.width, init.height))
    box = Box(request.box[0], request.box[1], request.box[0] + request.box[2], request.box[1] + request.box[3])
    if request.outpaints:
        grown = outpaint.extend(
            picture,
            drawn,
            request.outpaint_left,
            request.outpaint_right,
            request.outpaint_up,
            request.outpaint_down,
            content=request.masked_content,
            overlap=OVERLAP,
            seed=request.seed,
        )
        picture, drawn = grown.picture, grown.mask
        left, up = request.outpaint_left, request.outpaint_up
        box = Box(box.left + left, box.top + up, box.right + left, box.bottom + up)

    if drawn is None or not drawn.any():
        notes = ("the mask was empty, so the whole picture was painted",) if drawn is not None else ()
        return _plain(request, picture, digest, factor, notes)
    blurred = masks.blur(drawn, request.mask_blur_x, request.mask_blur_y)
    if request.inpaint_area == "Whole picture":
        return _whole(request, picture, blurred, digest)
    region = _region(request, picture, drawn, blurred, box if any(request.box) else None)
    if request.inpaint_area == STITCH:
        return _stitched(request, picture, drawn, blurred, region, native, digest)
    region = regions.expand(region, request.width, request.height, (picture.shape[1], picture.shape[0]))
    return _cropped(request, picture, blurred, region, digest)


def _plain(request: Img2Img, picture: Picture, digest: str, factor: int, notes: tuple[str, ...]) -> Region:
    if request.resize_mode == LATENT_UPSCALE:
        most = MAX_TILED_SIDE if request.tiled_diffusion else MAX_SIDE
        return Region(_encodable(picture, factor, most), picture, digest, notes=notes)
    return Region(resize.resize(picture, request.width, request.height, request.resize_mode), picture, digest, notes=notes)


def _whole(request: Img2Img, picture: Picture, blurred: Mask, digest: str) -> Region:
    """All of it at the size of the request.  A latent cannot be blended with pixels, so "latent upscale" just resizes here."""
    mode = "Just resize" if request.resize_mode == LATENT_UPSCALE else request.resize_mode
    picture = resize.resize(picture, request.width, request.height, mode)
    mask = resize.resize(blurred, request.width, request.height, mode)
    return Region(_filled(request, picture, mask), picture, digest, mask, None, _blend(request, mask, whole=True))


def _cropped(request: Img2Img, picture: Picture, blurred: Mask, region: Box, digest: str) -> Region:
    """A crop around the mask at the size of the request, blended back by the mask itself."""
    crop = resize.resize(picture[region.slices], request.width, request.height, "Resize and fill")
    mask = resize.resize(blurred[region.slices], request.width, request.height, "Resize and fill")
    blend = _blend(request, blurred, whole=False)
    return Region(_filled(request, crop, mask), picture, digest, mask, region, blend)


def _stitched(
    request: Img2Img, picture: Picture, drawn: Mask, blurred: Mask, region: Box, native: tuple[int, int], digest: str
) -> Region:
    """A crop with context at the model's own resolution; what is drawn is new, and falls off to the blurred mask's edge."""
    width, height = regions.working_size(region, native[0] * native[1])
    crop = resize.resize(picture[region.slices], width, height)
    mask = resize.resize(blurred[region.slices], width, height)
    blend = _blend(request, blurred, whole=True)
    return Region(_filled(request, crop, mask), picture, digest, mask, region, blend, stitched=True)


def _region(request: Img2Img, picture: Picture, drawn: Mask, blurred: Mask, box: Box | None) -> Box:
    """What is cropped, before its aspect ratio is seen to: the user's box, or what the mask asks for."""
    within = picture.shape[1], picture.shape[0]
    if box is not None:
        box = Box(max(0, box.left), max(0, box.top), min(within[0], box.right), min(within[1], box.bottom))
        if box.width < 1 or box.height < 1:
            raise RequestError(f"box: it lies outside the picture, which has {within[0]}x{within[1]} pixels; move it")
        if not blurred[box.slices].any():
            raise RequestError("box: nothing inside it is masked; move it over the mask, or leave it out")
        return box
    padding = request.masked_padding
    region = regions.crop_region(blurred, padding)
    assert region is not None, "a mask that is not empty has an edge"
    return regions.grow_for_context(region, within) if request.inpaint_area == STITCH else region


def _blend(request: Img2Img, mask: Mask, whole: bool) -> Mask:
    """The mask of the last blend.  Where grey means "less strength", every grey that is seen at all is the network's."""
    if request.differential and not request.soft_inpainting:
        return np.minimum(mask.astype(np.uint16) * 8, 255).astype(np.uint8)
    return masks.overlay_mask(mask, whole)


def _filled(request: Img2Img, picture: Picture, mask: Mask) -> Picture:
    return infill.infill(picture, mask, request.masked_content, request.seed)


def _drawn(request: Img2Img, mask: Image.Image, size: tuple[int, int]) -> Mask:
    """The mask as the request means it, at the size of its init image."""
    drawn = masks.from_image(mask, rounded=rounded(request))
    if (drawn.shape[1], drawn.shape[0]) != size:
        drawn = resize.resize(drawn, *size)
    return masks.invert(drawn) if request.mask_mode == "Inpaint not masked" else drawn


def rounded(request: Img2Img) -> bool:
    """Whether the network's mask is black and white; soft and differential inpainting live on its greys."""
    return request.mask_round and not request.soft_inpainting and not request.differential


def _encodable(picture: Picture, factor: int, most: int) -> Picture:
    """Its own size, as near as the autoencoder takes it, with `most` pixels a side: no larger than what may be painted."""
    height, width = picture.shape[:2]
    shrink = min(1.0, most / max(width, height))
    sides = (max(factor, round(side * shrink / factor) * factor) for side in (width, height))
    return resize.resize(picture, *sides)
