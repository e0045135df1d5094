"""Dynamic thresholding: a high guidance scale with the range of values of a lower one."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.pipelines.denoisers import Answers, Combine


def thresholded(mimic_scale: float, percentile: float) -> Combine:
    """Squeeze each channel's values to the range that they would have at `mimic_scale`.

    Imagen's dynamic thresholding (Saharia et al. 2022, arXiv:2205.11487, section 2.3) carried over to latents as in mcmonkey's
    extension: values count from the channel's mean; the range of the guided answer is its `percentile` (0 to 1), that of the
    mimicked one its maximum; what lies beyond the first is clamped, the rest is scaled by their ratio.
    """

    def denoised(answers: Answers) -> Tensor:
        guided, mimic = answers.guided(answers.scale).flatten(1), answers.guided(mimic_scale).flatten(1)
        mean = guided.mean(dim=1, keepdim=True)
        centred = guided - mean
        reach = (mimic - mimic.mean(dim=1, keepdim=True)).abs().amax(dim=1, keepdim=True)
        own = torch.quantile(centred.abs(), percentile, dim=1, keepdim=True).maximum(reach).clamp(min=1e-8)
        squeezed = centred.clamp(-own, own) * (reach / own) + mean
        return squeezed.reshape(answers.x.shape)

    return denoised
