"""Perturbed-attention guidance: away from what the network says when its middle sees no structure."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modules.pipelines.denoisers import Answers
from modules.pipelines.ops import Program


@dataclass(frozen=True)
class PerturbedAttention:
    """Ahn et al. (2024, arXiv:2403.17377), equation 16: scale * (prompt's answer - the same with perturbed attention).

    Perturbed is the self-attention of the middle block: its map becomes the identity, so that every position sees itself alone
    (their section 4.2 and SD 1.5 experiments; ComfyUI's and Forge's place too).  One row more per side of AND in the same
    forward.  It needs no negative prompt, so it also works at a guidance scale of 1.
    """

    scale: float
    perturbs = True
    watches = False

    def __call__(self, answers: Answers) -> Program[Tensor]:
        yield from ()
        total = torch.zeros_like(answers.x)
        for (side, weight), perturbed in zip(answers.sides, answers.perturbed, strict=True):
            total = total + (side - perturbed) * weight
        return total * self.scale
