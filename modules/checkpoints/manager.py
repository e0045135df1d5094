"""Loaded models: from a checkpoint file to networks on a device, kept and let go.

Weights are memory-mapped and used where they lie when number format, device and memory layout already fit, else converted
tensor by tensor.  This file knows files and networks; it does not know requests, and it never runs a network.

A mapping keeps the file's content alive: a checkpoint that is deleted or replaced (renamed over, as downloads and `mv` do)
while it is loaded goes on working.  One that is overwritten in place, on a CPU and in float32, takes the engine process down
with it: that is the price of not copying gigabytes, and the engine is started again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modules.checkpoints import keys
from modules.checkpoints.cache import Component, ComponentCache, Leases
from modules.checkpoints.completeness import listed
from modules.checkpoints.components import Maker
from modules.checkpoints.families import SD1_LATENT, Family, LatentFormat, recognise
from modules.checkpoints.files import CheckpointInfo, find
from modules.checkpoints.hashes import file_sha256
from modules.checkpoints.header import header_of, open_model
from modules.checkpoints.inversions import Inversions
from modules.checkpoints.training import training_of, yaml_of, yaml_problem
from modules.checkpoints.weights import Filler, Weights
from modules.diffusion.attention import Attend
from modules.diffusion.prediction import PREDICTIONS, Prediction
from modules.diffusion.preview import SD1_PREVIEW, LinearPreview, fit_rgb_factors
from modules.diffusion.rows import Answer, Row, UNetDenoiser
from modules.diffusion.schedules import TrainedSigmas
from modules.diffusion.text import TextEncoders
from modules.diffusion.unet import UNet
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from modules.errors import CheckpointError, OutOfMemory, UnknownName

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ModelHandle:
    """A loaded checkpoint, ready to run; hashable by identity.

    `unet` and `text` compute in `unet_dtype`, `vae` in `vae_dtype`, all on `device`.  `inversions` are the textual inversions
    that are here; None knows none.
    """

    info: CheckpointInfo
    sha256: str
    family: Family
    unet: UNet
    vae: AutoencoderKL
    text: TextEncoders
    prediction: Prediction
    levels: TrainedSigmas
    device: torch.device
    unet_dtype: torch.dtype
    vae_dtype: torch.dtype
    inversions: Inversions | None = None
    zero_snr: bool = False
    """Whether `levels` have zero terminal signal-to-noise ratio."""
    components: tuple[Component, ...] = ()
    """What was loaded for it; who runs it holds leases on them (`ModelManager.lease`)."""

    @property
    def latent(self) -> LatentFormat:
        return self.family.latent

    @property
    def further_channels(self) -> int:
        """Input channels of the U-Net beside those of x: 5 of inpainting models, 4 of editing models."""
        return self.unet.config.in_channels - self.latent.channels

    @property
    def edits(self) -> bool:
        """Whether the further channels are a picture to be edited."""
        return self.further_channels == self.latent.channels

    def run_as(self, prediction: str = "Automatic", zero_snr: bool = False, ignore_zero_snr: bool = False) -> ModelHandle:
        """The same networks, read as predicting "eps" or "v", with the noise levels stretched to zero terminal SNR if asked.

        `ignore_zero_snr` takes the schedule's own levels although the file asks for stretched ones, unless the request does.

        The same answer for the same question, so that requests which ask alike share forwards.
        """
        wanted = PREDICTIONS.get(prediction, self.prediction)
        stretched = zero_snr or (self.zero_snr and not ignore_zero_snr)
        if wanted is self.prediction and stretched == self.zero_snr:
            return self
        key = (wanted.name, stretched)
        if key not in self._read_otherwise:
            levels = self.schedule_levels.zero_terminal_snr() if stretched else self.schedule_levels
            self._read_otherwise[key] = replace(self, prediction=wanted, levels=levels, zero_snr=stretched)
        return self._read_otherwise[key]

    @property
    def schedule_levels(self) -> TrainedSigmas:
        """The levels that `levels` were stretched from, or are."""
        return TrainedSigmas.scaled_linear() if self.zero_snr else self.levels

    @property
    def reading(self) -> dict[str, str]:
        """What a picture's record says of how the network's output was read; nothing for eps on the schedule of SD 1.x."""
        said = {} if self.prediction is PREDICTIONS["eps"] else {"prediction": self.prediction.name}
        return said | ({"zero terminal SNR": "true"} if self.zero_snr else {})

    @cached_property
    def _read_otherwise(self) -> dict[tuple[str, bool], ModelHandle]:
        return {}

    @cached_property
    def denoiser(self) -> UNetDenoiser:
        return UNetDenoiser(self.unet, self.prediction, self.unet_dtype)

    def denoise(self, rows: Sequence[Row]) -> list[Answer]:
        """The x0 predictions of `rows` in one forward, see `diffusion.rows`."""
        return self.denoiser.denoise(rows, self.levels)

    def encode(self, images: Tensor) -> Tensor:
        """Latents (B, C, h, w), fp32 and as the U-Net sees them, of images (B, 3, H, W) in [-1, 1]: the means, no draw."""
        mean, _ = self.vae.encode(images.to(self.device, self.vae_dtype))
        return self.latent.scaled(mean.float())

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W), fp32 around [-1, 1], of latents (B, C, h, w) as the U-Net sees them."""
        return self.vae.decode(self.latent.raw(latents).to(self.device, self.vae_dtype)).float()

    @cached_property
    def linear_preview(self) -> LinearPreview:
        """What a running latent (C, h, w) roughly looks like: uint8 (h, w, 3) on the CPU.

        The first use may run the VAE: an autoencoder that is not SD 1.x's own gets a map fitted to it.
        """
        if self.vae.config == VAEConfig() and self.latent == SD1_LATENT:
            return SD1_PREVIEW
        return fit_rgb_factors(self.decode, self.latent.channels)


