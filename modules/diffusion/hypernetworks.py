"""Hypernetworks: small networks that change what an attention's keys and values are computed from, context + strength * MLP.

After A1111's `hypernetworks/hypernetwork.py` (NovelAI's form): for each width of a context there is an MLP for K and one for V.
As side paths of rows they share forwards as other adapters do.  Neither files nor names of files are known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": F.relu,
    "leakyrelu": F.leaky_relu,
    "elu": F.elu,
    "swish": F.hardswish,  # as A1111 has it
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "celu": F.celu,
    "gelu": F.gelu,
    "hardshrink": F.hardshrink,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "logsigmoid": F.logsigmoid,
    "mish": F.mish,
    "relu6": F.relu6,
    "rrelu": F.rrelu,  # not in training: its mean slope
    "selu": F.selu,
    "silu": F.silu,
    "softplus": F.softplus,
    "softshrink": F.softshrink,
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
}
"""By A1111's names: those of its own list, and torch's without parameters in lower case."""


@dataclass(frozen=True, eq=False)
class Step:
    """A linear layer, `weight` (out, in) and `bias` (out,), then an activation, then a norm where it has one."""

    weight: Tensor
    bias: Tensor
    activation: str = "linear"
    norm: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        out = ACTIVATIONS[self.activation](F.linear(x, self.weight, self.bias))
        return out if self.norm is None else F.layer_norm(out, out.shape[-1:], *self.norm)

    def to(self, *where: Any) -> Step:
        norm = None if self.norm is None else (self.norm[0].to(*where), self.norm[1].to(*where))
        return Step(self.weight.to(*where), self.bias.to(*where), self.activation, norm)


@dataclass(frozen=True, eq=False)
class MLP:
    """What is added to a context (B, T, width) at strength 1: its `steps` one behind the other."""

    steps: tuple[Step, ...]

    def __call__(self, context: Tensor) -> Tensor:
        for step in self.steps:
            context = step(context)
        return context

    def to(self, *where: Any) -> MLP:
        return MLP(tuple(step.to(*where) for step in self.steps))
