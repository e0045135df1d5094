"""CFG-Zero*: guidance whose negative side has the length that fits, and no guidance from a first guess that is worse than none.

Made for flow-matching networks.  Nothing of it is on by default here, because SD 1.x predicts noise.
"""

from __future__ import annotations

from torch import Tensor

from modules.diffusion.networks import NoiseProcess
from modules.diffusion.samplers import Denoised
from modules.pipelines.denoisers import Answers, Denoiser
from modules.pipelines.ops import Program


def zero_star(answers: Answers) -> Tensor:
    """Guidance along s * negative with the s that brings it nearest to the prompt's own answer.

    Fan et al. (2025, arXiv:2503.18886), equation 9: s = <v, u> / |u|^2 over the whole image, of the velocities (x - denoised) /
    sigma under the prompt and the negative prompt.  For networks that predict noise that is the noise, where s is near 1 while
    there is much of it: the change is small and late.
    """
    negative, positive = answers.x - answers.negative, answers.x - answers.guided(1.0)
    negative = negative * ((positive * negative).sum() / (negative * negative).sum().clamp(min=1e-8))
    return answers.x - (negative + (positive - negative) * answers.scale)


def still(noise: NoiseProcess) -> Denoiser:
    """Their zero-init, a denoiser that does not ask the network: x in the network's own form stays where it is.

    Zero velocity in that form (`NoiseProcess.at_rest`).  A predicted noise of zero instead would leave all noise in while the
    level falls, and spoil the picture.
    """

    def denoise(x: Tensor, sigma: float) -> Program[Denoised]:
        yield from ()
        stays = noise.at_rest(x, sigma)
        return Denoised(stays, stays)

    return denoise
