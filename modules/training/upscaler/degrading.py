"""From a picture to the small one that an upscaler is given: made smaller, and often blurred, noisy or compressed too.

After Wang et al. 2021, "Real-ESRGAN", arXiv:2107.10833, section 3, with one round and mild amounts: what is sharp is to stay.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

from modules.training.upscaler.drawings import Generator, Picture

_WAYS = (Image.Resampling.BOX, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BILINEAR)
CLEAN = 0.5
"""Share of pictures that are only made smaller."""


def smaller(picture: Picture, scale: int) -> Picture:
    """The picture at a `scale`-th of its size, and nothing else: averages of pixels."""
    image = Image.fromarray(picture)
    return np.asarray(image.resize((image.width // scale, image.height // scale), Image.Resampling.BOX))


def degraded(picture: Picture, scale: int, generator: Generator, always: bool = False) -> Picture:
    """The same by any filter, and with blur, noise and JPEG's marks, each sometimes; `always` with some of them."""
    image = Image.fromarray(picture)
    spoilt = always or generator.random() >= CLEAN
    if spoilt and generator.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(float(generator.uniform(0.2, 0.5 * scale))))
    image = image.resize((image.width // scale, image.height // scale), _WAYS[int(generator.integers(len(_WAYS)))])
    if spoilt and generator.random() < 0.5:
        noise = generator.normal(0, generator.uniform(0.5, 6.0), (image.height, image.width, 3))
        image = Image.fromarray(np.rint(np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    if spoilt and (always or generator.random() < 0.7):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(generator.integers(60, 96)))
        image = Image.open(buffer)
    return np.asarray(image.convert("RGB"))
