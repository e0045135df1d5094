"""ModelHandle: a loaded checkpoint as pipelines and engine run it.

The manager makes and keeps them; this file loads nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from modules.checkpoints.cache import Component
from modules.checkpoints.families import Family
from modules.checkpoints.files import CheckpointInfo
from modules.checkpoints.hashes import FileHash
from modules.checkpoints.hypernetworks import Hypernetworks
from modules.checkpoints.loras import Loras
from modules.diffusion.networks import (
    AdaptableNetwork,
    LatentSpace,
    LoadedAdapter,
    NoiseProcess,
    PromptEncoder,
    RowDenoiser,
    SizedNoise,
)
from modules.diffusion.rows import Answer, Row
from modules.diffusion.slicing import SwitchableAttention
from modules.errors import UnknownName
from modules.prompts.compose import NetworkOptions

MOST_VIEWS = 2
"""Autoencoders of other files that stay loaded with a model: SD 1.x's takes a third of a gigabyte, and is read in a moment."""

Stamped = tuple[str, int, int, int]
"""A file and its content: path, size, time of change and inode."""


@dataclass(eq=False)
class PreviewDecoder:
    """The small decoder of a model's live previews (TAESD), while there is one: all views of a model share it."""

    component: Component | None = None
    dtype: torch.dtype = torch.float32

    def pixels(self, latents: Tensor) -> Tensor:
        """Pictures (B, 8 h, 8 w, 3) uint8, on the device, of latents (B, C, h, w); where there is a decoder."""
        assert self.component is not None, "the caller asks where there is one"
        images: Tensor = self.component.network(latents.to(self.dtype)).float().nan_to_num(nan=0.0)
        return (images.clamp(0.0, 1.0) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@dataclass(frozen=True, eq=False)
class ModelHandle:
    """A loaded checkpoint, ready to run; hashable by identity.

    How it runs is its family's to say: `denoiser`, `prompts`, `latent` and `noise` are those of `diffusion.networks.Networks`.
    """

    info: CheckpointInfo
    hash: FileHash
    family: Family
    denoiser: RowDenoiser[Any]
    prompts: PromptEncoder
    latent: LatentSpace
    noise: NoiseProcess
    device: torch.device
    adaptable: Mapping[str, AdaptableNetwork] = field(default_factory=dict)
    """By part, what adapters can change."""
    loras: Loras | None = None
    """The adapters that are here; None knows none."""
    hypernetworks: Hypernetworks | None = None
    """The hypernetworks that are here; None knows none."""
    components: tuple[Component, ...] = ()
    """What was loaded for it; who runs it holds leases on them (`ModelManager.lease`)."""
    attend: SwitchableAttention | None = None
    """The attention of its networks, which can be told to take less memory; None where its family builds them without it."""
    dtype: torch.dtype = torch.float32
    """The number format in which its denoiser and text encoders compute."""
    notes: tuple[str, ...] = ()
    """What pictures say of how it is held (`residence.Residence`)."""
    vae_file: tuple[str, FileHash] | None = None
    """The name and hash of the file that its autoencoder comes from, where it is not its own."""
    taesd_files: tuple[tuple[str, FileHash], ...] = ()
    """The names and hashes of the files of TAESD by which it decodes or encodes."""
    preview: PreviewDecoder = field(default_factory=PreviewDecoder)
    own: ModelHandle | None = None
    """The same with its own autoencoder, where this one has another."""

    @property
    def network(self) -> ModelHandle:
        """What computes everything but latents: models that differ in their autoencoders alone share these calls."""
        return self.own or self

    @property
    def size(self) -> int:
        """Bytes of its networks; what several models share is counted for each."""
        return sum(component.size for component in self.components)

    @property
    def in_eight_bits(self) -> bool:
        """Whether weights of it are kept in 8 bits."""
        return any(each.placement is not None and each.placement.in_eight_bits for each in self.components)

    @property
    def edits(self) -> bool:
        """Whether the network's further channels are a picture to be edited."""
        return self.family.concat == "picture"

    @property
    def enlarges(self) -> bool:
        """Whether the network's further channels are a picture to be enlarged, with a pixel for a position of the latent."""
        return self.family.concat == "low-res"

    @property
    def paints_maps(self) -> bool:
        """Whether the network's further channels are a map of classes."""
        return self.family.concat == "map"

    def run_as(self, prediction: str = "Automatic", zero_snr: bool = False, ignore_zero_snr: bool = False) -> ModelHandle:
        """The same networks, read as predicting "eps" or "v", with the trained sigmas stretched to zero terminal SNR if asked.

        `ignore_zero_snr` takes the schedule's own sigmas although the file asks for stretched ones, unless the request does.

        The same answer for the same question, so that requests which ask alike share forwards.
        """
        return self._with_noise(self.noise.read_as(prediction, zero_snr, ignore_zero_snr))

    def at_size(self, height: int, width: int) -> ModelHandle:
        """The same networks with the noise of latents of this size, where that differs with it (`networks.SizedNoise`)."""
        return self._with_noise(self.noise.for_size(height, width)) if isinstance(self.noise, SizedNoise) else self

    def _with_noise(self, noise: NoiseProcess) -> ModelHandle:
        if noise == self.noise:
            return self
        if noise not in self._read_otherwise:
            own = self.own and self.own._with_noise(noise)
            self._read_otherwise[noise] = replace(self, noise=noise, own=own)
        return self._read_otherwise[noise]

    @cached_property
    def _read_otherwise(self) -> dict[NoiseProcess, ModelHandle]:
        return {}

    @cached_property
    def with_vaes(self) -> dict[Hashable, ModelHandle]:
        """The same with other autoencoders, by the files that they come from; the last that were asked for (`MOST_VIEWS`)."""
        return {}

    def view(self, key: Hashable, make: Callable[[], ModelHandle]) -> ModelHandle:
        """The view that is known as `key`, made where it is not there; what was asked for longest ago goes."""
        view = self.with_vaes.pop(key, None) or make()
        self.with_vaes[key] = view
        for old in list(self.with_vaes)[:-MOST_VIEWS]:
            self.with_vaes.pop(old, None)
        return view

    def adapter(self, name: str) -> LoadedAdapter:
        """The adapter of this name, as `Loras.read`."""
        if self.loras is None:
            raise UnknownName("network", name, [])
        return self.loras.read(name, self.adaptable, self.denoiser)

    def hypernetwork(self, name: str) -> LoadedAdapter:
        """The hypernetwork of this name, as `Hypernetworks.read`."""
        if self.hypernetworks is None:
            raise UnknownName("hypernetwork", name, [])
        return self.hypernetworks.read(name, self.adaptable, self.denoiser)

    def knows_network(self, kind: str, name: str) -> bool:
        """Whether a file has this name, of a hypernetwork ("hypernet") or else of an adapter."""
        known = self.hypernetworks if kind == "hypernet" else self.loras
        return known is not None and known.knows(name)

    def adjusted(self, adapter: LoadedAdapter, options: NetworkOptions) -> LoadedAdapter:
        """The adapter with these options, as `adjusted`; the same object for the same options.

        Raises:
            ValueError: the options are for another network.
        """
        assert self.loras is not None, "who has an adapter has read it"
        return self.loras.adjusted(adapter, options, self.adaptable)

    def denoise(self, rows: Sequence[Row]) -> list[Answer]:
        """The x0 predictions of `rows`, which may share a forward (`RowDenoiser.join_key`), in one."""
        return self.denoiser.denoise(self.denoiser.collate(rows), self.noise)
