"""Families of U-Nets with cross-attention to CLIP's text encoders: SD 1.x, SD 2.x, SDXL and what is built like them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import pstdev
from typing import TYPE_CHECKING, Literal

from modules.checkpoints.completeness import check_complete
from modules.checkpoints.families.family import Family
from modules.checkpoints.families.parts import Concat, ContinuousLevels, Defaults, TextPart, VectorNumbers
from modules.checkpoints.small_tensors import read_numbers
from modules.checkpoints.training import Training, training_of
from modules.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from modules.checkpoints.header import Header
    from modules.checkpoints.model_file import ModelFile
    from modules.diffusion.networks import Networks, NoiseProcess

V_SPREAD = 0.09
"""Where the numbers of `UNetFamily.v_spread` have a larger standard deviation, the network predicts v (ComfyUI's test)."""


@dataclass(frozen=True, kw_only=True)
class UNetFamily(Family):
    """One of these families, as data.

    A file is of the kind with the most `marks`, all of which are among its tensors, and the U-Net's `in_channels` tell the
    members of a kind apart.  Its attention heads are either `heads` in number or, where that is 0, `head_width` wide: shapes
    tell only the product.  `text` are the encoders in the order of their columns in the context.
    `prediction` is what the network was trained to output (`modules.diffusion.prediction`), unless the file says otherwise.
    `v_spread` is a tensor whose spread tells it where the file says nothing; `v_defaults` are those of members that predict v.
    `levels` are given where the network was trained at continuous noise levels; `betas` are the first and the last of the noise
    that it was trained with at discrete ones.
    `numbers` follow the pooled text in the network's vector, 256 features each.
    `blank_negative`: an empty negative prompt is no text at all, zeros in the place of its encoding.
    `edits_scaled`: a picture to be edited is given as the denoiser sees latents, not as the autoencoder gives them.
    """

    in_channels: int
    text: tuple[TextPart, ...]
    prediction: Literal["eps", "v"] = "eps"
    v_spread: str = ""
    v_defaults: Defaults | None = None
    levels: ContinuousLevels | None = None
    betas: tuple[float, float] = (0.00085, 0.012)
    heads: int = 0
    head_width: int = 0
    marks: tuple[str, ...] = ()
    numbers: VectorNumbers = ()
    blank_negative: bool = False
    edits_scaled: bool = False

    @property
    def concat(self) -> Concat:
        further = self.in_channels - self.latent.channels
        kinds: dict[int, Concat] = {0: "", 1 + self.latent.channels: "mask", self.latent.channels: "picture", 3: "low-res"}
        return kinds.get(further, "mask")

    @property
    def noises_low_res(self) -> bool:
        return self.concat == "low-res"

    def check(self, header: Header) -> None:
        check_complete(header, self.text, len(self.numbers))

    def defaults_of(self, header: Header, path: Path) -> Defaults:
        if self.v_defaults and self.training(header, path).prediction == "v":
            return self.v_defaults
        return self.defaults

    def training(self, header: Header, path: Path) -> Training:
        """What the network of the file at `path` was trained to predict, and up to which noise level."""
        said = training_of(header, path)
        if said.prediction:
            return said
        spread = read_numbers(header, path, self.v_spread) if self.v_spread else ()
        return Training("v" if len(spread) > 1 and pstdev(spread) > V_SPREAD else self.prediction, said.zero_snr)

    def load(self, file: ModelFile) -> Networks:
        from modules.checkpoints.components import UNetParts

        parts = UNetParts(file, self.text, self.numbers)
        noise = self._noise(file.header, file.path)
        return parts.networks(self.latent, self.heads, self.head_width, noise, self.blank_negative, self.edits_scaled)

    def _noise(self, header: Header, path: Path) -> NoiseProcess:
        from modules.checkpoints.components import continuous_noise, discrete_noise

        if self.levels is None:
            trained = self.training(header, path)
            return discrete_noise(trained.prediction or self.prediction, trained.zero_snr, self.betas)
        levels = self.levels
        low = _number(header, path, levels.min_tensor, levels.sigma_min)
        high = _number(header, path, levels.max_tensor, levels.sigma_max)
        if not 0.0 < low < high < 10_000.0:
            raise CheckpointError(
                f"says that it was trained at noise levels from {low:g} to {high:g}, which cannot be; use another file"
            )
        return continuous_noise(low, high, levels.data, levels.v)


def _number(header: Header, path: Path, name: str, otherwise: float) -> float:
    """The single number that a file holds under `name`."""
    found = read_numbers(header, path, name) if name else ()
    return found[0] if len(found) == 1 else otherwise
