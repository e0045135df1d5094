"""Stable Diffusion 3 and 3.5: MMDiT with CLIP ViT-L, OpenCLIP ViT-bigG and T5 (Esser et al. 2024, arXiv:2403.03206; Stability
AI's sd3.5).

Medium, large and their turbo forms are told by shapes, as far as they differ: turbo's are large's, and its few steps at a CFG
scale of 1 are for the user to ask for.  Every text encoder may be absent; zeros stand for what it would say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modules.checkpoints import keys
from modules.checkpoints.families.parts import Defaults, LatentFormat, TextPart
from modules.checkpoints.families.transformer import TransformerFamily

SD3_LATENT = LatentFormat(channels=16, scale=1.5305, factor=8, shift=0.0609, preview="SD 3")

_MARK = keys.UNET + "joint_blocks.0.x_block.attn.qkv.weight"
_NORMALISED = keys.UNET + "joint_blocks.0.x_block.attn.ln_q.weight"
_CONTROL = ("controlnet_blocks.", "pos_embed_input.", "controlnet_")

CLIP_L = TextPart("text", "CLIP text encoder", layer=2, normalised=False, pooled_plain=True)
BIG_G = TextPart("text_2", "OpenCLIP text encoder", "gelu", layer=2, normalised=False, pooled=True, pad=0)


@dataclass(frozen=True, kw_only=True)
class SD3Family(TransformerFamily):
    """`normalised` are the queries and keys of SD 3.5."""

    normalised: bool

    def detects(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        if _MARK not in shapes or any(name.startswith(_CONTROL) for name in shapes):
            return False
        return (_NORMALISED in shapes) == self.normalised


def _member(name: str, title: str, normalised: bool, defaults: Defaults) -> SD3Family:
    return SD3Family(
        name=name,
        title=title,
        kind="sd3",
        in_channels=16,
        latent=SD3_LATENT,
        text=(CLIP_L, BIG_G),
        clip_in_context=True,
        t5_tokens=77,
        shift=3.0,
        vae_hints=("sd3",),
        vae_others=("flux", "ae"),
        normalised=normalised,
        defaults=defaults,
    )


def _defaults(steps: int, cfg_scale: float) -> Defaults:
    return Defaults(width=1024, height=1024, steps=steps, cfg_scale=cfg_scale, sampler="Euler", schedule="Simple")


SD3 = (
    _member("sd3", "Stable Diffusion 3", False, _defaults(28, 5.0)),
    _member("sd3.5", "Stable Diffusion 3.5", True, _defaults(30, 4.5)),
)
