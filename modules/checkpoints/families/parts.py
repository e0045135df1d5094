"""What families say of themselves as data: what they are best run with, their latent space, how a text encoder is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Defaults:
    """What a model is best run with.  `width` and `height` are its native size in pixels."""

    width: int = 512
    height: int = 512
    steps: int = 20
    cfg_scale: float = 7.0
    sampler: str = "DPM++ 2M"
    schedule: str = "Karras"
    distilled_cfg_scale: float = 3.5


DEFAULTS = Defaults()
"""Those of SD 1.x."""


@dataclass(frozen=True)
class ContinuousLevels:
    """Noise levels of a network that was trained on all of a range, as in `diffusion.prediction.ContinuousNoise`.

    `min_tensor` and `max_tensor` name numbers in the file that go before `sigma_min` and `sigma_max`.
    """

    sigma_min: float
    sigma_max: float
    data: float
    v: bool = False
    min_tensor: str = ""
    max_tensor: str = ""


VectorNumber = Literal["height", "width", "top", "left", "target height", "target width", "score"]
VectorNumbers = tuple[VectorNumber, ...]
"""What a network's vector says of a picture beside its pooled text, in this order: the size of the original that it was cut
from, where the cut begins, its own size, and how it was liked (an aesthetic score)."""


Concat = Literal["", "mask", "picture", "low-res", "map"]
"""Concat conditioning: nothing; a mask and the masked picture; a picture to be edited, as a latent; a picture to be enlarged,
in pixels, with one pixel for a position of the latent; a map that says which class of things is where."""

Words = Literal["text", "class", "boxes", ""]
"""What the prompt is for a network: a text; the name or number of a class; a list of boxes with classes; nothing."""


@dataclass(frozen=True)
class LatentFormat:
    """The latent space of a family: how its denoiser sees a picture.

    The denoiser works on (z - `shift`) * `scale` of the autoencoder's latent z, where `means` and `deviations` are given on
    (z - mean) / deviation * `scale` of each channel.  z has `channels` channels and one position
    per `factor` x `factor` pixels.  `preview` names the linear preview that is published for the full-size autoencoder
    (`diffusion.preview.PUBLISHED`); where there is none, one is fitted to the decoder.
    """

    channels: int
    scale: float
    factor: int
    shift: float = 0.0
    preview: str = ""
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()

    def scaled(self, z: Tensor) -> Tensor:
        """The autoencoder's latent as the denoiser sees it."""
        if self.means:
            mean, deviation = _by_channel(self.means, z), _by_channel(self.deviations, z)
            return (z - mean) / deviation * self.scale
        return (z - self.shift) * self.scale if self.shift else z * self.scale

    def raw(self, latent: Tensor) -> Tensor:
        """The denoiser's latent as the autoencoder gives and takes it."""
        if self.means:
            return latent / self.scale * _by_channel(self.deviations, latent) + _by_channel(self.means, latent)
        return latent / self.scale + self.shift if self.shift else latent / self.scale


def _by_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    """A value for each channel of a latent (..., C, h, w)."""
    return like.new_tensor(values).reshape(-1, 1, 1)


@dataclass(frozen=True)
class TextPart:
    """A text encoder of a family, and what is read of it.

    `part` is its name among a file's parts (`keys.PARTS`), `title` what messages call it.  `layer` is the hidden state that
    becomes the context, counted from the end with 1 for the last; None takes the one that the request asks for (clip skip).
    The final normalisation follows where `normalised`.  `pooled`: its projected output at the end-of-text token is part of the
    network's vector; with `pooled_plain` so is that output without a projection.  `pad` is the token behind the end of a text.
    """

    part: Literal["text", "text_2"]
    title: str
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    layer: int | None = None
    normalised: bool = True
    pooled: bool = False
    pad: int = 49_407
    pooled_plain: bool = False
