"""Loopback: a picture from a picture again and again, each from the one before, with a denoising strength that changes on
the way.

Source: AUTOMATIC1111 v1.10.1, `scripts/loopback.py`: the curves and the keys of the infotext.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from modules.errors import RequestError
from modules.scripts.plan import (
    MAX_CELLS,
    MAX_PICTURES,
    Cell,
    Fields,
    Plan,
    ScriptError,
    changes,
    check_sheet,
    check_size,
    counted,
    with_seeds,
)
from modules.scripts.xyz import Check

MAX_LOOPS = 100
CURVES = ("Aggressive", "Linear", "Lazy")


@dataclass(frozen=True)
class Loopback:
    """`final_denoising_strength` is that of the last loop; the first has the request's own."""

    loops: int = 4
    final_denoising_strength: float = 0.5
    denoising_curve: Literal["Aggressive", "Linear", "Lazy"] = "Linear"


def strength(loop: int, loops: int, first: float, last: float, curve: str) -> float:
    """The denoising strength of loop `loop`, from 0.

    >>> [round(strength(loop, 3, 0.2, 0.8, "Linear"), 3) for loop in range(3)]
    [0.2, 0.5, 0.8]
    >>> round(strength(1, 3, 0.2, 0.8, "Aggressive"), 4), round(strength(1, 3, 0.2, 0.8, "Lazy"), 4)
    (0.6243, 0.3757)
    """
    if loops == 1:
        return first
    progress = loop / (loops - 1)
    if curve == "Aggressive":
        progress = math.sin(progress * math.pi / 2)
    elif curve == "Lazy":
        progress = 1 - math.cos(progress * math.pi / 2)
    return first + (last - first) * progress


def plan_loopback(asked: Loopback, base: Fields, check: Check, many: Sequence[Fields] = ()) -> Plan:
    """A row for each of the request's pictures, a column for each loop; a cell starts from the one on its left.

    `many` are requests that start from pictures of their own, in place of the one in `base`: each has its rows, and no grid is
    drawn, for their sizes differ.

    Raises:
        ScriptError: a number is out of range, or it is not a picture from a picture.
    """
    _check(asked)
    requests = [with_seeds(one) for one in many] or [with_seeds(base)]
    base = {**requests[0], "count": 1}
    request = check(base, True)
    first = getattr(request, "denoising_strength", None)
    if first is None:
        raise ScriptError("Loopback starts from a picture; use it in img2img or Inpaint")
    cells: list[Cell] = []
    for one in requests:
        if not isinstance(count := one.get("count") or 1, int):
            raise RequestError("count: must be a whole number")
        check_size(len(cells) + asked.loops * count, 1, MAX_PICTURES if many else MAX_CELLS)
        if one is not requests[0]:
            check({**one, "count": 1}, False)
        for number in range(asked.loops * count):
            own = {"denoising_strength": round(strength(number % asked.loops, asked.loops, first, *_end(asked)), 6)}
            fields = counted({**_absent(base, one), **one, "count": 1, **own}, number)
            cells.append(Cell(changes(base, fields), len(cells) - 1 if number % asked.loops else None))
    rows = len(cells) // asked.loops
    return Plan(
        script="loopback",
        base=base,
        cells=tuple(cells),
        columns=tuple(
            ((f"Loop {loop + 1}, strength {cells[loop].changes.get('denoising_strength', first):g}", True),)
            for loop in range(asked.loops)
        ),
        rows=tuple(((f"Picture {row + 1}", True),) for row in range(rows)) if rows > 1 else ((),),
        order=tuple(row * asked.loops + loop for loop in range(asked.loops) for row in range(rows)),
        items={
            "Script": "Loopback",
            "Final denoising strength": f"{asked.final_denoising_strength:g}",
            "Denoising curve": asked.denoising_curve,
        },
        draw_legend=False,
        draw_sheet=len(cells) > 1 and not many,
        include_cells=True,
        notes=() if many else check_sheet(asked.loops, rows, 1, [request]),
    )


def _check(asked: Loopback) -> None:
    if not 1 <= asked.loops <= MAX_LOOPS:
        raise ScriptError(f"there are 1 to {MAX_LOOPS} loops, not {asked.loops}", "loops")
    if not 0 <= asked.final_denoising_strength <= 1:
        last = asked.final_denoising_strength
        raise ScriptError(f"the final denoising strength is 0 to 1, not {last:g}", "final_denoising_strength")
    if asked.denoising_curve not in CURVES:
        raise ScriptError(f"the curve is {', '.join(CURVES)}, not {str(asked.denoising_curve)[:40]!r}", "denoising_curve")


def _absent(base: Fields, one: Fields) -> Fields:
    """Fields of the base that another request has not, so that it has none: a mask, or a prompt of its own."""
    return dict.fromkeys(name for name in base if name not in one)


def _end(asked: Loopback) -> tuple[float, str]:
    return asked.final_denoising_strength, asked.denoising_curve
