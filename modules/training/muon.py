"""Muon (Jordan et al. 2024): momentum whose matrix updates are made orthogonal; Adam for everything that is no matrix.

On a few cores samples are dear and updates cheap: orthogonal updates learn more from each sample. Convolutions count as
matrices (out x in·kh·kw). The updates are scaled to Adam's usual size (0.2 RMS; Liu et al. 2025, "Muon is scalable", eq. 4),
so that both kinds of parameters live with the same learning rates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Two parameter groups: `matrices` are orthogonalised, `others` (norms, biases, embeddings) get Adam.

    `gain` multiplies the learning rate of the matrices.
    """

    def __init__(
        self, matrices: Iterable[Tensor], others: Iterable[Tensor], lr: float, gain: float = 2.0, weight_decay: float = 0.01
    ) -> None:
        groups = [
            {"params": list(matrices), "orthogonal": True, "gain": gain, "weight_decay": weight_decay},
            {"params": list(others), "orthogonal": False, "gain": 1.0, "weight_decay": 0.0},
        ]
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            update = _orthogonal if group["orthogonal"] else _adam
            rate = group["lr"] * group["gain"]
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - rate * group["weight_decay"])
                    parameter.sub_(update(parameter.grad, self.state[parameter]), alpha=rate)


def _orthogonal(gradient: Tensor, state: dict[str, Any], momentum: float = 0.95) -> Tensor:
    """Nesterov momentum, then the nearest orthogonal matrix of it."""
    if not state:
        state["momentum"] = torch.zeros_like(gradient)
    state["momentum"].lerp_(gradient, 1 - momentum)
    matrix = gradient.lerp(state["momentum"], momentum).flatten(1)
    scale = 0.2 * max(matrix.shape) ** 0.5
    update: Tensor = orthogonalised(matrix) * scale
    return update.view_as(gradient)


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """UVᵀ of the singular value decomposition, roughly: singular values end between 0.7 and 1.2 (Newton-Schulz, order 5)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    wide = x if x.shape[0] <= x.shape[1] else x.T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    result: Tensor = (wide if x.shape[0] <= x.shape[1] else wide.T).to(matrix.dtype)
    return result


def _adam(gradient: Tensor, state: dict[str, Any], betas: tuple[float, float] = (0.9, 0.99), eps: float = 1e-8) -> Tensor:
    if not state:
        state |= {"step": 0, "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
    state["step"] += 1
    state["mean"].lerp_(gradient, 1 - betas[0])
    state["square"].lerp_(gradient.square(), 1 - betas[1])
    mean = state["mean"] / (1 - betas[0] ** state["step"])
    square = state["square"] / (1 - betas[1] ** state["step"])
    update: Tensor = mean / (square.sqrt() + eps)
    return update
