"""Loaded TAESD networks: as a latent space of their own (a fast VAE), and as the decoder of live previews.

The manager keeps one `TinyAutoencoders`; networks are components of its cache, and views of a model with TAESD stand beside its
views with other autoencoders (`ModelHandle.with_vaes`).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from modules.checkpoints.cache import Component, ComponentCache
from modules.checkpoints.handle import ModelHandle, Stamped
from modules.checkpoints.hashes import FileHash
from modules.checkpoints.header import header_of, open_model
from modules.checkpoints.latent_space import KLLatentSpace
from modules.checkpoints.taesd import HALVES, Half, TinyInfo, channels_of, fitting_decoder, places, taesd_for
from modules.checkpoints.weights import Filler, Weights
from modules.diffusion.taesd import TinyDecoder, TinyEncoder
from modules.diffusion.transfers import sent
from modules.errors import CheckpointError, OutOfMemory, RequestError

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TinyLatentSpace:
    """`full` with TAESD's decoder or encoder or both in the place of its autoencoder's, which compute in `dtype`."""

    full: KLLatentSpace
    dtype: torch.dtype
    decoder: TinyDecoder | None = None
    encoder: TinyEncoder | None = None

    @property
    def channels(self) -> int:
        return self.full.channels

    @property
    def factor(self) -> int:
        return self.full.factor

    def encode(self, images: Tensor) -> Tensor:
        if self.encoder is None:
            return self.full.encode(images)
        latents: Tensor = self.encoder((sent(images, self.full.device).to(self.dtype) + 1) / 2)
        return latents.float()

    def decode(self, latents: Tensor) -> Tensor:
        if self.decoder is None:
            return self.full.decode(latents)
        images: Tensor = self.decoder(sent(latents, self.full.device).to(self.dtype))
        return images.float() * 2 - 1

    def to_edit(self, latent: Tensor) -> Tensor:
        return self.full.to_edit(latent)

    def linear_preview(self, latent: Tensor) -> Tensor:
        return self.full.linear_preview(latent)


class TinyAutoencoders:
    """TAESD networks out of the files in `folders`, on `device` in `dtype`.  All methods may be called from any thread.

    `cache_file` remembers the files' hashes.
    """

    def __init__(
        self, folders: Sequence[Path], cache: ComponentCache, cache_file: Path, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._folders, self._cache, self._cache_file, self._device, self._dtype = folders, cache, cache_file, device, dtype
        self._loading = threading.Lock()
        self._refused: set[Hashable] = set()

    def view(self, handle: ModelHandle, halves: Collection[Half]) -> ModelHandle:
        """The same model with TAESD's `halves`; the same object while their files do not change.

        Raises:
            RequestError: there is no file for its latents, or its latents are its own.
            CheckpointError: the file cannot be used; the message names it.
            OutOfMemory: the device cannot hold it.
        """
        space = handle.latent
        wanted = [half for half in HALVES if half in halves]
        if not isinstance(space, KLLatentSpace) or not space.published:
            raise RequestError(
                f"vae_{wanted[0]}: TAESD was asked for, but checkpoint {handle.info.name!r} has latents of its own that TAESD "
                "does not know; choose Full"
            )
        infos = {half: taesd_for(self._folders, space.format, half) for half in wanted}
        root = handle.own or handle
        with self._loading:
            try:
                parts = {half: self._component(info, half) for half, info in infos.items()}
            except torch.OutOfMemoryError:
                parts = {}
            if not parts:
                raise OutOfMemory(f"{self._device} has not enough free memory for TAESD; close other programs")
            key = ("taesd", tuple([component.key for component in handle.components]), tuple([parts[h].key for h in wanted]))
            return root.view(key, lambda: self._view(handle, space, parts, {half: info.name for half, info in infos.items()}))

    def _view(
        self, handle: ModelHandle, space: KLLatentSpace, parts: Mapping[Half, Component], names: Mapping[Half, str]
    ) -> ModelHandle:
        latent = TinyLatentSpace(
            space,
            self._dtype,
            cast(TinyDecoder, parts["decoder"].network) if "decoder" in parts else None,
            cast(TinyEncoder, parts["encoder"].network) if "encoder" in parts else None,
        )
        files = {cast(Stamped, cast(tuple[Any, ...], part.key)[:4]): names[half] for half, part in parts.items()}
        return replace(
            handle,
            latent=latent,
            components=(*handle.components, *parts.values()),
            taesd_files=tuple([(name, FileHash.of(Path(at[0]), self._cache_file, at[1:])) for at, name in files.items()]),
            own=handle.own or handle,
        )

    def prepare_previews(self, handle: ModelHandle) -> None:
        """Give this model the decoder of its previews, where there is a file that fits; no problem with one is an error.

        It costs a look at the folders where that was done before.
        """
        space = (handle.own or handle).latent
        info = None
        if isinstance(space, KLLatentSpace) and space.published:
            info = fitting_decoder(self._folders, space.format)
        with self._loading:
            if info is None:
                handle.preview.component = None
                return
            try:
                handle.preview.component = self._component(info, "decoder")
                handle.preview.dtype = self._dtype
            except (OSError, CheckpointError, torch.OutOfMemoryError) as error:
                handle.preview.component = None
                if info.path not in self._refused:
                    log.warning("no previews by TAESD: %s", str(error).split("\n", 1)[0])
                self._refused.add(info.path)

    def _component(self, info: TinyInfo, half: Half) -> Component:
        """The network of a half, made when it is not loaded."""
        with open_model(info.path) as file:
            status = os.fstat(file.fileno())
            key = (str(info.path), status.st_size, status.st_mtime_ns, status.st_ino, f"vae taesd {half}")
            header = header_of(file, info.path)

            def make() -> nn.Module:
                channels = channels_of(header, half)
                with torch.device("meta"):
                    network = TinyDecoder(channels) if half == "decoder" else TinyEncoder(channels)
                fill = Filler(Weights(file, header), self._device, info.path.name)
                try:
                    fill(network, places(header, half), self._dtype, f"TAESD {half}")
                except CheckpointError as error:
                    raise CheckpointError(f"{info.path.name} {error}") from None
                return network

            return self._cache.get(key, make)
