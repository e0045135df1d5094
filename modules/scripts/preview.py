"""What a script would make, before it is started: how many pictures, and how long the device takes for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modules.errors import RequestError
from modules.jobs.estimates import Quote
from modules.scripts.plan import Fields, Plan

QUOTES = 64
"""Different costs that are worked out for one estimate; beyond, the mean of these counts."""
_FREE = ("prompt", "negative_prompt", "seed", "styles")
"""Fields that an estimate does not depend on."""


@dataclass(frozen=True)
class Preview:
    """What a script would make.  `seconds` of the device, None where nothing was measured."""

    cells: int
    pictures: int
    columns: int
    rows: int
    sheets: int
    seconds: float | None
    notes: tuple[str, ...]


def preview_of(plan: Plan, quote: Callable[[Fields], Quote]) -> Preview:
    """The size of a plan; `quote` is asked for the costs of a request."""
    counts = [plan.fields(number).get("count") or 1 for number in range(len(plan.cells))]
    sizes = len(plan.columns), len(plan.rows), len(plan.sheets)
    return Preview(len(plan.cells), sum(counts), *sizes, _seconds(plan, quote), plan.notes)


def _seconds(plan: Plan, quote: Callable[[Fields], Quote]) -> float | None:
    costs: dict[str, float | None] = {}
    total, unknown = 0.0, 0
    for number in range(len(plan.cells)):
        costly = {name: value for name, value in plan.fields(number).items() if name not in _FREE}
        key = repr(sorted(costly.items(), key=lambda item: item[0]))
        if key not in costs and len(costs) < QUOTES:
            try:
                costs[key] = quote(costly).seconds
            except RequestError:
                costs[key] = None
        if (seconds := costs.get(key)) is None:
            unknown += 1
        else:
            total += seconds
    known = len(plan.cells) - unknown
    return total * len(plan.cells) / known if known else None
