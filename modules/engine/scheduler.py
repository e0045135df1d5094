"""What runs next: pure choices over plain data, without torch, without time of its own.

Two questions are answered here.  `choose`: which of the waiting works share the next call of the device?  `admit`: which
stories may begin to use a checkpoint, so that models are not swapped back and forth?
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

PATIENCE = 10.0
"""Seconds after which a checkpoint that is waited for ends the stay of the one in use."""


@dataclass(frozen=True)
class Waiting:
    """A task that waits for the device.  Works with the same `key` can share a call; `since` orders them, oldest first.

    `rows` is the size of the work; `tokens` are the lengths of its contexts (only for network evaluations).
    """

    task: str
    user: str
    key: Hashable
    since: int
    rows: int = 1
    tokens: tuple[int, ...] = ()


def _always(_: Sequence[int]) -> bool:
    return True


def choose(
    waiting: Sequence[Waiting],
    budget: Callable[[Hashable], int],
    can_join: Callable[[Sequence[int]], bool] = _always,
) -> list[Waiting]:
    """The works of the next call.

    The key that has waited longest wins.  Its rows are filled one work per user in turn, each user's oldest first, so that
    nobody's batch keeps others out; up to `budget(key)` rows, but at least one work.  Works whose contexts cannot be joined
    with those already chosen wait for the next call.
    """
    if not waiting:
        return []
    oldest = min(waiting, key=lambda w: w.since)
    chosen: list[Waiting] = []
    rows, limit = 0, budget(oldest.key)
    for work in _round_robin([w for w in waiting if w.key == oldest.key]):
        if chosen and rows + work.rows > limit:
            continue
        tokens = [length for w in chosen for length in w.tokens] + list(work.tokens)
        if chosen and not can_join(tokens):
            continue
        chosen.append(work)
        rows += work.rows
    return chosen


def _round_robin(works: Sequence[Waiting]) -> list[Waiting]:
    """One work per user in turn; users and their works by age."""
    per_user: dict[str, list[Waiting]] = {}
    for work in sorted(works, key=lambda w: w.since):
        per_user.setdefault(work.user, []).append(work)
    queues = list(per_user.values())
    longest = max(len(queue) for queue in queues)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


@dataclass(frozen=True)
class WaitingLoad:
    """A task that wants a checkpoint, since `since` seconds on a monotonic clock."""

    task: str
    checkpoint: str
    since: float


def admit(loads: Sequence[WaitingLoad], busy: set[str], now: float, patience: float = PATIENCE) -> list[WaitingLoad]:
    """The loads that may start while the checkpoints in `busy` are in use by stories under way.

    Stay on the checkpoint in use until another one has been waited for longer than `patience`; then let the stories under way
    finish, and go over to the one that waited longest.  Nobody waits for ever.
    """
    if not loads:
        return []
    oldest = min(loads, key=lambda load: load.since)
    if not busy:
        return [load for load in loads if load.checkpoint == oldest.checkpoint]
    impatient = any(load.checkpoint not in busy and now - load.since > patience for load in loads)
    return [] if impatient else [load for load in loads if load.checkpoint in busy]
