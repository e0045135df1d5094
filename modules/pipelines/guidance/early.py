"""Skip early CFG: the first part of a run goes without the negative prompt, at half the cost."""

from __future__ import annotations

from collections.abc import Callable


def skip_early(part: float, evaluations: int) -> Callable[[int, float], bool]:
    """Whether evaluation k of `evaluations`, counted from 0, is within the first `part` of them.

    A1111's "Ignore negative prompt during early sampling", with its rule k / evaluations <= part.
    """
    return lambda evaluation, sigma: evaluation / evaluations <= part
