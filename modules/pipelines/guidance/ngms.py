"""NGMS: where little noise is left the negative prompt changes little, and is left out."""

from __future__ import annotations

from collections.abc import Callable


def skip_at_low_noise(sigma_min: float, every: bool = False) -> Callable[[int, float], bool]:
    """Whether the noise is below `sigma_min`, in every second evaluation or in `every` one.

    A1111's "Negative Guidance minimum sigma" (from its pull request 9177), which skips those of odd number.
    """
    return lambda evaluation, sigma: sigma < sigma_min and (every or evaluation % 2 == 1)
