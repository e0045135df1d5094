"""Loaded upscalers: networks of upscaler files as components of the manager's cache, and the handles by which ops run them."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modules.checkpoints.cache import Component, ComponentCache
from modules.checkpoints.header import header_of, open_model
from modules.checkpoints.sources import file_stamp
from modules.checkpoints.upscalers import UpscalerInfo, find_upscaler, layout_of
from modules.checkpoints.weights import Filler, Weights
from modules.diffusion.slicing import SwitchableAttention
from modules.diffusion.transfers import sent
from modules.diffusion.upscaler_config import CompactConfig
from modules.diffusion.upscalers import upscaler
from modules.diffusion.upscaling import FloatCanvas, Tiles
from modules.errors import CheckpointError, OutOfMemory

log = logging.getLogger(__name__)

KEPT = 2
"""Upscalers that stay loaded where there is no budget of bytes: Extras has two."""

SIDES = {"cpu": (64, 256), "cuda": (128, 512)}
"""The smallest and the largest side of a tile."""
TILE_WORK = 4e11
"""Multiplications of one tile on a CPU, about: some seconds, after which others come in between, or a cancel is heard."""
MEMORY = {"cpu": 512 * 2**20, "cuda": 2 * 2**30}
"""Bytes that the feature maps of one tile may take, and on a GPU no more than this share of what is free."""
FREE_SHARE = 0.4


@dataclass(frozen=True, eq=False)
class UpscalerHandle:
    """A loaded upscaler, ready to run; hashable by identity.

    `scale` is how many times as large its results are, `reach` how far it looks around a pixel, `dtype` what it computes in.
    `inside` is the side of the tiles in which one op's picture is computed where memory is short, 0 for in one go.
    """

    info: UpscalerInfo
    network: nn.Module
    components: tuple[Component, ...]
    device: torch.device
    dtype: torch.dtype
    scale: int
    reach: int
    width: int
    """Of its widest feature map, in channels at the input's size; what memory a tile takes follows from it."""
    inside: int = 0
    attend: SwitchableAttention | None = None
    """Never any; models of other kinds have one."""

    @property
    def size(self) -> int:
        """Bytes of its network."""
        return sum(component.size for component in self.components)

    def tiles(self, free: int | None = None) -> Tiles:
        """The tiles in which a picture is enlarged here; `free` bytes are left of the device, None where that is not known."""
        smallest, largest = SIDES.get(self.device.type, SIDES["cpu"])
        memory = MEMORY.get(self.device.type, MEMORY["cpu"])
        memory = memory if free is None else min(memory, int(free * FREE_SHARE))
        numbers = self.width + 2 * self.features * self.scale**2
        side = math.isqrt(max(1, memory // (numbers * self.dtype.itemsize)))
        if self.device.type == "cpu":
            side = min(side, math.isqrt(int(TILE_WORK / max(1, self.numbers))))
        return Tiles.of(min(largest, max(smallest, side)), self.reach)

    @property
    def numbers(self) -> int:
        """Of its weights: so many multiplications an input pixel takes, about."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def features(self) -> int:
        """Channels of its feature maps at the result's size."""
        config = getattr(self.network, "config", None)
        return 3 if isinstance(config, CompactConfig) else int(getattr(config, "features", 64))

    def in_tiles(self, side: int) -> UpscalerHandle:
        """The same, computing each op's picture in tiles of `side`."""
        return replace(self, inside=side)

    def enlarge(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, h, w) in [0, 1] as (B, 3, scale h, scale w) in float32; sides are multiples of 4."""
        if self.inside and max(pictures.shape[2:]) > self.inside:
            return torch.cat([self._pieced(picture) for picture in torch.split(pictures, 1)])
        moved = sent(pictures, self.device).to(self.dtype)
        if self.device.type == "cuda":
            moved = moved.contiguous(memory_format=torch.channels_last)
        made: Tensor = self.network(moved)
        return made.float()

    def _pieced(self, picture: Tensor) -> Tensor:
        """One picture, piece by piece; what is put together lies in main memory."""
        height, width = picture.shape[2:]
        canvas = FloatCanvas((height, width), self.scale, Tiles.of(self.inside, self.reach))
        whole = replace(self, inside=0)
        for piece in canvas.pieces():
            made = whole.enlarge(picture[:, :, piece.rows, piece.columns].contiguous())
            canvas.put(piece, made[0].permute(1, 2, 0).cpu().numpy())
        return torch.from_numpy(canvas.pixels).permute(2, 0, 1)[None]


class Upscalers:
    """The networks of upscaler files in `folders`, on `device`.  All methods may be called from any thread.

    `dtype` is that of checkpoints: half precision on a GPU unless float32 is asked for, and float32 on a CPU, where bfloat16's
    eight bits would show.
    """

    def __init__(self, folders: Sequence[Path], cache: ComponentCache, device: torch.device, dtype: torch.dtype) -> None:
        self._folders, self._cache, self._device = folders, cache, device
        self._dtype = torch.float16 if device.type == "cuda" and dtype != torch.float32 else torch.float32
        self._kept: OrderedDict[Hashable, UpscalerHandle] = OrderedDict()
        self._loading, self._lock = threading.Lock(), threading.Lock()

    def load(self, name: str) -> UpscalerHandle:
        """The upscaler of this name, loaded when it is not yet; the same object while its file does not change.

        Raises:
            UnknownName: no file has this name.
            CheckpointError: the file cannot be used; the message names it.
            OutOfMemory: the device cannot hold it.
        """
        info = find_upscaler(self._folders, name)
        with self._loading, open_model(info.path) as file:
            key = (str(info.path), *file_stamp(os.fstat(file.fileno())), "upscaler")
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            try:
                handle = self._made(info, key, file)
            except torch.OutOfMemoryError:
                handle = None
            if handle is None:
                raise OutOfMemory(
                    f"{self._device} has not enough free memory for the upscaler {info.name!r}; choose a smaller one"
                )
            log.info("loaded upscaler %s", info.name)
            with self._lock:
                self._kept[key] = handle
                for old in list(self._kept)[:-KEPT]:
                    del self._kept[old]
            return handle

    def _made(self, info: UpscalerInfo, key: Hashable, file: Any) -> UpscalerHandle:
        header = header_of(file, info.path)
        try:
            layout = layout_of(header)
        except CheckpointError:
            if info.kind == "spandrel":
                return self._by_spandrel(info, key, Weights(file, header), list(header.tensors))
            raise CheckpointError(f"{info.path.name} was changed while it was read; try again") from None

        def make() -> nn.Module:
            with torch.device("meta"):
                network = upscaler(layout.config)
            fill = Filler(Weights(file, header), self._device, info.path.name)
            fill(network, layout.places, self._dtype, "upscaler")
            return network

        component = self._cache.get(key, make)
        config = layout.config
        width = 2 * config.features if isinstance(config, CompactConfig) else config.features * 2 + 5 * config.growth
        return UpscalerHandle(
            info, component.network, (component,), self._device, self._dtype, config.scale, config.reach, width
        )

    def _by_spandrel(self, info: UpscalerInfo, key: Hashable, weights: Weights, names: Sequence[str]) -> UpscalerHandle:
        """A file of another kind, by spandrel, where that is installed; in float32, as not every kind computes in half."""
        import spandrel

        state = {name: weights.unscaled(name).clone() for name in names}
        try:
            found = spandrel.ModelLoader(device=self._device).load_from_state_dict(state)
        except Exception as error:
            raise CheckpointError(f"{info.path.name} is not read by spandrel either: {str(error)[:200]}") from None
        if found.input_channels != 3 or found.output_channels != 3 or found.scale < 1:
            raise CheckpointError(f"{info.path.name} is a network of spandrel's that does not enlarge RGB pictures")
        network = found.model.to(torch.float32).requires_grad_(False).eval()
        component = self._cache.get(key, lambda: _Multiples(network, found.scale, found.size_requirements))
        width = 8 * 64
        return UpscalerHandle(
            replace(info, scale=found.scale),
            component.network,
            (component,),
            self._device,
            torch.float32,
            found.scale,
            10_000,
            width,
        )

    @property
    def loaded(self) -> list[UpscalerHandle]:
        """Those that are kept, the one used longest ago first."""
        with self._lock:
            return list(self._kept.values())

    def components(self) -> list[Component]:
        """What of the cache is to stay for them."""
        with self._lock:
            return [component for handle in self._kept.values() for component in handle.components]

    def holds(self, handle: object) -> bool:
        """Whether this is one that is kept, or the same in tiles."""
        with self._lock:
            return any(getattr(handle, "network", None) is kept.network for kept in self._kept.values())

    def let_go(self, own: Collection[Hashable] = (), all_of_them: bool = True) -> list[str]:
        """Keep none that is not used now, except those with a component among `own`; the names of those that went.

        Without `all_of_them` only the one that was used longest ago goes.
        """
        went = []
        with self._lock:
            for key, handle in list(self._kept.items()):
                if any(component.leases or component.key in own for component in handle.components):
                    continue
                del self._kept[key]
                went.append(handle.info.name)
                if not all_of_them:
                    break
        return went


class _Multiples(nn.Module):
    """A network of spandrel's, on pictures of any size: they are padded to what it takes, and cut afterwards."""

    def __init__(self, network: nn.Module, scale: int, requirements: Any) -> None:
        super().__init__()
        self.network, self._scale = network, scale
        self._multiple = max(1, int(getattr(requirements, "multiple_of", 1)))
        self._least = int(getattr(requirements, "minimum", 0))
        self._square = bool(getattr(requirements, "square", False))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        wanted = [max(self._least, math.ceil(side / self._multiple) * self._multiple) for side in (height, width)]
        if self._square:
            wanted = [max(wanted)] * 2
        grown = nn.functional.pad(x, (0, wanted[1] - width, 0, wanted[0] - height), mode="replicate")
        return self.network(grown)[:, :, : height * self._scale, : width * self._scale]  # type: ignore[no-any-return]
