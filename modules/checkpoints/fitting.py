"""Which samplers and schedules make no sense with a family of checkpoints, and why: what page and APIs say before a request is
refused for the same reason (`families.Family.refuses`).  No torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from modules.checkpoints.families import Family
from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import SCHEDULES


@dataclass(frozen=True)
class Unfit:
    """Values of a request's `field` that a family refuses: their `names`, the `reason` as a sentence without a full stop, of
    which each is "it", and `instead`, the value that the family is run with."""

    field: Literal["sampler", "schedule"]
    names: tuple[str, ...]
    reason: str
    instead: str


def unfit(family: Family | None) -> tuple[Unfit, ...]:
    """Those of a family, one for each reason; nothing where the family is not known."""
    if family is None:
        return ()
    return _unfit(family, tuple(SAMPLERS), tuple(SCHEDULES))


@lru_cache(maxsize=256)
def _unfit(family: Family, names: tuple[str, ...], labels: tuple[str, ...]) -> tuple[Unfit, ...]:
    """Once for each family, not for each of thousands of checkpoints; anew where an extension adds a sampler or a schedule."""
    samplers = {name: family.refuses_sampler(SAMPLERS[name]) for name in names}
    schedules = {label: family.refuses_schedule(label) for label in labels if label != "Automatic"}
    return (
        *_by_reason("sampler", samplers, family.defaults.sampler),
        *_by_reason("schedule", schedules, family.defaults.schedule),
    )


def _by_reason(field: Literal["sampler", "schedule"], reasons: dict[str, str], instead: str) -> list[Unfit]:
    distinct = dict.fromkeys(reason for reason in reasons.values() if reason)
    return [Unfit(field, tuple(name for name, own in reasons.items() if own == reason), reason, instead) for reason in distinct]
