"""From one attention back end to the next, for the shapes that it refuses."""

from __future__ import annotations

import logging
from collections.abc import Hashable

from torch import Tensor

from modules.diffusion.attention.backends import BACKENDS, Attend, failed_device, first_line

log = logging.getLogger(__name__)


class FallingBack:
    """A back end that hands shapes which it refuses to the next one.

    xformers, for one, takes no head width that is not a multiple of 8, not every number format on every card, and nothing on
    cards that its wheel was not built for; only a call tells which of these holds.  What was refused once (heads, head width,
    number format, device) goes to the next back end at once from then on, and the reason is logged once.

    No refusal is what says that the device failed (`failed_device`), which is raised at once, nor an error after which no back
    end runs: then the last one's is raised.  Nothing is remembered of either.
    """

    def __init__(self, *backends: tuple[str, Attend]) -> None:
        self._backends = backends
        self._first: dict[Hashable, int] = {}

    @property
    def names(self) -> list[str]:
        """The back ends', the one that is tried first before the others."""
        return [name for name, _ in self._backends]

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        key = (*q.shape[2:], q.dtype, q.device)
        start = self._first.get(key, 0)
        refusals: list[Exception] = []
        try:
            for number, (_, attend) in enumerate(self._backends[start:], start):
                try:
                    out = attend(q, k, v)
                except Exception as error:  # xformers raises its own, torch's and Triton's types
                    if failed_device(error):
                        raise
                    refusals.append(error)
                    continue
                if refusals:
                    self._remember(key, number, q, refusals)
                return out
            raise refusals[-1]  # that of the textbook formula, which refuses nothing that can be computed
        finally:
            refusals.clear()  # their frames hold the tensors, and this frame them

    def _remember(self, key: Hashable, number: int, q: Tensor, refusals: list[Exception]) -> None:
        first = number - len(refusals)
        self._first[key] = number
        for (name, _), error in zip(self._backends[first:number], refusals, strict=True):
            log.warning(
                "attention: %s does not run for %d heads of width %d in %s (%s); they use %s",
                *(name, q.shape[2], q.shape[3], str(q.dtype).removeprefix("torch."), first_line(error)),
                self._backends[number][0],
            )


def with_fallback(name: str) -> Attend:
    """The back end `name`, with those that stand after it in `BACKENDS` for the shapes that it refuses."""
    names = list(BACKENDS)
    return FallingBack(*[(other, BACKENDS[other]) for other in names[names.index(name) :]])
