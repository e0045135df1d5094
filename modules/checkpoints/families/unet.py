"""Families of U-Nets with cross-attention to CLIP's text encoders: SD 1.x, SDXL and what is built like them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modules.checkpoints.completeness import check_complete
from modules.checkpoints.families.family import Family
from modules.checkpoints.families.parts import TextPart

if TYPE_CHECKING:
    from modules.checkpoints.header import Header
    from modules.checkpoints.model_file import ModelFile
    from modules.diffusion.networks import Networks


@dataclass(frozen=True, kw_only=True)
class UNetFamily(Family):
    """One of these families, as data.

    A file is of the kind whose `mark` is among its tensors ("" where none is), and the U-Net's `in_channels` tell the members
    of a kind apart.  Its attention heads are either `heads` in number or, where that is 0, `head_width` wide: shapes tell only
    the product.  `text` are the encoders in the order of their columns in the context.
    `prediction` is what the network was trained to output (`modules.diffusion.prediction`), unless the file says otherwise.
    `sizes_in_vector`: behind the pooled text, the network gets the picture's size, six numbers of 256 features each.
    `blank_negative`: an empty negative prompt is no text at all, zeros in the place of its encoding.
    """

    in_channels: int
    text: tuple[TextPart, ...]
    prediction: Literal["eps", "v"] = "eps"
    heads: int = 0
    head_width: int = 0
    mark: str = ""
    sizes_in_vector: bool = False
    blank_negative: bool = False

    @property
    def concat(self) -> Literal["", "mask", "picture"]:
        if self.in_channels == self.latent.channels:
            return ""
        return "picture" if self.in_channels == 2 * self.latent.channels else "mask"

    def check(self, header: Header) -> None:
        check_complete(header, self.text, self.sizes_in_vector)

    def load(self, file: ModelFile) -> Networks:
        from modules.checkpoints.components import UNetParts

        parts = UNetParts(file, self.text, self.sizes_in_vector)
        return parts.networks(self.latent, self.heads, self.head_width, self.prediction, self.blank_negative)
