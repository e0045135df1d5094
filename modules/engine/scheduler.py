"""What runs next: pure choices over plain data, without torch, without time of its own.

Three questions are answered here.  `choose`: which of the waiting device ops share the next call?  `Shares`: whose turn is it,
when users share device seconds and not jobs?  `admit`: which pipelines may begin to use a checkpoint, so that models are not
swapped back and forth?
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from modules.checkpoints.taesd import Half
from modules.checkpoints.vaes import AUTOMATIC

PATIENCE = 10.0
"""Seconds after which a checkpoint that is waited for ends the stay of the one in use."""


@dataclass(frozen=True)
class Waiting:
    """A task that waits for the device.  Ops with the same `key` can share a call; `since` orders them, oldest first.

    `rows` is the size of the op; `joins` has what decides which rows may share a forward, one each (only for network
    evaluations; `diffusion.rows.JoinKey`).
    """

    task: str
    user: str
    key: Hashable
    since: int
    rows: int = 1
    joins: tuple[Any, ...] = ()


def _always(_: Sequence[Any]) -> bool:
    return True


_NOBODY_USED_ANYTHING: Mapping[str, float] = MappingProxyType({})


def choose(
    waiting: Sequence[Waiting],
    budget: Callable[[Hashable], int],
    can_join: Callable[[Sequence[Any]], bool] = _always,
    used: Mapping[str, float] = _NOBODY_USED_ANYTHING,
    price: Callable[[Hashable], float] = lambda key: 1.0,
) -> list[Waiting]:
    """The ops of the next call.

    Fair queueing by cost: the user who has `used` least begins, with the oldest op; what has the same key fills the call,
    always the oldest op of who has used least, counting what this call will cost (`price` seconds per row).  Up to
    `budget(key)` rows, but at least one.  Ops whose rows cannot be joined with those chosen wait for the next call.
    """
    if not waiting:
        return []
    first = min(waiting, key=lambda w: (used.get(w.user, 0.0), w.since))
    chosen: list[Waiting] = []
    rows, limit = 0, budget(first.key)
    for op in _in_turns([w for w in waiting if w.key == first.key], used, price(first.key)):
        if chosen and rows + op.rows > limit:
            continue
        joins = [join for w in chosen for join in w.joins] + list(op.joins)
        if chosen and not can_join(joins):
            continue
        chosen.append(op)
        rows += op.rows
        if rows >= limit:
            break
    return chosen


def _in_turns(ops: Sequence[Waiting], used: Mapping[str, float], price: float) -> list[Waiting]:
    """Always the oldest op of the user who would have used least by then."""
    per_user: dict[str, list[Waiting]] = {}
    for op in sorted(ops, key=lambda w: w.since, reverse=True):
        per_user.setdefault(op.user, []).append(op)
    account = {user: used.get(user, 0.0) for user in per_user}
    order = []
    while per_user:
        user = min(per_user, key=lambda u: (account[u], per_user[u][-1].since))
        op = per_user[user].pop()
        account[user] += op.rows * price
        order.append(op)
        if not per_user[user]:
            del per_user[user]
    return order


@dataclass
class Shares:
    """Device seconds that users have used, as far as it matters for whose turn it is.

    Start-time fair queueing (Goyal, Vin & Cheng 1996): who comes new, or comes back, starts where the one who has used least
    of those present stood before the last call, and so has the next turn; staying away saves nothing up, and who leaves in debt
    finds it again.
    """

    used: dict[str, float] = field(default_factory=dict)
    _floor: float = 0.0

    def present(self, users: set[str]) -> None:
        """These wait for the device now."""
        if not users:
            return
        for user in users:
            self.used[user] = max(self.used.get(user, 0.0), self._floor)
        self._floor = min(self.used[user] for user in users)
        for user in [user for user, seconds in self.used.items() if user not in users and seconds <= self._floor]:
            del self.used[user]

    def charge(self, rows: Mapping[str, int], seconds: float) -> None:
        """A call took so long; each user pays for the share of its rows."""
        total = sum(rows.values())
        for user, own in rows.items():
            self.used[user] = self.used.get(user, self._floor) + seconds * own / total

    def clear(self) -> None:
        """Nobody is here: the next to come start level."""
        self.used.clear()
        self._floor = 0.0


@dataclass(frozen=True)
class WaitingLoad:
    """A task that wants a checkpoint with some autoencoder and halves of TAESD, since `since` seconds on a monotonic clock.

    `also` are other checkpoints that it loads afterwards: it is let in to all of them at once, and waits for none later.
    """

    task: str
    checkpoint: str
    since: float
    vae: str = AUTOMATIC
    also: frozenset[str] = frozenset()
    taesd: tuple[Half, ...] = ()

    @property
    def checkpoints(self) -> frozenset[str]:
        """All that it needs."""
        return self.also | {self.checkpoint}


def admit(loads: Sequence[WaitingLoad], busy: set[str], now: float, patience: float = PATIENCE) -> list[WaitingLoad]:
    """The loads that may start while the checkpoints in `busy` are in use by pipelines under way.

    Stay on the checkpoint in use until another one has been waited for longer than `patience`; then let the pipelines under way
    finish, and go over to the one that waited longest.  Nobody waits for ever: who needs several checkpoints holds none of them
    while it waits.
    """
    if not loads:
        return []
    oldest = min(loads, key=lambda load: load.since)
    if not busy:
        return [load for load in loads if load.checkpoints <= oldest.checkpoints]
    impatient = any(not load.checkpoints <= busy and now - load.since > patience for load in loads)
    return [] if impatient else [load for load in loads if load.checkpoints <= busy]
