"""Stable Diffusion 2.x: one OpenCLIP text encoder (ViT-H), heads 64 wide (Stability AI's v2-inference.yaml and -v.yaml).

The hidden state behind the last layer but one is read, with the final normalisation; clip skip changes nothing, as in A1111.
The models for 768x768 predict v, those for 512x512 the noise: their tensors are alike, see `UNetFamily.v_spread`.
"""

from __future__ import annotations

from modules.checkpoints import keys
from modules.checkpoints.families.parts import Defaults, TextPart
from modules.checkpoints.families.sd1 import SD1_LATENT
from modules.checkpoints.families.unet import UNetFamily

OPEN_CLIP_H = TextPart("text", "OpenCLIP text encoder", "gelu", layer=2, pad=0)


def _member(name: str, title: str, in_channels: int, v_spread: str = "") -> UNetFamily:
    return UNetFamily(
        name=name,
        title=title,
        in_channels=in_channels,
        latent=SD1_LATENT,
        text=(OPEN_CLIP_H,),
        head_width=64,
        marks=(keys.OPEN_CLIP_END,),
        v_spread=v_spread,
        v_defaults=Defaults(width=768, height=768),
    )


SD2 = (
    _member("sd2", "Stable Diffusion 2.x", 4, keys.UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"),
    _member("sd2-inpaint", "Stable Diffusion 2.x inpainting", 9),
)
