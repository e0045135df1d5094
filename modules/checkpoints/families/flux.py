"""Flux.1 of Black Forest Labs: double and single blocks with CLIP ViT-L's pooled text and T5 (their `util.py`, `sampling.py`).

Dev takes a guidance scale (distilled guidance) and noise levels that follow the size; schnell takes neither; Fill is dev with a
masked picture as concat conditioning.  All are run at a CFG scale of 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modules.checkpoints import keys
from modules.checkpoints.families.parts import Defaults, LatentFormat, TextPart
from modules.checkpoints.families.transformer import TransformerFamily

FLUX_LATENT = LatentFormat(channels=16, scale=0.3611, factor=8, shift=0.1159, preview="Flux")

_MARKS = tuple(
    keys.UNET + name
    for name in ("double_blocks.0.img_attn.qkv.weight", "img_in.weight", "txt_in.weight", "vector_in.in_layer.weight")
)
_GUIDED = keys.UNET + "guidance_in.in_layer.weight"
_OTHERS = ("distilled_guidance_layer.", "controlnet_", "pos_embed_input.", "double_stream_modulation")
"""Relatives: Chroma, ControlNets, Flux.2."""
FILL_CHANNELS = 96
"""The latent, that of the masked picture, and the mask's 8x8 pixels of a position."""

CLIP_L = TextPart("text", "CLIP text encoder", layer=1, pooled_plain=True)
SHIFT_AT_1024 = 3.1581929
"""exp(1.15)."""


@dataclass(frozen=True, kw_only=True)
class FluxFamily(TransformerFamily):
    """See the module."""

    @property
    def unguided(self) -> str:
        if self.guided:
            return "its guidance is the distilled CFG scale, which the network is told; above 1 each step takes twice as long"
        return "it was distilled to paint without guidance; above 1 each step takes twice as long"

    def detects(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        if not all(mark in shapes for mark in _MARKS) or any(other in name for name in shapes for other in _OTHERS):
            return False
        fills = shapes[keys.UNET + "img_in.weight"][-1:] == (FILL_CHANNELS * 4,)
        return fills == (self.in_channels == FILL_CHANNELS) and (_GUIDED in shapes) == self.guided


def _member(name: str, title: str, in_channels: int = 16, **options: Any) -> FluxFamily:
    said: dict[str, Any] = {"t5_tokens": 512, "shift": SHIFT_AT_1024, "by_size": True, "guided": True, **options}
    return FluxFamily(
        name=name,
        title=title,
        kind="flux",
        in_channels=in_channels,
        latent=FLUX_LATENT,
        text=(CLIP_L,),
        clip_in_context=False,
        vae_hints=("flux",),
        vae_others=("sd3",),
        **said,
    )


def _defaults(steps: int, distilled_cfg_scale: float) -> Defaults:
    return Defaults(
        width=1024,
        height=1024,
        steps=steps,
        cfg_scale=1.0,
        sampler="Euler",
        schedule="Simple",
        distilled_cfg_scale=distilled_cfg_scale,
    )


FLUX = (
    _member("flux", "Flux.1 dev", defaults=_defaults(28, 3.5)),
    _member(
        "flux-schnell", "Flux.1 schnell", t5_tokens=256, shift=1.0, by_size=False, guided=False, defaults=_defaults(4, 3.5)
    ),
    _member("flux-fill", "Flux.1 Fill", FILL_CHANNELS, defaults=_defaults(50, 30.0)),
)
