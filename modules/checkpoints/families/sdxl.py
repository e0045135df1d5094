"""Stable Diffusion XL base: two text encoders side by side, and a vector of pooled text and sizes (Podell et al. 2023,
arXiv:2307.01952; Stability AI's sd_xl_base.yaml).

Of both encoders the last hidden state but one is read, without the final normalisation; the pooled text is OpenCLIP bigG's.
Clip skip changes nothing, as in A1111.
"""

from __future__ import annotations

from modules.checkpoints import keys
from modules.checkpoints.families.parts import Defaults, LatentFormat, TextPart
from modules.checkpoints.families.unet import UNetFamily

SDXL_LATENT = LatentFormat(channels=4, scale=0.13025, factor=8)

_TEXT = (
    TextPart("text", "CLIP text encoder", layer=2, normalised=False),
    TextPart("text_2", "OpenCLIP text encoder", "gelu", layer=2, normalised=False, pooled=True, pad=0),
)
_DEFAULTS = Defaults(width=1024, height=1024, steps=25, cfg_scale=6.0)


def _member(name: str, title: str, in_channels: int) -> UNetFamily:
    return UNetFamily(
        name=name,
        title=title,
        in_channels=in_channels,
        latent=SDXL_LATENT,
        text=_TEXT,
        head_width=64,
        mark=keys.UNET + "label_emb.0.0.weight",
        sizes_in_vector=True,
        blank_negative=True,
        defaults=_DEFAULTS,
    )


SDXL = (
    _member("sdxl", "Stable Diffusion XL", 4),
    _member("sdxl-inpaint", "Stable Diffusion XL inpainting", 9),
)
