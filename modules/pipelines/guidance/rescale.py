"""CFG rescale: guidance keeps the contrast of the prompt's own answer."""

from __future__ import annotations

from torch import Tensor

from modules.pipelines.denoisers import Answers, Combine


def rescaled(combine: Combine, phi: float) -> Combine:
    """Bring the guided answer to the standard deviation of the unguided one, by a part `phi` in [0, 1].

    Lin et al. (2023, arXiv:2305.08891), equations 15 and 16: over all channels and places of an image.  They rescale the v
    prediction; this rescales the denoised x, as SD.Next and diffusers' newer guiders do.
    """

    def denoised(answers: Answers) -> Tensor:
        guided = combine(answers)
        ratio = answers.guided(1.0).std() / guided.std().clamp(min=1e-8)
        return guided * (phi * ratio + (1.0 - phi))

    return denoised
