"""What is trained: side paths (`diffusion.adapters.LowRank`) of the layers of a loaded model, whose weights stay as they are.

The layers are those that kohya's trainer takes: with `rank` the matrices of the transformers (attention, feed-forward,
projections), with `conv_rank` also the residual blocks and what changes the resolution ("LoCon"), and on request the text
encoder's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.adapters import Adapter, LowRank
from modules.errors import RequestError

UNET, TEXT = "unet", "text"
_ENDS = ("input_blocks.0.0", "out.2")
_TIME = ("time_embed.", "label_emb.")


@dataclass(frozen=True)
class Shape:
    """The ranks of an adapter and its alphas: what is added is alpha / rank * up(down(x)).  `conv_rank` 0 for none there."""

    rank: int = 8
    alpha: float = 8.0
    conv_rank: int = 0
    conv_alpha: float = 0.0
    text: bool = False


@dataclass(frozen=True, eq=False)
class Path:
    """The trained side path of one layer; `down` and `up` are the parameters, fp32."""

    part: str
    place: str
    alpha: float
    delta: LowRank


@dataclass(frozen=True, eq=False)
class TrainedAdapter:
    """All side paths, as adapters by part, whose tensors are what an optimiser changes."""

    shape: Shape
    paths: tuple[Path, ...]
    parts: Mapping[str, Adapter] = field(init=False)

    def __post_init__(self) -> None:
        parts: dict[str, dict[str, LowRank]] = {}
        for path in self.paths:
            parts.setdefault(path.part, {})[path.place] = path.delta
        object.__setattr__(self, "parts", {part: Adapter("in training", deltas) for part, deltas in parts.items()})

    def parameters(self, part: str) -> list[Tensor]:
        return [tensor for path in self.paths if path.part == part for tensor in (path.delta.down, path.delta.up)]

    def state(self) -> dict[str, Tensor]:
        """The parameters by part, place and side; the tensors themselves."""
        return dict(self._named())

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the values of an earlier `state` of the same shape."""
        for name, tensor in self._named():
            tensor.copy_(state[name])

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for path in self.paths:
            yield f"{path.part} {path.place} down", path.delta.down
            yield f"{path.part} {path.place} up", path.delta.up


def new_adapter(model: ModelHandle, shape: Shape, seed: int) -> TrainedAdapter:
    """Side paths that change nothing yet: `up` is zero, `down` is drawn as torch draws a linear layer's weights.

    Raises:
        RequestError: the model has none of the layers.
    """
    generator = torch.Generator().manual_seed(seed)
    paths = []
    for part in (UNET, TEXT) if shape.text else (UNET,):
        for place, layer in model.adaptable[part].layers.items():
            rank, alpha = _rank(part, place, shape)
            if rank:
                paths.append(Path(part, place, alpha, _side_path(layer, rank, alpha, generator, model.device)))
    if not paths:
        raise RequestError(
            f"--model: {model.info.path.name} has no layer that the chosen ranks would change; choose a rank above 0"
        )
    return TrainedAdapter(shape, tuple(paths))


def _rank(part: str, place: str, shape: Shape) -> tuple[int, float]:
    """(rank, alpha) at a layer; rank 0 for none."""
    if part == TEXT or "transformer_blocks" in place or place.endswith(("proj_in", "proj_out")):
        return shape.rank, shape.alpha
    if place in _ENDS or place.startswith(_TIME):
        return 0, 0.0
    return shape.conv_rank, shape.conv_alpha


def _side_path(
    layer: nn.Linear | nn.Conv2d, rank: int, alpha: float, generator: torch.Generator, device: torch.device
) -> LowRank:
    out, *into = layer.weight.shape
    bound = 1 / math.sqrt(math.prod(into))  # kaiming_uniform_ with a = sqrt(5)
    down = (torch.rand(rank, *into, generator=generator) * 2 - 1) * bound
    up = torch.zeros(out, rank, *[1] * (len(into) - 1))
    return LowRank(down.to(device).requires_grad_(), up.to(device).requires_grad_(), alpha / rank)
