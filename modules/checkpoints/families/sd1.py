"""Stable Diffusion 1.x: one CLIP text encoder, eight heads everywhere (Rombach et al. 2022; ldm's v1-inference.yaml)."""

from __future__ import annotations

from modules.checkpoints.families.parts import LatentFormat, TextPart
from modules.checkpoints.families.unet import UNetFamily

SD1_LATENT = LatentFormat(channels=4, scale=0.18215, factor=8, preview="SD 1.x")

CLIP_L = TextPart("text", "CLIP text encoder")


def _member(name: str, title: str, in_channels: int) -> UNetFamily:
    return UNetFamily(name=name, title=title, in_channels=in_channels, latent=SD1_LATENT, text=(CLIP_L,), heads=8)


SD1 = (
    _member("sd1", "Stable Diffusion 1.x", 4),
    _member("sd1-inpaint", "Stable Diffusion 1.x inpainting", 9),
    _member("sd1-edit", "Stable Diffusion 1.x editing (InstructPix2Pix)", 8),
)
