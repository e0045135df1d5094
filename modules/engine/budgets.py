"""How many rows one call of the device takes: a measured ceiling, less after memory ran out, and slowly more again.

Plain data without torch.  Memory that another program took may come back, so a halved budget grows by a quarter whenever it
was used in full a number of times without trouble.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

POSITIONS = {"cpu": 16_384, "cuda": 131_072}
"""Latent positions (rows x height x width) of one forward at most.  512x512 has 4096: 4 rows on a CPU, 32 on a GPU; a CPU gains
nothing from more rows once a row is large, and a GPU is full.  What is measured when a model is loaded may lower it."""

DECODE_POSITIONS = {"cpu": 4_096, "cuda": 16_384}
"""The same for the autoencoder, whose activations are 50 times larger."""

UPSCALE_PIXELS = {"cpu": 1, "cuda": 512 * 512}
"""Pixels of the tiles in one call of an upscaler; they are as large as is good for the device, so that few go together."""

RECOVERY = 16
"""Full calls that must go well before a shrunken budget grows."""


@dataclass
class Budgets:
    """Rows by batch key.  `ceiling` says what a key may have at best."""

    ceiling: Callable[[Hashable], int]
    _limits: dict[Hashable, int] = field(default_factory=dict)
    _good: dict[Hashable, int] = field(default_factory=dict)

    def rows(self, key: Hashable) -> int:
        best = self.ceiling(key)
        return min(best, self._limits.get(key, best))

    def out_of_memory(self, key: Hashable, rows: int) -> None:
        """A call of so many rows was too large."""
        self._limits[key] = max(1, min(rows, self.rows(key)) // 2)
        self._good[key] = 0

    def went_well(self, key: Hashable, rows: int) -> None:
        limit = self._limits.get(key)
        if limit is None or rows < limit:
            return
        self._good[key] = self._good.get(key, 0) + 1
        if self._good[key] >= RECOVERY:
            self._good[key] = 0
            self._limits[key] = limit + max(1, limit // 4)
            if self._limits[key] >= self.ceiling(key):
                del self._limits[key], self._good[key]

    def forget(self, keep: Callable[[Hashable], bool]) -> None:
        for key in [key for key in self._limits if not keep(key)]:
            del self._limits[key]
            self._good.pop(key, None)


def knee(measured: dict[int, float]) -> int:
    """The smallest number of rows that is within a tenth of the best seconds per row; at least 2, a guided picture.

    More rows than that would only make others wait longer for their turn.

    >>> knee({1: 1.0, 2: 1.1, 4: 2.1, 8: 4.2})
    2
    >>> knee({1: 1.0, 2: 1.2, 4: 1.6, 8: 2.4})
    8
    """
    best = min(seconds / rows for rows, seconds in measured.items())
    return max(2, min(rows for rows, seconds in measured.items() if seconds / rows <= 1.1 * best))
