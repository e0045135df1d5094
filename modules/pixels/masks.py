"""Masks: read from a picture, turned over, blurred, brought to the latent's size and to the last blend.

White (255) is what is repainted.  It does not know where a mask was painted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from modules.pixels import Floats, Mask

_ROWS = 256
"""Lines that are transformed at once: bounds the memory of a blur of a large mask."""


def from_image(image: Image.Image, rounded: bool = True) -> Mask:
    """The mask that a picture means.

    One with transparency means its alpha channel, black and white from 129 up (`rounded`) or as it is; any other its
    brightness (ITU-R 601-2 luma), grey levels kept.
    """
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < 255:
            return np.where(alpha > 128, 255, 0).astype(np.uint8) if rounded else alpha.copy()
        image = image.convert("RGB")
    return np.asarray(image.convert("L")).copy()


def invert(mask: Mask) -> Mask:
    """White for black, for "Inpaint not masked"."""
    return 255 - mask


def kernel(sigma: float) -> npt.NDArray[np.int64]:
    """The weights, in 256ths, of OpenCV's Gaussian on 8 bits at A1111's size: 2 int(2.5 sigma + 0.5) + 1 of them.

    OpenCV rounds them to whole 256ths, from the outside in, carries each remainder on to the next, and gives the middle what
    is left.  At large blurs that is far from a Gaussian of real numbers: by up to 10 levels of 255 at 64 pixels.

    >>> kernel(1).tolist()
    [1, 14, 62, 102, 62, 14, 1]
    """
    reach = int(2.5 * sigma + 0.5)
    exact = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * sigma * sigma))
    exact *= 256 / exact.sum()
    half, remainder = [], 0.0
    for weight in exact[:reach]:
        half.append(round(weight + remainder))
        remainder += weight - half[-1]
    return np.array([*half, 256 - 2 * sum(half), *half[::-1]], np.int64)


def blur(mask: Mask, x: int, y: int) -> Mask:
    """Gaussian blur with a standard deviation of `x` pixels along rows, then `y` along columns; 0 is none.

    Equal to two calls of `cv2.GaussianBlur` as A1111 makes them: its kernel, its borders (mirrored at the outermost pixel's
    middle), 8 bits between the two directions.
    """
    if x > 0:
        mask = _blur_rows(mask, kernel(x))
    if y > 0:
        mask = _blur_rows(mask.T, kernel(y)).T
    return np.ascontiguousarray(mask)


def _blur_rows(mask: Mask, weights: npt.NDArray[np.int64]) -> Mask:
    """Convolution by Fourier transform, whose time hardly depends on the kernel; rows of one colour stay as they are.

    The sums are whole numbers below 2^16, so rounding them removes the transform's error.
    """
    result, reach = mask.copy(), len(weights) // 2
    busy = np.flatnonzero(mask.min(axis=1) != mask.max(axis=1))
    length = mask.shape[1] + 2 * reach
    response = np.fft.rfft(weights, length)
    for part in np.array_split(busy, len(busy) // _ROWS + 1):
        if not len(part):
            continue
        wide = np.pad(mask[part].astype(np.float64), ((0, 0), (reach, reach)), mode="reflect")
        sums = np.fft.irfft(np.fft.rfft(wide) * response, length)[:, 2 * reach :]
        result[part] = (np.rint(sums).astype(np.int64) + 128) >> 8
    return result


def latent_mask(mask: Mask, width: int, height: int, rounded: bool = True) -> Floats:
    """The mask for a latent of `width` x `height` values: (height, width) float32, 1 where it is repainted.

    Resized by Pillow's default filter (bicubic), as in A1111; `rounded` to 0 or 1.
    """
    small = Image.fromarray(mask).resize((width, height), Image.Resampling.BICUBIC)
    values = np.asarray(small, np.float32) / np.float32(255)
    return np.around(values) if rounded else values


def overlay_mask(mask: Mask, whole: bool) -> Mask:
    """The mask of the last blend between source and result, from the blurred one.

    For the whole picture it is doubled, so that half of the soft edge is the network's; for a crop it is the mask itself.
    """
    return np.minimum(mask.astype(np.uint16) * 2, 255).astype(np.uint8) if whole else mask