class ModelManager:
    """Loads checkpoints by name and keeps the last `keep` of them.

    Args:
        folders: models folders, as for `files.scan`.
        device: where models run.
        dtype: number format of U-Net and text encoder.
        attend: the attention back end to build networks with.
        cache: JSON file that remembers hashes (`hashes.file_sha256`).
        keep: how many models stay loaded; the least recently used goes first.

    All methods may be called from any thread.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        device: torch.device,
        dtype: torch.dtype,
        attend: Attend,
        cache: Path,
        keep: int = 1,
    ) -> None:
        self.folders, self.device, self.dtype = list(folders), device, dtype
        self.vae_dtype = vae_dtype(device, dtype)
        self._attend, self._cache, self._keep = attend, cache, max(1, keep)
        self.inversions = Inversions(self.folders, cache)
        self.cache = ComponentCache()
        self._loaded: OrderedDict[_Identity, ModelHandle] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    def load(self, name: str) -> ModelHandle:
        """The model that `name` means (`files.find`), loaded when it is not yet.

        Raises:
            UnknownName: no checkpoint has this name.
            CheckpointError: its file cannot be used.  What was loaded stays loaded.
            OutOfMemory: the device cannot hold it.
        """
        info, handle = self._find(name)
        if handle:
            return handle
        with self._loading:
            if handle := self._kept(info):  # another thread loaded it meanwhile
                return handle
            try:
                identity, handle = self._read(info)
            except BaseException:
                with self._lock:
                    self._keep_loaded()  # not the part of it that was read
                raise
            with self._lock:
                self._loaded[identity] = handle
                while len(self._loaded) > self._keep:
                    _, gone = self._loaded.popitem(last=False)
                    log.info("let go of %s", gone.info.name)
                self._keep_loaded()
            return handle

    def lease(self, handle: ModelHandle) -> Leases:
        """Use this model: its components stay loaded until the leases are released."""
        return self.cache.lease(handle.components)

    def is_loaded(self, name: str) -> bool:
        """Whether `load` would answer at once."""
        return self._find(name)[1] is not None

    def holds(self, handle: ModelHandle) -> bool:
        """Whether `handle` is still kept; tasks under way may use one that is not."""
        with self._lock:
            return any(handle is kept for kept in self._loaded.values())

    def let_go(self) -> None:
        """Keep no model any more; one that a task still uses goes with that task."""
        self._keep_none()

    def _keep_none(self) -> None:
        with self._lock:
            self._loaded.clear()
            self._keep_loaded()
        torch.cuda.empty_cache()

    def _keep_loaded(self) -> None:
        """Let go of components that no kept model needs.  Under the lock."""
        self.cache.keep_only(component.key for handle in self._loaded.values() for component in handle.components)

    def _find(self, name: str) -> tuple[CheckpointInfo, ModelHandle | None]:
        """The file that `name` means and its model where that is kept; a kept one whose file was deleted is still found."""
        try:
            info = find(self.folders, name, self._cache)
        except UnknownName:
            with self._lock:
                for handle in self._loaded.values():
                    if handle.info.name == name:
                        return handle.info, handle
            raise
        return info, self._kept(info)

    def _kept(self, info: CheckpointInfo) -> ModelHandle | None:
        identity = _identity(info)
        with self._lock:
            if identity in self._loaded:
                self._loaded.move_to_end(identity)
            return self._loaded.get(identity)

    def _read(self, info: CheckpointInfo) -> tuple[_Identity, ModelHandle]:
        if info.problem:
            raise CheckpointError(info.problem)
        start = time.perf_counter()
        identity = _identity(info)
        try:
            handle = self._build(info, identity)
        except torch.OutOfMemoryError:
            handle = None
        if handle is None:  # outside the except block: a live exception would keep the tensors that were made so far
            handle = self._build_alone(info, identity)
        log.info("loaded %s in %.1f s", info.name, time.perf_counter() - start)
        if wrong := yaml_problem(info.path):
            log.warning("checkpoint %s: %s", info.name, wrong)
        return identity, handle

    def _build_alone(self, info: CheckpointInfo, identity: _Identity) -> ModelHandle:
        """A second attempt after the device was full: let go of everything else first."""
        self._keep_none()
        try:
            return self._build(info, identity)
        except torch.OutOfMemoryError:
            raise OutOfMemory(
                f"{self.device} has not enough free memory for checkpoint {info.name!r}; close other programs"
            ) from None

    def _build(self, info: CheckpointInfo, identity: _Identity) -> ModelHandle:
        sha256 = file_sha256(info.path, self._cache)
        with _named(info.path), open_model(info.path) as file:
            header = header_of(file, info.path)
            if _stamp(os.fstat(file.fileno())) != identity[1:4]:
                raise CheckpointError("changed while it was read; wait until it is complete and try again")
            family = recognise(header.shapes)
            layout = keys.layout(header.tensors)
            weights = Weights(file, header)
            if layout.unexpected:
                log.warning("%s: ignored %s", info.path.name, listed(layout.unexpected))

            make = Maker(header, layout, family, Filler(weights, self.device, info.path.name), self._attend)
            content = identity[:4]  # the file's, without what lies beside it
            components = [
                self.cache.get((*content, "unet"), lambda: make.unet(self.dtype)),
                self.cache.get((*content, "vae"), lambda: make.vae(self.vae_dtype)),
                *(self.cache.get((*content, part.part), partial(make.text, part, self.dtype)) for part in family.text),
            ]
        networks: list[Any] = [component.network for component in components]
        trained = training_of(header, info.path)
        levels = TrainedSigmas.scaled_linear()
        return ModelHandle(
            info=info,
            sha256=sha256,
            family=family,
            unet=networks[0],
            vae=networks[1],
            text=TextEncoders(networks[2:]),
            prediction=PREDICTIONS[trained.prediction or family.prediction],
            levels=levels.zero_terminal_snr() if trained.zero_snr else levels,
            zero_snr=trained.zero_snr,
            device=self.device,
            unet_dtype=self.dtype,
            vae_dtype=self.vae_dtype,
            inversions=self.inversions,
            components=tuple(components),
        )


def vae_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The autoencoder's number format beside a U-Net in `dtype`: never float16.

    SD 1.x's decoder overflows float16 on some pictures (black images), and our starter's residual streams, a thousand times
    smaller than usual, lose their variance to its short exponent.  bfloat16 has float32's range and is quick on GPUs from
    compute capability 8.0 on; a CPU computes float32 as fast.
    """
    if device.type == "cuda" and dtype != torch.float32 and torch.cuda.get_device_capability(device) >= (8, 0):
        return torch.bfloat16
    return torch.float32


_Identity = tuple[str, int, int, int, int]


def _identity(info: CheckpointInfo) -> _Identity:
    """Which content a path has now, and when its configuration was changed: a replaced file is another model.

    A deleted one has no content: zeros.
    """
    try:
        return str(info.path), *_stamp(info.path.stat()), _changed(yaml_of(info.path))
    except OSError:
        return str(info.path), 0, 0, 0, 0


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


@contextmanager
def _named(path: Path) -> Any:
    """Put the file's name in front of what was found in it."""
    try:
        yield
    except CheckpointError as error:
        text = str(error)
        raise CheckpointError(text if text.startswith(path.name) else f"{path.name} {text}") from None
