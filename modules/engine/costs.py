"""What device ops take, learned from those that were done: the ground under every estimate and every fair share.

Plain data without torch: the engine learns here, the web process reads the same numbers.  An entry is the seconds of one call
for a kind of op ("predict", "encode", "encode-image", "decode", "load"), a checkpoint, a size in pixels and a number of rows.
What was never measured is derived from its nearest relative of the same checkpoint, or unknown: no number is made up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

ALPHA = 0.2
"""Weight of the newest measurement; machines get slower and faster as others use them."""
MOST = 4_000
"""Entries that are kept; the oldest go first."""

MEMORY_OF = "memory of "
"""Stands before the kind of an op where an entry has, instead of seconds, the bytes that such a call takes beside weights."""

BY_TAESD = " by TAESD"
"""Stands behind the kind of an op of an autoencoder that TAESD does, in a small part of the time and memory."""


@dataclass(frozen=True)
class Call:
    """One call of the device: `rows` of an op of the kind `work` for pictures of width x height pixels."""

    work: str
    checkpoint: str
    width: int = 0
    height: int = 0
    rows: int = 1


@dataclass
class CostModel:
    """Measured seconds by call."""

    entries: dict[Call, float] = field(default_factory=dict)
    fresh: set[Call] = field(default_factory=set)
    """What was learned since `take_fresh`."""

    def learn(self, call: Call, seconds: float) -> None:
        """A call took so long; old measurements fade."""
        known = self.entries.pop(call, None)
        self.entries[call] = seconds if known is None else known + ALPHA * (seconds - known)
        self.fresh.add(call)
        while len(self.entries) > MOST:
            oldest = next(iter(self.entries))
            del self.entries[oldest]
            self.fresh.discard(oldest)

    def put(self, entries: Iterable[tuple[Call, float]]) -> None:
        """Take over what another model learned."""
        for call, seconds in entries:
            self.entries.pop(call, None)
            self.entries[call] = seconds
            self.fresh.add(call)

    def take_fresh(self) -> list[tuple[Call, float]]:
        fresh = [(call, self.entries[call]) for call in self.fresh if call in self.entries]
        self.fresh.clear()
        return fresh

    def seconds(self, call: Call) -> float | None:
        """How long a call takes; None while nothing like it was measured.

        Between two measured numbers of rows it lies on the line through them; beyond them, and for another size, it grows with
        rows and pixels.
        """
        same = {known.rows: s for known, s in self._of(call) if (known.width, known.height) == (call.width, call.height)}
        if same:
            return _at(same, call.rows)
        pixels = max(1, call.width * call.height)
        sizes: dict[int, dict[int, float]] = {}
        for known, seconds in self._of(call):
            sizes.setdefault(max(1, known.width * known.height), {})[known.rows] = seconds
        if not sizes:
            return None
        nearest = min(sizes, key=lambda other: max(other / pixels, pixels / other))
        return _at(sizes[nearest], call.rows) * pixels / nearest

    def row_seconds(self, call: Call) -> float | None:
        """The share of one row when `call.rows` wait, in the largest call of this size that was ever made."""
        measured = [known.rows for known, _ in self._of(call) if (known.width, known.height) == (call.width, call.height)]
        rows = min(call.rows, max(measured)) if measured else call.rows
        seconds = self.seconds(Call(call.work, call.checkpoint, call.width, call.height, rows))
        return None if seconds is None else seconds / rows

    def _of(self, call: Call) -> list[tuple[Call, float]]:
        return [(k, s) for k, s in self.entries.items() if (k.work, k.checkpoint) == (call.work, call.checkpoint)]


def _at(measured: dict[int, float], rows: int) -> float:
    """Seconds at `rows`: on the line between the neighbours, in proportion beyond the outermost."""
    if rows in measured:
        return measured[rows]
    below = max((r for r in measured if r < rows), default=None)
    above = min((r for r in measured if r > rows), default=None)
    if below is not None and above is not None:
        part = (rows - below) / (above - below)
        return measured[below] + part * (measured[above] - measured[below])
    nearest = below if below is not None else above
    assert nearest is not None
    return measured[nearest] * rows / nearest
