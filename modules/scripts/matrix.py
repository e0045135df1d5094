"""The prompt matrix: of a prompt "a | b | c" all combinations of its parts behind the first, with and without each.

Source: AUTOMATIC1111 v1.10.1, `scripts/prompt_matrix.py`.  A | inside [] or {} is not one of the matrix here: it is an
alternation, or the choice of a dynamic prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from modules.request import clean_text
from modules.scripts.plan import (
    MAX_CELLS,
    MAX_MARGIN,
    Cell,
    Fields,
    Heading,
    Plan,
    ScriptError,
    check_sheet,
    check_size,
    counted,
    with_seeds,
)
from modules.scripts.xyz import Check


@dataclass(frozen=True)
class Matrix:
    """`put_at_start`: the varying parts stand before the fixed one; `different_seeds`: each cell has its own seed."""

    put_at_start: bool = False
    different_seeds: bool = False
    prompt_type: Literal["positive", "negative"] = "positive"
    variations_delimiter: Literal["comma", "space"] = "comma"
    margin_size: int = 0


def parts_of(prompt: str) -> list[str]:
    """The parts of a prompt between its | marks, without the blanks around them.

    >>> parts_of("a cat | red, {big|small} | [day|night]")
    ['a cat', 'red, {big|small}', '[day|night]']
    """
    parts, depth = [""], 0
    for mark in prompt:
        depth = max(0, depth + (mark in "[{") - (mark in "]}"))
        if mark == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += mark
    return [part.strip() for part in parts]


def plan_matrix(asked: Matrix, base: Fields, check: Check) -> Plan:
    """The matrix' cells: bit i of a cell's number says whether part i + 1 is in it.

    Raises:
        ScriptError: the prompt has no parts to combine, or too many.
    """
    if asked.prompt_type not in ("positive", "negative"):
        raise ScriptError(f"the prompt is positive or negative, not {str(asked.prompt_type)[:40]!r}", "prompt_type")
    if asked.variations_delimiter not in ("comma", "space"):
        raise ScriptError(f"parts are joined by comma or space, not {str(asked.variations_delimiter)[:40]!r}", "delimiter")
    if not 0 <= asked.margin_size <= MAX_MARGIN:
        raise ScriptError(f"the margin is 0 to {MAX_MARGIN} pixels, not {asked.margin_size}", "margin_size")
    name = "prompt" if asked.prompt_type == "positive" else "negative_prompt"
    fixed, *parts = parts_of(clean_text(str(base.get(name) or "")))
    parts = [part.strip(",").strip() for part in parts]  # as in A1111: "a cat, | red, | at night" has no doubled commas
    if not parts:
        said = "prompt" if name == "prompt" else "negative prompt"
        raise ScriptError(
            f"the {said} has no | in it; write the parts that vary behind one, such as: a cat | red | at night", name
        )
    if 2 ** len(parts) > MAX_CELLS:
        most = int(math.log2(MAX_CELLS))
        raise ScriptError(f"{len(parts)} parts have {2 ** len(parts):,} combinations; {most} parts are the most", name)
    base = with_seeds(base)
    count = base.get("count") or 1
    check_size(2 ** len(parts), count if isinstance(count, int) else 1)
    cells = tuple(_cell(asked, base, name, fixed, parts, number) for number in range(2 ** len(parts)))
    across = math.ceil(len(parts) / 2)
    request = check({**base, **cells[-1].changes}, True)
    return Plan(
        script="matrix",
        base=base,
        cells=cells,
        columns=_headings(parts[:across]),
        rows=_headings(parts[across:]),
        items={"Script": "Prompt matrix"},
        include_cells=True,
        margin=asked.margin_size,
        notes=check_sheet(2**across, 2 ** (len(parts) - across), 1, [request]),
    )


def _cell(asked: Matrix, base: Fields, name: str, fixed: str, parts: list[str], number: int) -> Cell:
    chosen = [part for place, part in enumerate(parts) if number & 1 << place]
    words = [*chosen, fixed] if asked.put_at_start else [fixed, *chosen]
    prompt = (", " if asked.variations_delimiter == "comma" else " ").join(word for word in words if word)
    seed = counted(base, number if asked.different_seeds else 0)["seed"]
    return Cell({name: prompt, **({"seed": seed} if seed != base["seed"] else {})})


def _headings(parts: list[str]) -> tuple[Heading, ...]:
    """All of these parts for each column or row; those that are not in it do not hold."""
    return tuple(
        tuple((part, bool(number & 1 << place)) for place, part in enumerate(parts)) for number in range(2 ** len(parts))
    )
