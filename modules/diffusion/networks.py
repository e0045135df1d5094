"""What a family's loaded networks can do: the protocols that pipelines, engine and reference runner run a model by.

A family of models (`modules.checkpoints.families`) makes a `Networks` of a file.  Everything that differs between families in
the mathematics stands behind these four: what a text becomes, which rows may share a forward and how they become one batch,
how noise was added in training, and how pictures become latents.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from modules.diffusion.adapters import Adapter
from modules.diffusion.conditioning import Conditioning
from modules.diffusion.rows import Answer, JoinKey, Row
from modules.diffusion.schedules import TrainedSigmas
from modules.diffusion.tiles import Tiling
from modules.request import Txt2Img

Batch = TypeVar("Batch")


class NoiseProcess(Hashable, Protocol):
    """How a network was trained to see noise, and what its output says; equal ones compute the same.

    Samplers know one form of noise, x = x0 + sigma * noise, whatever the training: init images are noised in it, and a noise
    process brings it to the network's own form.  Variance-preserving noise is x / sqrt(1 + sigma^2); a flow
    x_t = (1 - t) * x0 + t * noise is x / (1 + sigma) with sigma = t / (1 - t).
    """

    @property
    def trained(self) -> TrainedSigmas:
        """The sigmas of training, over which schedules spread a run.

        The highest is finite, and best below some thousands: a step from far above loses digits in single precision.
        """

    @property
    def facts(self) -> Mapping[str, str]:
        """What a picture's record says of how the network's output was read; nothing where that goes without saying."""

    def model_timestep(self, sigma: float) -> float:
        """What the network gets for a noise level."""

    def scale_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        """What the network is fed for x (B, ...) at noise levels `sigma` (B,)."""

    def denoised(self, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The x0 prediction (B, ...) from the network's `output` (B, ...) for x (B, ...), not scaled, at `sigma` (B,)."""

    def at_rest(self, x: Tensor, sigma: float) -> Tensor:
        """The x0 prediction under which x, in the network's own form, does not change with sigma."""

    def read_as(self, prediction: str, zero_snr: bool, ignore_zero_snr: bool) -> NoiseProcess:
        """As the request's options say (`ModelHandle.run_as`); itself where the training knows no such choice."""


@runtime_checkable
class SizedNoise(Protocol):
    """A noise process that differs with the size of the picture."""

    def for_size(self, height: int, width: int) -> NoiseProcess:
        """That of latents of `height` x `width` positions."""


class RowDenoiser(Protocol[Batch]):
    """The denoising network of a model: which rows share a forward, and the x0 prediction of each."""

    @property
    def further_channels(self) -> int:
        """Input channels behind those of x, for concat conditioning."""

    def has(self, place: str) -> bool:
        """Whether the network has a layer of this name, which adapters and taps name."""

    def example(self, height: int, width: int) -> Conditioning:
        """Zeros in the shape of a short prompt's conditioning, for timing forwards of latents of this size."""

    def join_key(self, row: Row) -> JoinKey:
        """Decides which rows of one latent size may share a forward with this one."""

    def collate(self, rows: Sequence[Row]) -> Batch:
        """One batch of rows that may share a forward."""

    def denoise(self, batch: Batch, noise: NoiseProcess) -> list[Answer]:
        """The answers to the batch's rows, in their order, from one forward."""


class Tokenised(Protocol):
    """The texts of one image, ready to be encoded."""

    @property
    def pieces(self) -> Sequence[Hashable]:
        """What the text encoders are asked for, each once: windows of tokens."""

    @property
    def vectors(self) -> Mapping[Any, Tensor]:
        """What the pieces name without containing it (textual inversions)."""

    @property
    def said(self) -> Mapping[str, str]:
        """Items of the picture's text that tokenising found out."""

    def conditionings(
        self, sides: Sequence[Sequence[str]], negative: Sequence[str], encoded: Mapping[Any, Any]
    ) -> list[tuple[Conditioning, ...]]:
        """Of each side of AND, and last of the negative prompt, a conditioning for each text along its timeline.

        `encoded` has the encoders' answer to each of `pieces`.
        """


