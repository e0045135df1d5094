"""Loaded models: which stay, which go, and which is read ahead.

This file knows files, memory and time; it does not know requests, and it never runs a network.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from pathlib import Path

import torch

from modules.checkpoints import host_memory
from modules.checkpoints.builder import Builder, Identity, identity_of, vae_dtype
from modules.checkpoints.cache import ComponentCache, Leases
from modules.checkpoints.files import CheckpointInfo, find
from modules.checkpoints.footprint import quantised_denoiser
from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.read_ahead import PART, Needed, ReadAhead
from modules.checkpoints.residence import Storage, fallbacks
from modules.checkpoints.sources import read_source
from modules.checkpoints.taesd import Half
from modules.checkpoints.tiny_autoencoders import TinyAutoencoders
from modules.checkpoints.training import yaml_problem
from modules.checkpoints.upscaler_networks import UpscalerHandle, Upscalers
from modules.checkpoints.vaes import AUTOMATIC, vae_for
from modules.diffusion.accelerators import Accelerate, eager
from modules.diffusion.attention import Attend
from modules.diffusion.device_memory import streaming_helps
from modules.diffusion.kernels import PLAIN, Kernels
from modules.errors import AtelierError, CheckpointError, OutOfMemory, UnknownName

log = logging.getLogger(__name__)


class ModelManager:
    """Loads checkpoints by name and keeps the last `keep` of them, or as many as fit into `budget`.

    Args:
        folders: models folders, as for `files.scan`.
        device: where models run.
        dtype: number format of U-Net and text encoder.
        attend: the attention back end to build networks with.
        cache: JSON file that remembers hashes (`hashes.FileHash`).
        keep: how many models stay loaded where there is no budget, beside those in use; the least recently used goes first.
        budget: bytes that loaded models may take, those in use included.  What is in use stays, and so does the model that was
            loaded last; of the others the least recently used goes first.  None for no budget.
        kernels: what the networks compute between convolutions and matrix products.
        accelerate: what evaluates U-Nets.
        small_dtype: the number format of models smaller than `SMALL` instead of `dtype`; None for no difference.
        storage: whether denoisers' weights are kept in 8 bits: where memory is short, never or always; and with "full" whether
            quantised ones become the computing format when they are loaded.

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
        budget: int | None = None,
        kernels: Kernels = PLAIN,
        accelerate: Accelerate = eager,
        small_dtype: torch.dtype | None = None,
        storage: Storage = "auto",
    ) -> None:
        self.folders, self.device, self.dtype = list(folders), device, dtype
        self._storage, self._hashes, self._keep, self._budget = storage, cache, max(1, keep), budget
        self.cache = ComponentCache()
        self.builder = Builder(
            self.folders, device, dtype, small_dtype or dtype, attend, self.cache, cache, kernels, accelerate, storage
        )
        self.ahead = ReadAhead()
        self.tiny = TinyAutoencoders(self.folders, self.cache, cache, device, vae_dtype(device, dtype))
        self.upscalers = Upscalers(self.folders, self.cache, device, dtype)
        self.forget: Callable[[], None] = lambda: None
        """Called where memory ran short and models were let go of, from any thread: what is remembered of models that `holds`
        denies is gone when it returns."""
        self._loaded: OrderedDict[Identity, ModelHandle] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    def load(self, name: str, vae: str = AUTOMATIC, taesd: Collection[Half] = ()) -> ModelHandle:
        """The model that `name` means (`files.find`), with the autoencoder that `vae` means (`vaes.vae_for`) and the halves of
        TAESD that are asked for in the place of its own, loaded when they are not yet.

        Raises:
            UnknownName: no checkpoint, or no autoencoder, has this name.
            RequestError: there is no TAESD for it.
            CheckpointError: a file cannot be used.  What was loaded stays loaded.
            OutOfMemory: the device cannot hold it.
        """
        handle = self._load(name)
        self.tiny.prepare_previews(handle)
        file = vae_for(self.folders, handle.info.path, vae)
        handle = handle if file is None else self._with_vae(handle, file)
        if taesd:
            handle = self.tiny.view(handle, taesd)
            with self._lock:
                self._keep_loaded()
        return handle

    def prepare(self, names: Sequence[str]) -> None:
        """The first of these checkpoints that is not loaded is likely to be loaded next: read its file ahead, and where a
        budget has room for it beside what is loaded and main memory is where it runs, load it.  What was begun for another one
        ends.

        What goes wrong is not said here: `load` says it.
        """
        info = next((info for name in names if (info := self._absent(name)) is not None), None)
        try:
            if info is None:
                self.ahead.want(None)
            elif not self._load_beside(info):
                vae = vae_for(self.folders, info.path, AUTOMATIC)
                self.ahead.want(Needed(info.path, () if vae is None else (vae,)))
        except (AtelierError, OSError) as error:
            log.debug("%s is not read ahead: %s", names, error)

    def _absent(self, name: str) -> CheckpointInfo | None:
        """A checkpoint that could be loaded and is not."""
        try:
            info, handle = self._find(name)
        except AtelierError:
            return None
        return info if handle is None and not info.problem else None

    def _load_beside(self, info: CheckpointInfo) -> bool:
        """Load a checkpoint where that takes no place of another; whether it is there."""
        if self._budget is None or streaming_helps(self.device) or not self._fits_beside(info):
            return False
        with self._loading:
            if self._kept(info):
                return True
            try:
                identity = identity_of(info)
                handle = self.builder.build(info, identity)
            except (AtelierError, torch.OutOfMemoryError, MemoryError) as error:
                log.debug("%s was not loaded ahead: %s", info.name, error)
                with self._lock:
                    self._keep_loaded()
                return False
            with self._lock:
                self._loaded[identity] = handle
                self._loaded.move_to_end(identity, last=False)  # the first to go until it is used
        log.info("loaded %s ahead", info.name)
        self._fit()
        return True

    def _fits_beside(self, info: CheckpointInfo) -> bool:
        """Whether the budget, and main memory as it is now, have room for the weights of a checkpoint."""
        assert self._budget is not None, "the caller has one"
        size, free = self.builder.size_of(read_source(info.path)), host_memory.available()
        return self.cache.size + size <= self._budget and free is not None and size <= PART * free

    def upscaler(self, name: str) -> UpscalerHandle:
        """The upscaler of this name, see `Upscalers.load`.  Where the device is full, what is not in use makes room for it."""
        try:
            handle = self.upscalers.load(name)
        except OutOfMemory:
            if not self._without_unused(frozenset()):
                raise
            self._free_their_memory()
            handle = self.upscalers.load(name)
        with self._lock:
            self._keep_loaded()
        self._fit()
        return handle

    def _load(self, name: str) -> ModelHandle:
        info, handle = self._find(name)
        if handle:
            self._used(handle)
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
                self._keep_loaded()
            self._fit()
            return handle

    def _with_vae(self, handle: ModelHandle, path: Path) -> ModelHandle:
        with self._loading:
            other = self.builder.with_vae(handle, path)
        with self._lock:
            self._keep_loaded()
        self._fit()
        return other

    def lease(self, handle: ModelHandle | UpscalerHandle) -> Leases:
        """Use this model: its components stay loaded until the leases are released."""
        return self.cache.lease(handle.components, self._fit)

    @property
    def loaded(self) -> list[ModelHandle]:
        """The models that are kept, the least recently used first."""
        with self._lock:
            return list(self._loaded.values())

    def is_loaded(self, name: str) -> bool:
        """Whether `load` would answer at once."""
        return self._find(name)[1] is not None

    def holds(self, handle: ModelHandle | UpscalerHandle) -> bool:
        """Whether `handle` is still kept; tasks under way may use one that is not."""
        if isinstance(handle, UpscalerHandle):
            return self.upscalers.holds(handle)
        with self._lock:
            return any(handle.network is kept for kept in self._loaded.values())

    def make_room(self, handle: ModelHandle | UpscalerHandle) -> bool:
        """Let go of models that share nothing with `handle` and are not in use; whether there were any."""
        return self._without_unused({component.key for component in handle.components})

    def _without_unused(self, own: Collection[Hashable]) -> bool:
        """Let go of models that have none of these components and are not in use; whether there were any."""
        with self._lock:
            unused = [
                identity
                for identity, kept in self._loaded.items()
                if not any(component.leases or component.key in own for component in kept.components)
            ]
            for identity in unused:
                log.info("let go of %s, as memory ran short", self._loaded.pop(identity).info.name)
            went = self.upscalers.let_go(own)
            self._keep_loaded()
        return bool(unused or went)

    def let_go(self) -> None:
        """Keep no model any more; one that a task still uses goes with that task."""
        self._keep_none()

    def _fit(self) -> None:
        """Let go of models until the rest fits."""
        went = False
        with self._lock:
            while self._budget is not None and self.cache.size > self._budget and self._without_an_upscaler():
                pass
            while gone := self._superfluous():
                log.info("let go of %s", self._loaded.pop(gone).info.name)
                self._keep_loaded()
                went = True
        if went:
            gc.collect()  # a model and its views refer to each other
            host_memory.give_back()

    def _without_an_upscaler(self) -> bool:
        """Let go of one that is not used, the one used last excepted; whether there was one.  Under the lock."""
        last = self.upscalers.components()[-1:]
        went = self.upscalers.let_go([component.key for component in last], all_of_them=False)
        self._keep_loaded()
        return bool(went)

    def _superfluous(self) -> Identity | None:
        """The least recently used model, where one has to go.  Under the lock."""
        if (len(self._loaded) <= self._keep) if self._budget is None else (self.cache.size <= self._budget):
            return None
        others = list(self._loaded.items())[:-1]
        unused = (one for one, handle in others if not any(component.leases for component in handle.components))
        return next(unused, None)

    def _keep_none(self) -> None:
        with self._lock:
            self._loaded.clear()
            self.upscalers.let_go()
            self._keep_loaded()
        self._free_their_memory()

    def _free_their_memory(self) -> None:
        """Of models that were let go of: a model and its views refer to each other, and reference counts do not free them."""
        self.forget()
        gc.collect()
        host_memory.give_back()
        torch.cuda.empty_cache()

    def _keep_loaded(self) -> None:
        """Let go of components that no kept model needs.  Under the lock."""
        kept = [each for handle in self._loaded.values() for each in (handle, *handle.with_vaes.values())]
        previews = [each for handle in self._loaded.values() if (each := handle.preview.component) is not None]
        own = [component for each in kept for component in each.components]
        self.cache.keep_only(component.key for component in (*own, *previews, *self.upscalers.components()))

    def _find(self, name: str) -> tuple[CheckpointInfo, ModelHandle | None]:
        """The file that `name` means and its model where that is kept; a kept one whose file was deleted is still found."""
        try:
            info = find(self.folders, name, self._hashes)
        except UnknownName:
            with self._lock:
                for handle in self._loaded.values():
                    if handle.info.name == name:
                        return handle.info, handle
            raise
        return info, self._kept(info)

    def _kept(self, info: CheckpointInfo) -> ModelHandle | None:
        identity = identity_of(info)
        with self._lock:
            return self._loaded.get(identity)

    def _used(self, handle: ModelHandle) -> None:
        with self._lock:
            for identity in [identity for identity, kept in self._loaded.items() if kept is handle]:
                self._loaded.move_to_end(identity)

    def _read(self, info: CheckpointInfo) -> tuple[Identity, ModelHandle]:
        if info.problem:
            raise CheckpointError(info.problem)
        start = time.perf_counter()
        identity = identity_of(info)
        try:
            handle = self.builder.build(info, identity)
        except torch.OutOfMemoryError:
            handle = None
        if handle is None:  # outside the except block: a live exception would keep the tensors that were made so far
            handle = self._build_alone(info, identity)
        log.info("loaded %s in %.1f s", info.name, time.perf_counter() - start)
        if wrong := yaml_problem(info.path):
            log.warning("checkpoint %s: %s", info.name, wrong)
        return identity, handle

    def _build_alone(self, info: CheckpointInfo, identity: Identity) -> ModelHandle:
        """Further attempts after the device was full: let go of everything else first, then hold less on the device."""
        rounded = self.builder.keeps_blocks and quantised_denoiser(read_source(info.path))
        for residence in fallbacks("full" if rounded else self._storage, streaming_helps(self.device)):
            self._keep_none()
            try:
                return self.builder.build(info, identity, residence)
            except torch.OutOfMemoryError:
                continue  # behind the except block: a live exception would keep the tensors that were made so far
        raise OutOfMemory(
            f"{self.device} has not enough free memory for checkpoint {info.name!r}; close other programs, or choose a "
            "smaller checkpoint"
        )
