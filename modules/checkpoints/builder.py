"""From a checkpoint's file to the networks of a model on a device.

Weights are memory-mapped and used where they lie when number format, device and memory layout already fit, else converted
tensor by tensor.  This file knows files and networks; it does not know requests, nor what stays loaded.

A mapping keeps the file's content alive: a checkpoint that is deleted or replaced (renamed over, as downloads and `mv` do)
while it is loaded goes on working.  One that is overwritten in place, on a CPU and in float32, takes the engine process down
with it: that is the price of not copying gigabytes, and the engine is started again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from modules.checkpoints.cache import ComponentCache
from modules.checkpoints.completeness import check_scaling
from modules.checkpoints.components import with_vae
from modules.checkpoints.families import recognise
from modules.checkpoints.files import CheckpointInfo
from modules.checkpoints.footprint import SMALL, weights_in
from modules.checkpoints.handle import ModelHandle, Stamped
from modules.checkpoints.hashes import FileHash
from modules.checkpoints.header import Header, header_of, open_model
from modules.checkpoints.hypernetworks import Hypernetworks
from modules.checkpoints.inversions import Inversions
from modules.checkpoints.loras import Loras
from modules.checkpoints.model_file import ModelFile
from modules.checkpoints.residence import Residence, Storage, first_choice, place, possible
from modules.checkpoints.sources import file_stamp, open_source, stamp_of
from modules.checkpoints.training import yaml_of
from modules.checkpoints.weights import Filler, Weights
from modules.diffusion.accelerators import Accelerate
from modules.diffusion.attention import Attend
from modules.diffusion.kernels import Kernels
from modules.diffusion.slicing import SwitchableAttention
from modules.errors import CheckpointError, OutOfMemory

log = logging.getLogger(__name__)

Identity = tuple[str, int, int, int, int]
"""Path, what `stamp_of` says of its content, and when its configuration was changed."""


class Builder:
    """Makes models of files; `hashes` is the JSON file that remembers hashes.  The other arguments are `ModelManager`'s."""

    def __init__(
        self,
        folders: Sequence[Path],
        device: torch.device,
        dtype: torch.dtype,
        small_dtype: torch.dtype,
        attend: Attend,
        cache: ComponentCache,
        hashes: Path,
        kernels: Kernels,
        accelerate: Accelerate,
        storage: Storage,
    ) -> None:
        self.folders, self.device, self.dtype, self._small_dtype = folders, device, dtype, small_dtype
        self._attend, self._kernels, self._accelerate = SwitchableAttention(attend), kernels, accelerate
        self._storage, self.keeps_blocks = storage, storage != "full"
        self.cache, self._hashes = cache, hashes
        self.inversions, self.loras, self.hypernetworks = Inversions(folders, hashes), Loras(folders), Hypernetworks(folders)

    def dtype_of(self, header: Header) -> torch.dtype:
        """The number format in which a file's model computes."""
        return self.dtype if header.numbers >= SMALL else self._small_dtype

    def size_of(self, header: Header) -> int:
        """Bytes of a file's weights once they are loaded."""
        return weights_in(header).kept(self.dtype_of(header).itemsize, self.keeps_blocks)

    def build(self, info: CheckpointInfo, identity: Identity, residence: Residence | None = None) -> ModelHandle:
        """The model of a file, held in this way; as is usual here unless given."""
        residence = residence or first_choice(self._storage)
        with _named(info.path), ExitStack() as stack:
            source = stack.enter_context(open_source(info.path))
            header = source.header
            if source.stamp != identity[1:4]:
                raise CheckpointError("changed while it was read; wait until it is complete and try again")
            family = recognise(header.shapes)
            check_scaling(header, family.latent.scale)
            dtype = self.dtype_of(header)
            read_to = torch.device("cpu") if residence.through_main_memory else self.device
            fill = Filler(Weights(source.files, header, read_to), read_to, info.path.name, self.keeps_blocks)
            opened = self._opened(info.path, header, fill, dtype, identity[:4])  # its content, without its configuration
            opened = replace(opened, open_beside=self._opener(stack, opened, read_to))
            loaded = family.load(opened)
            if residence.through_main_memory:
                residence = possible(residence, opened.components)
                place(opened.components, residence, self.device)
            source.check_unchanged()
            digest = FileHash.of(info.path, self._hashes, identity[1:4])
        return ModelHandle(
            info=info,
            hash=digest,
            family=family,
            denoiser=loaded.denoiser,
            prompts=loaded.prompts,
            latent=loaded.latent,
            noise=loaded.noise,
            device=self.device,
            adaptable=loaded.adaptable,
            loras=self.loras,
            hypernetworks=self.hypernetworks,
            components=tuple(opened.components),
            attend=self._attend,
            dtype=dtype,
            notes=residence.notes,
        )

    def _opener(self, stack: ExitStack, opened: ModelFile, read_to: torch.device) -> Callable[..., ModelFile]:
        """What opens files beside a checkpoint's (`ModelFile.open_beside`), until the stack is closed."""

        def beside(path: Path, changed: Callable[[Header], Header]) -> ModelFile:
            with _named(path):
                source = stack.enter_context(open_source(path))
                header = changed(source.header)
                fill = Filler(Weights(source.files, header, read_to), read_to, path.name, self.keeps_blocks)
            other = self._opened(path, header, fill, opened.dtype, (str(path), *source.stamp))
            return replace(other, components=opened.components)

        return beside

    def _opened(self, path: Path, header: Header, fill: Filler, dtype: torch.dtype, content: Stamped) -> ModelFile:
        return ModelFile(
            path=path,
            header=header,
            fill=fill,
            device=self.device,
            dtype=dtype,
            vae_dtype=vae_dtype(self.device, dtype),
            attend=self._attend,
            inversions=self.inversions,
            cache=self.cache,
            content=content,
            kernels=self._kernels,
            accelerate=self._accelerate,
            folders=self.folders,
        )

    def with_vae(self, handle: ModelHandle, path: Path) -> ModelHandle:
        """The same model with the autoencoder of the file at `path`; the same object while that does not change."""
        with _named(path), open_model(path) as file:
            stamp = (str(path), *file_stamp(os.fstat(file.fileno())))
            if stamp in handle.with_vaes:
                return handle.view(stamp, lambda: handle)
            header = header_of(file, path)
            opened = self._opened(path, header, Filler(Weights(file, header), self.device, path.name), handle.dtype, stamp)
            try:
                latent = with_vae(opened, handle.latent)
            except torch.OutOfMemoryError:
                latent = None
            if latent is None:
                raise OutOfMemory(f"{self.device} has not enough free memory for the VAE; choose a smaller one or none")
            components = [one for one in handle.components if one.network is not getattr(handle.latent, "vae", None)]
            other = replace(
                handle,
                latent=latent,
                components=(*components, *opened.components),
                vae_file=(path.name, FileHash.of(path, self._hashes, stamp[1:])),
                own=handle,
            )
            handle.view(stamp, lambda: other)
            log.info("loaded VAE %s", path.name)
            return other


def vae_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The autoencoder's number format where the U-Net computes in `dtype`: never float16.

    SD 1.x's decoder overflows float16 on some pictures (black images), and our starter's residual streams, a thousand times
    smaller than usual, lose their variance to its short exponent.  bfloat16 has float32's range and is quick on GPUs from
    compute capability 8.0 on; on a CPU it runs once for each picture, where bfloat16's eight bits would show most.
    """
    if device.type == "cuda" and dtype != torch.float32 and torch.cuda.get_device_capability(device) >= (8, 0):
        return torch.bfloat16
    return torch.float32


def identity_of(info: CheckpointInfo) -> Identity:
    """Which content a path has now, and when its configuration was changed: a replaced file is another model.

    A deleted one has no content: zeros.
    """
    try:
        return str(info.path), *stamp_of(info.path), _changed(yaml_of(info.path))
    except OSError:
        return str(info.path), 0, 0, 0, 0


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@contextmanager
def _named(path: Path) -> Any:
    """Put the file's name in front of what was found in it."""
    try:
        yield
    except CheckpointError as error:
        text = str(error)
        raise CheckpointError(text if text.startswith(path.name) else f"{path.name} {text}") from None
