"""An open checkpoint file, and how its networks are to be built: what a family makes its networks of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from modules.checkpoints.cache import Component, ComponentCache
from modules.checkpoints.completeness import listed
from modules.checkpoints.header import Header
from modules.checkpoints.inversions import Inversions
from modules.checkpoints.weights import Filler
from modules.diffusion.accelerators import Accelerate, eager
from modules.diffusion.kernels import PLAIN, Kernels
from modules.diffusion.placement import Placement
from modules.diffusion.slicing import SwitchableAttention

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ModelFile:
    """`fill` gives networks that were built on the meta device their weights from the file.

    Denoiser and text encoders compute in `dtype`, autoencoders in `vae_dtype`, on `device`, with the attention back end
    `attend`.  `inversions` are the textual inversions that are here.
    """

    path: Path
    header: Header
    fill: Filler
    device: torch.device
    dtype: torch.dtype
    vae_dtype: torch.dtype
    attend: SwitchableAttention
    inversions: Inversions | None
    cache: ComponentCache
    content: tuple[Hashable, ...]
    """What the file's content is known by."""
    kernels: Kernels = PLAIN
    accelerate: Accelerate = eager
    """What evaluates a U-Net of it."""
    components: list[Component] = field(default_factory=list)
    """Those that were asked for so far, those of files beside it too."""
    folders: Sequence[Path] = ()
    """The models folders, where files that go with it may lie."""
    open_beside: Callable[[Path, Callable[[Header], Header]], ModelFile] | None = None
    """Opens another file whose networks become components of this model, its header changed by the function; as long as this
    one is open.  None where it has to be whole."""

    def component(self, part: str, make: Callable[[], nn.Module], streamable: bool = False) -> nn.Module:
        """The network that is known as this part of the file, made when it is not loaded.

        It stays loaded for as long as the model is kept or used.  `streamable`: its blocks are called as whole modules, so that
        their weights may be brought to the device one after the other (`diffusion.placement`).
        """
        component = self.cache.get((*self.content, part), make)
        if streamable and component.placement is None:
            component.placement = Placement(component.network, self.device)
        self.components.append(component)
        return component.network

    def placement(self, part: str) -> Placement | None:
        """Where the weights of a component lie that was asked for before."""
        return next(component.placement for component in self.components if component.key == (*self.content, part))

    def ignore(self, names: list[str]) -> None:
        """Log tensors that belong to none of the networks."""
        if names:
            log.warning("%s: ignored %s", self.path.name, listed(names))
