"""Stable Diffusion 1.x: one CLIP text encoder, eight heads everywhere (Rombach et al. 2022; ldm's v1-inference.yaml)."""

from __future__ import annotations

from modules.checkpoints.families.family import Family, LatentFormat, TextPart

SD1_LATENT = LatentFormat(channels=4, scale=0.18215, factor=8)

CLIP_L = TextPart("text", "CLIP text encoder")

EDITING = "sd1-edit"
"""The family that changes a given picture as the words say, and paints nothing without one."""

SD1 = (
    Family("sd1", "Stable Diffusion 1.x", 4, SD1_LATENT, (CLIP_L,), heads=8),
    Family("sd1-inpaint", "Stable Diffusion 1.x inpainting", 9, SD1_LATENT, (CLIP_L,), heads=8),
    Family(EDITING, "Stable Diffusion 1.x editing (InstructPix2Pix)", 8, SD1_LATENT, (CLIP_L,), heads=8),
)
