"""Timing in turn: every subject once, then all of them again, so that a machine whose speed drifts is fair to all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bench import Figure
from tests.bench._device.plan import Plan

Call = Callable[[], Any]

WARM = 2
"""Calls of each subject that are not counted: the first of a shape chooses algorithms."""


@dataclass
class Turns:
    """Seconds of each subject, by turn; and of those that failed, why."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def figures(self, what: str, beside: tuple[str, ...] = (), unit: str = "ms", note: str = "") -> Iterator[Figure]:
        """Medians, each with its spread and its ratio to every one of `beside` that was measured."""
        for name, seconds in self.seconds.items():
            ratios = [self.ratio(name, other) for other in beside if other in self.seconds and other != name]
            how = [f"±{spread(seconds):.1%} of {len(seconds)}", *ratios, *([note] if note else [])]
            yield Figure(what, statistics.median(seconds) * SCALE[unit], unit, "; ".join(how), by=name)
        for name, why in self.failed.items():
            yield failure(what, why, by=name)

    def ratio(self, name: str, other: str) -> str:
        """In words: the median of the ratios turn by turn, with the smallest and the largest."""
        each = [a / b for a, b in zip(self.seconds[name], self.seconds[other], strict=False)]
        return f"{statistics.median(each):.3f} x {other} [{min(each):.3f}-{max(each):.3f}]"


SCALE = {"ms": 1000.0, "s": 1.0}


def take_turns(
    calls: Mapping[str, Call], plan: Plan, seconds: float, least: int = 3, most: int = 15, warm: int = WARM
) -> Turns:
    """Time `calls` in turn, as often as fits into about `seconds` in all.

    Args:
        least: turns, however long they take.
        most: turns at most.
        warm: calls of each before, which are not counted.
    """
    result, once = Turns(), {}
    for name, call in calls.items():
        try:
            for _ in range(warm):
                call()
            once[name] = timed(call, plan)
        except Exception as error:  # one that fails leaves the others to be measured
            result.failed[name] = said(error)
    if not once:
        return result
    count = max(least, min(most, int(seconds / max(1e-9, sum(once.values())))))
    for _ in range(count):
        for name in list(once):
            result.seconds.setdefault(name, []).append(timed(calls[name], plan))
    return result


def timed(call: Call, plan: Plan) -> float:
    """Seconds from the call to when the device has done it."""
    plan.wait()
    began = time.perf_counter()
    call()
    plan.wait()
    return time.perf_counter() - began


def spread(values: list[float]) -> float:
    """Half the distance between the quartiles, as part of the median."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / statistics.median(values)


def failure(what: str, why: str, by: str = "") -> Figure:
    return Figure(what, float("nan"), "", why, by)


def said(error: BaseException) -> str:
    """The error in one line."""
    return f"{type(error).__name__}: {str(error).strip()[:300]}".replace("\n", " ")
