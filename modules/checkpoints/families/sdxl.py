"""Stable Diffusion XL: two text encoders side by side, and a vector of pooled text and sizes (Podell et al. 2023,
arXiv:2307.01952; Stability AI's sd_xl_base.yaml and sd_xl_refiner.yaml); and what was distilled or trained further from it.

Of both encoders the last hidden state but one is read, without the final normalisation; the pooled text is OpenCLIP bigG's.
Clip skip changes nothing, as in A1111.  Distilled networks (SSD-1B, Segmind Vega, KOALA) have fewer blocks, which shapes tell.
The refiner has OpenCLIP bigG alone, and an aesthetic score in the place of the target size.
"""

from __future__ import annotations

from typing import Any

from modules.checkpoints import keys
from modules.checkpoints.families.parts import ContinuousLevels, Defaults, LatentFormat, TextPart, VectorNumbers
from modules.checkpoints.families.unet import UNetFamily

SDXL_LATENT = LatentFormat(channels=4, scale=0.13025, factor=8, preview="SDXL")
PLAYGROUND_LATENT = LatentFormat(
    channels=4,
    scale=0.5,
    factor=8,
    means=(-1.6574, 1.886, -1.383, 2.5155),
    deviations=(8.4927, 5.9022, 6.5498, 5.2299),
)
"""Of Playground 2.5 (Li et al. 2024, arXiv:2402.17245; the configuration of its autoencoder)."""

_CLIP = TextPart("text", "CLIP text encoder", layer=2, normalised=False)
_BIG_G = TextPart("text_2", "OpenCLIP text encoder", "gelu", layer=2, normalised=False, pooled=True, pad=0)
_REFINER = TextPart("text", "OpenCLIP text encoder", "gelu", layer=2, normalised=False, pooled=True, pad=0)

_SIZES: VectorNumbers = ("height", "width", "top", "left", "target height", "target width")
_SCORED: VectorNumbers = ("height", "width", "top", "left", "score")

_DEFAULTS = Defaults(width=1024, height=1024, steps=25, cfg_scale=6.0)
_VECTOR = keys.UNET + "label_emb.0.0.weight"


def _member(name: str, title: str, in_channels: int, marks: tuple[str, ...] = (), **options: Any) -> UNetFamily:
    said: dict[str, Any] = {
        "latent": SDXL_LATENT,
        "text": (_CLIP, _BIG_G),
        "numbers": _SIZES,
        "blank_negative": True,
        "defaults": _DEFAULTS,
        **options,
    }
    return UNetFamily(name=name, title=title, in_channels=in_channels, head_width=64, marks=(_VECTOR, *marks), **said)


_COSXL = ContinuousLevels(0.002, 120.0, 1.0, True, "edm_vpred.sigma_min", "edm_vpred.sigma_max")

SDXL = (
    _member("sdxl", "Stable Diffusion XL", 4),
    _member("sdxl-inpaint", "Stable Diffusion XL inpainting", 9),
    _member("sdxl-edit", "Stable Diffusion XL editing (InstructPix2Pix)", 8),
    _member(
        "sdxl-refiner",
        "Stable Diffusion XL refiner",
        4,
        (keys.OPEN_CLIP_END,),
        text=(_REFINER,),
        numbers=_SCORED,
        blank_negative=False,
    ),
    _member("cosxl", "CosXL", 4, ("edm_vpred.sigma_max",), levels=_COSXL),
    _member("cosxl-edit", "CosXL editing", 8, ("edm_vpred.sigma_max",), levels=_COSXL, edits_scaled=True),
    _member(
        "playground-2.5",
        "Playground 2.5",
        4,
        ("edm_mean",),
        latent=PLAYGROUND_LATENT,
        levels=ContinuousLevels(0.002, 80.0, 0.5),
        defaults=Defaults(width=1024, height=1024, steps=25, cfg_scale=3.0),
    ),
)
