"""A LoRA's file, read layer by layer: what it changes, in every kind that `checkpoints.loras` reads, and in norms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from modules.checkpoints.header import TensorEntry
from modules.checkpoints.lora_names import split
from modules.checkpoints.loras import delta_of
from modules.diffusion.adapters import Delta, LowRank
from modules.diffusion.deltas import Full
from modules.errors import CheckpointError
from modules.model_tools.layers import Key
from modules.model_tools.tensors import Source

COUNTS = ("BOOL", "U8", "I8", "I16", "I32", "I64")
_FREE = frozenset({"down", "up", "mid", "alpha", "scalar", "diff", "diff_b", "w_norm", "b_norm"})
"""What is a change for itself: it needs no weight of the layer to be known."""


@dataclass(frozen=True)
class Changes:
    """What one file says of one layer: the names of its tensors by what they are of the change."""

    source: LoraFile
    names: Mapping[str, str]

    @property
    def is_free(self) -> bool:
        """Whether the change is known without the layer's weight."""
        return self.names.keys() <= _FREE

    @property
    def is_low_rank(self) -> bool:
        """Whether its weight changes by up times down alone."""
        return self.is_free and {"down", "up"} <= self.names.keys() and not {"mid", "diff", "w_norm"} & self.names.keys()

    @property
    def has_bias(self) -> bool:
        return bool({"diff_b", "b_norm"} & self.names.keys())

    @property
    def has_weight(self) -> bool:
        return bool(self.names.keys() - {"diff_b", "b_norm", "alpha", "scalar"})

    @property
    def weight_shape(self) -> tuple[int, ...] | None:
        """Of the layer's weight, by the shapes in the header; None where they do not tell."""
        shapes = {what: self.source.file.shapes[name] for what, name in self.names.items()}
        if (whole := shapes.get("diff", shapes.get("w_norm"))) is not None:
            return whole
        if {"down", "up"} <= shapes.keys() and len(shapes["down"]) in (2, 4) and len(shapes["up"]) in (2, 4):
            kernel = shapes["mid"][2:] if len(shapes.get("mid", ())) == 4 else shapes["down"][2:]
            return (shapes["up"][0], shapes["down"][1], *kernel)
        return None

    @property
    def rank(self) -> int:
        return self.source.file.shapes[self.names["down"]][0] if "down" in self.names else 0

    def delta(self, weight: Tensor) -> Delta:
        """What is added to the layer's `weight` (fp32), and with `Full` to its bias.

        Raises:
            CheckpointError: it is no change that is known, is not finite, or is one of another layer.
        """
        tensors = {what: self.source.tensor(name) for what, name in self.names.items()}
        first = next(iter(self.names.values()))
        if "w_norm" in tensors or "b_norm" in tensors:
            return Full(tensors.get("w_norm"), tensors.get("b_norm"))
        try:
            delta = delta_of(tensors, weight)
        except (RuntimeError, ValueError, IndexError) as error:
            raise CheckpointError(f"{self.source.name}: {first!r}: {_line(error)}") from None
        if delta is None:
            raise CheckpointError(f"{self.source.name}: {first!r} is no change that is known")
        return delta

    def weight_change(self, weight: Tensor) -> Tensor:
        """What is added to `weight` at strength 1, of its shape, fp32.

        Raises:
            CheckpointError: as `delta`.
        """
        first = next(iter(self.names.values()))
        try:
            change = self.delta(weight).weight(weight)
        except (RuntimeError, ValueError, IndexError) as error:
            raise CheckpointError(f"{self.source.name}: {first!r}: {_line(error)}") from None
        if change.shape != weight.shape:
            raise CheckpointError(
                f"{self.source.name}: {first!r} is for a layer of shape {tuple(change.shape)}, not {tuple(weight.shape)}"
            )
        return change

    def bias_change(self) -> Tensor:
        """What is added to the bias at strength 1, (out,)."""
        return self.source.tensor(self.names["diff_b" if "diff_b" in self.names else "b_norm"])

    def factors(self) -> LowRank:
        """Where `is_low_rank`: down, up and their scale."""
        delta = self.delta(torch.empty(0))
        assert isinstance(delta, LowRank)
        return delta


@dataclass(frozen=True)
class LoraFile:
    """An open file of adapters."""

    file: Source
    layers: Mapping[Key, Changes] = field(init=False)
    """By (part, stem), see `lora_names.split`."""
    others: tuple[str, ...] = field(init=False)
    """Tensors that belong to no layer: bundled embeddings, what no adapter has."""

    def __post_init__(self) -> None:
        layers: dict[Key, dict[str, str]] = {}
        others: list[str] = []
        for name in self.file.header.tensors:
            part, stem, what = split(name)
            if stem and not name.startswith("bundle_emb."):
                layers.setdefault((part, stem), {})[what] = name
            else:
                others.append(name)
        if not layers:
            raise CheckpointError(f"{self.name} is no LoRA: none of its tensors names a layer")
        object.__setattr__(self, "layers", {key: Changes(self, names) for key, names in layers.items()})
        object.__setattr__(self, "others", tuple(others))

    @property
    def name(self) -> str:
        return self.file.path.name

    @property
    def path(self) -> Path:
        return self.file.path

    def tensor(self, name: str) -> Tensor:
        """In fp32; flags and counts as one number."""
        entry: TensorEntry = self.file.header.tensors[name]
        if entry.dtype in COUNTS:
            return torch.tensor(float(int.from_bytes(self.file.stored(name)[:8], "little", signed=entry.dtype[0] == "I")))
        return self.file.read(name)


def _line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