@runtime_checkable
class Noted(Protocol):
    """Texts of which something could not be done."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the user."""


@runtime_checkable
class OfMaps(Protocol):
    """A latent space whose denoiser gets a map of classes as concat conditioning."""

    @property
    def classes(self) -> int:
        """How many there are."""

    def of_map(self, numbers: Tensor) -> Tensor:
        """Concat conditioning (C2, h, w), on the CPU, of the class numbers (H, W) of a map."""


@dataclass(frozen=True, eq=False)
class AdaptableNetwork:
    """What adapters can change of a network: its `layers` and `norms` by place, and their places by the `stems` that files name
    them by."""

    layers: Mapping[str, nn.Linear | nn.Conv2d]
    stems: Mapping[str, str]
    device: torch.device
    dtype: torch.dtype
    norms: Mapping[str, nn.GroupNorm | nn.LayerNorm] = field(default_factory=dict)
    pieces: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)
    """By stem, a part of a layer that files name by itself: its place, and its first row and number of rows (queries, keys and
    values of one matrix)."""


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """A file's changes of a model, by the part that they are for ("unet", "text", "text_2"); hashable by identity.

    `version` changes with the file, `digest` are 12 digits of its hash, `unmatched` its tensors that belong to no layer, `size`
    its bytes.  `inversions` are textual inversions in the file: vectors (n, width) by name, those of several text encoders side
    by side, which are words while the adapter is used.
    """

    name: str
    version: str
    digest: str
    parts: Mapping[str, Adapter]
    unmatched: tuple[str, ...] = ()
    size: int = 0
    inversions: Mapping[str, Tensor] = field(default_factory=dict)


Strengths = tuple[tuple[LoadedAdapter, float], ...]
"""Adapters with how much of each."""


class PromptEncoder(Protocol):
    """The text encoders of a model, and how texts become conditionings."""

    def tokenise(self, texts: Sequence[str], request: Txt2Img, bundled: Sequence[LoadedAdapter] = ()) -> Tokenised:
        """Read these texts as `request` says; with `bundled`, which is given only where there are any, also the textual
        inversions of those adapters are words.  On a host thread.

        Raises:
            RequestError: they are too long, or name what cannot be read.
        """

    def encode(
        self, pieces: Sequence[Any], clip_skip: int, vectors: Mapping[Any, Tensor], adapters: Strengths = ()
    ) -> list[Any]:
        """One answer for each of some images' `pieces`, on the device, with `adapters` on the encoders."""


class LatentSpace(Protocol):
    """Between pictures and the latents that the denoiser works on."""

    @property
    def channels(self) -> int: ...

    @property
    def factor(self) -> int:
        """Pixels per latent position on each axis."""

    def encode(self, images: Tensor) -> Tensor:
        """Latents (B, C, h, w), fp32, of images (B, 3, H, W) in [-1, 1]: the means, no draw."""

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W), fp32 around [-1, 1], of latents (B, C, h, w)."""

    def to_edit(self, latent: Tensor) -> Tensor:
        """A picture's latent as the concat conditioning of a network that edits pictures: that of the autoencoder, not scaled
        (Brooks et al. 2023, arXiv:2211.09800), unless the network was trained with scaled ones."""

    def linear_preview(self, latent: Tensor) -> Tensor:
        """What a latent (C, h, w) roughly looks like, without decoding it: uint8 (h, w, 3) on the CPU."""


@runtime_checkable
class TiledLatentSpace(Protocol):
    """A latent space whose autoencoder can run in tiles."""

    def tiled(self, tiling: Tiling) -> LatentSpace:
        """The same latent space, encoded and decoded in tiles: less memory, more time, the same numbers but for rounding."""


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks of a model, loaded."""

    denoiser: RowDenoiser[Any]
    prompts: PromptEncoder
    latent: LatentSpace
    noise: NoiseProcess
    adaptable: Mapping[str, AdaptableNetwork] = field(default_factory=dict)
    """By part, what adapters can change."""
