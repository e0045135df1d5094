"""What a family of models says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


SIZE_FEATURES = 6 * 256
"""Numbers of a network's vector that tell it sizes, see `diffusion.conditioning.size_features`."""


@dataclass(frozen=True)
class Defaults:
    """What a model is best run with.  `width` and `height` are its native size in pixels."""

    width: int = 512
    height: int = 512
    steps: int = 20
    cfg_scale: float = 7.0
    sampler: str = "DPM++ 2M"
    schedule: str = "Karras"


@dataclass(frozen=True)
class LatentFormat:
    """The latent space of a family: how its denoiser sees a picture.

    The denoiser works on (z - `shift`) * `scale` of the autoencoder's latent z, which has `channels` channels and one position
    per `factor` x `factor` pixels.
    """

    channels: int
    scale: float
    factor: int
    shift: float = 0.0

    def scaled(self, z: Tensor) -> Tensor:
        """The autoencoder's latent as the denoiser sees it."""
        return (z - self.shift) * self.scale if self.shift else z * self.scale

    def raw(self, latent: Tensor) -> Tensor:
        """The denoiser's latent as the autoencoder gives and takes it."""
        return latent / self.scale + self.shift if self.shift else latent / self.scale


@dataclass(frozen=True)
class TextPart:
    """A text encoder of a family, and what is read of it.

    `part` is its name among a file's parts (`keys.PARTS`), `title` what messages call it.  `layer` is the hidden state that
    becomes the context, counted from the end with 1 for the last; None takes the one that the request asks for (clip skip).
    The final normalisation follows where `normalised`.  `pooled`: its projected output at the end-of-text token is part of the
    network's vector.  `pad` is the token behind the end of a text.
    """

    part: Literal["text", "text_2"]
    title: str
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    layer: int | None = None
    normalised: bool = True
    pooled: bool = False
    pad: int = 49_407


@dataclass(frozen=True)
class Family:
    """Models that are run in the same way.

    A file is of the kind whose `mark` is among its tensors ("" where none is), and the U-Net's `in_channels` tell the members
    of a kind apart.  Its attention heads are either `heads` in number or, where that is 0, `head_width` wide: shapes tell only
    the product.  `text` are the encoders in the order of their columns in the context.
    `prediction` is what the network was trained to output (`modules.diffusion.prediction`), unless the file says otherwise.
    `sizes_in_vector`: behind the pooled text, the network gets the picture's size, six numbers of 256 features each.
    `blank_negative`: an empty negative prompt is no text at all, zeros in the place of its encoding.
    """

    name: str
    title: str
    in_channels: int
    latent: LatentFormat
    text: tuple[TextPart, ...]
    prediction: Literal["eps", "v"] = "eps"
    heads: int = 0
    head_width: int = 0
    mark: str = ""
    sizes_in_vector: bool = False
    blank_negative: bool = False
    defaults: Defaults = Defaults()
