"""How far into a schedule a run begins that does not start from pure noise: the step counts of img2img and hires.

A1111's rules (`sd_samplers_common.setup_img2img_steps` and the samplers' `sample_img2img`), as pure functions.
"""

from __future__ import annotations

_FULL = 0.999
"""The highest strength that counts; at 1 the first level would be pure noise, and A1111 keeps a trace of the picture."""


def img2img_steps(steps: int, strength: float, exactly: bool = False) -> tuple[int, int]:
    """(total, t_enc): how many steps the schedule is made for, and which step from its end the run begins with.

    Args:
        steps: as asked for.
        strength: the denoising strength, 0 to 1.
        exactly: make so long a schedule that its last part has `steps` steps: A1111's "do exactly the amount of steps the
            slider specifies", and always so in the hires pass.

    >>> img2img_steps(20, 0.75), img2img_steps(20, 0.75, exactly=True)
    ((20, 15), (26, 19))
    """
    if exactly:
        return (int(steps / min(strength, _FULL)) if strength > 0 else 0), steps - 1
    return steps, int(min(strength, _FULL) * steps)


def img2img_sigmas(sigmas: list[float], total: int, t_enc: int) -> list[float]:
    """The tail of a schedule of `total` steps: t_enc + 1 steps, 16 for 20 at a strength of 0.75.

    The picture is noised to the first of them.
    """
    return sigmas[max(0, total - t_enc - 1) :]


def img2img_timesteps(levels: list[float], t_enc: int) -> tuple[float, list[float]]:
    """The level that the picture is noised to, and those of the run, for samplers on timesteps, whose `levels` end above 0.

    A1111 noises to the t_enc-th level from the lowest, counted from 0, and lets the sampler begin one level below.
    """
    return levels[-1 - t_enc], levels[len(levels) - t_enc :]
