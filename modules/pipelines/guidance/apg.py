"""Adaptive projected guidance: guidance that turns the answer without burning it."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.pipelines.denoisers import Answers, Combine


def projected(eta: float, norm: float, momentum: float) -> Combine:
    """Guide with the part of the difference that is orthogonal to the prompt's own answer, and `eta` of the parallel part.

    Sadat et al. (2024, arXiv:2410.02416), algorithm 1.  `norm` limits the length of the difference (0: no limit), `momentum`,
    usually negative, weights the running sum of earlier differences.  It remembers them, so it is good for one run.
    """
    running: Tensor | None = None

    def denoised(answers: Answers) -> Tensor:
        nonlocal running
        positive = answers.guided(1.0)
        difference: Tensor = positive - answers.negative
        if momentum:
            running = difference if running is None else difference + running * momentum
            difference = running
        if norm > 0:
            difference = difference * (norm / difference.norm().clamp(min=norm))
        unit: Tensor = positive / positive.norm().clamp(min=1e-8)
        parallel: Tensor = torch.sum(difference * unit) * unit
        direction = difference - parallel * (1.0 - eta)
        return positive + direction * (answers.scale - 1.0)

    return denoised
