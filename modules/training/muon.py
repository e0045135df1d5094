"""Muon (Jordan et al. 2024): momentum whose matrix updates are made orthogonal; Adam for everything that is no matrix.

Orthogonal updates learn more from each sample. Convolutions count as matrices (out x in·kh·kw); those of one shape are
orthogonalised in one batched product, and Adam's arithmetic runs over lists of tensors, because a GPU waits for launches
otherwise. Updates have Adam's usual size (0.2 RMS; Liu et al. 2025, "Muon is scalable", eq. 4), so that both kinds of
parameters live with the same learning rates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


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
            parameters = [p for p in group["params"] if p.grad is not None]
            rate = group["lr"] * group["gain"]
            if not parameters:
                continue
            if not group["orthogonal"]:
                self._adam(parameters, rate)
                continue
            torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in parameters:
                by_shape[parameter.shape].append(parameter)
            for alike in by_shape.values():
                self._orthogonal(alike, rate)

    def _orthogonal(self, parameters: list[Tensor], rate: float, momentum: float = 0.95) -> None:
        """Nesterov momentum, then the nearest orthogonal matrices of it, for parameters of one shape."""
        gradients = [_gradient(p) for p in parameters]
        momenta = [self._state(p, "momentum") for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, momenta, momentum)
        matrices = torch.stack([gradient.flatten(1) for gradient in ahead])
        updates = orthogonalised(matrices) * (-rate * 0.2 * max(matrices.shape[1:]) ** 0.5)
        torch._foreach_add_(parameters, [u.view_as(p) for u, p in zip(updates, parameters, strict=True)])

    def _adam(self, parameters: list[Tensor], rate: float, betas: tuple[float, float] = (0.9, 0.99), eps: float = 1e-8) -> None:
        gradients = [_gradient(p) for p in parameters]
        means, squares = ([self._state(p, name) for p in parameters] for name in ("mean", "square"))
        for parameter in parameters:
            self.state[parameter]["step"] = self.state[parameter].get("step", 0) + 1
        step = self.state[parameters[0]]["step"]
        torch._foreach_lerp_(means, gradients, 1 - betas[0])
        torch._foreach_mul_(squares, betas[1])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - betas[1])
        below = torch._foreach_sqrt(squares)
        torch._foreach_div_(below, (1 - betas[1] ** step) ** 0.5)
        torch._foreach_add_(below, eps)
        torch._foreach_addcdiv_(parameters, means, below, -rate / (1 - betas[0] ** step))

    def _state(self, parameter: Tensor, name: str) -> Tensor:
        state: dict[str, Any] = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        value: Tensor = state[name]
        return value


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def orthogonalised(matrices: Tensor, steps: int = 5) -> Tensor:
    """UVᵀ of each singular value decomposition, roughly: singular values end between 0.7 and 1.2 (Newton-Schulz, order 5).

    (N, R, C) to (N, R, C).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.mT if tall else x).to(matrices.dtype)
    return result


def optimiser(network: nn.Module, ends: set[Tensor], rate: float, gain: float) -> Muon:
    """Muon on the matrices of a network, Adam on its `ends` (first and last layers, embeddings), norms and biases."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim > 1 and p not in ends]
    return Muon(matrices, [p for p in parameters if p.ndim <= 1 or p in ends], rate, gain)
