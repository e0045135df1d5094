"""The X/Y/Z plot: a cell for each combination of the values of up to three axes.

Source: AUTOMATIC1111 v1.10.1, `scripts/xyz_grid.py`: the syntax of values, what seeds do, which axis is the outermost loop, and
the keys of the grid's infotext.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modules.errors import RequestError
from modules.request import GenerationRequest
from modules.scripts import values as syntax
from modules.scripts.axes import SEEDS, Axis, Fields, Names, find_axis
from modules.scripts.plan import (
    MAX_MARGIN,
    Cell,
    Plan,
    ScriptError,
    changes,
    check_sheet,
    check_size,
    counted,
    drawn_seed,
    with_seeds,
)

LETTERS = "XYZ"

Check = Callable[[Fields, bool], GenerationRequest]
"""(fields, whether names and prompts are looked into): the request, or a RequestError."""


@dataclass(frozen=True)
class XYZ:
    """What is asked for: per axis its name (label, key or A1111's number) and values, as text or as a list of them."""

    types: tuple[Any, Any, Any]
    values: tuple[str | Sequence[str], ...] = ("", "", "")
    draw_legend: bool = True
    include_lone_images: bool = False
    include_sub_grids: bool = False
    no_fixed_seeds: bool = False
    vary_seeds: tuple[bool, bool, bool] = (False, False, False)
    margin_size: int = 0


@dataclass(frozen=True)
class _Line:
    """An axis with its values."""

    letter: str
    axis: Axis
    texts: list[str]
    values: list[Any]
    varies: bool

    def apply(self, fields: Fields, place: int) -> Fields:
        try:
            return self.axis.apply(fields, self.values[place], self.values)
        except RequestError as error:
            raise self.error(error) from None

    def error(self, error: RequestError, place: int | None = None) -> ScriptError:
        value = f" {self.axis.shown(self.values[place], labelled=False)[:60]!r}" if place is not None else ""
        return ScriptError(f"{self.letter}, {self.axis.label}{value}: {error}", f"{self.letter.lower()}_values")


def plan_xyz(asked: XYZ, base: Fields, names: Names, check: Check, image: bool) -> Plan:
    """The plot's cells.  `image`: whether pictures are made from a picture.

    Raises:
        ScriptError: an axis or a value makes no sense, names both; or there are too many.
    """
    if not 0 <= asked.margin_size <= MAX_MARGIN:
        raise ScriptError(f"the margin is 0 to {MAX_MARGIN} pixels, not {asked.margin_size}", "margin_size")
    lines = [_line(place, asked, names, image) for place in range(3)]
    _check_twice(lines)
    if not asked.no_fixed_seeds:
        base = with_seeds(base, varied=any(line.axis.key == "variation_strength" for line in lines))
        lines = [_fixed(line) for line in lines]
    sizes = [len(line.values) for line in lines]
    count = base.get("count") or 1
    check_size(sizes[0] * sizes[1] * sizes[2], count if isinstance(count, int) else 1)
    requests = _checked(lines, base, check)
    notes = check_sheet(sizes[0], sizes[1], sizes[2], requests)
    cells = []
    for z, y, x in itertools.product(*(range(size) for size in reversed(sizes))):
        fields = _vary(_applied(lines, base, (x, y, z)), lines, (x, y, z))
        cells.append(Cell(changes(base, fields)))
    columns, rows = (tuple(((line.axis.shown(value), True),) for value in line.values) for line in lines[:2])
    return Plan(
        script="xyz",
        base=base,
        cells=tuple(cells),
        columns=tuple(columns) if lines[0].axis.kind != "nothing" else ((),),
        rows=tuple(rows) if lines[1].axis.kind != "nothing" else ((),),
        sheets=tuple(lines[2].axis.shown(value) for value in lines[2].values),
        order=_order(lines),
        items=_items(lines, fixed=not asked.no_fixed_seeds),
        draw_legend=asked.draw_legend,
        include_cells=asked.include_lone_images,
        include_sub_sheets=asked.include_sub_grids,
        margin=asked.margin_size,
        notes=notes,
    )


def _line(place: int, asked: XYZ, names: Names, image: bool) -> _Line:
    letter, given = LETTERS[place], asked.values[place]
    try:
        axis = find_axis(asked.types[place], image)
    except RequestError as error:
        raise ScriptError(f"{letter}: {error}", f"{letter.lower()}_type") from None
    where = f"{letter}, {axis.label}"
    try:
        texts = syntax.split(given) if isinstance(given, str) else [str(text).strip() for text in given]
        if axis.key == "styles" and isinstance(given, list | tuple):
            texts = [syntax.joined([text]) for text in texts]
        if axis.kind != "nothing" and not any(texts):
            raise RequestError("no values are given; write them with commas between")
        values = axis.parse(texts, names)
        syntax.check_count(len(values))
    except RequestError as error:
        raise ScriptError(f"{where}: {error}", f"{letter.lower()}_values") from None
    return _Line(letter, axis, texts, values, asked.vary_seeds[place])


def _check_twice(lines: list[_Line]) -> None:
    """
    Raises:
        ScriptError: two axes set the same field, so that one of them would make no difference.
    """
    for one, other in itertools.combinations(lines, 2):
        if one.axis.key == other.axis.key and one.axis.kind not in ("nothing", "S/R", "styles"):
            raise ScriptError(
                f"{one.letter} and {other.letter} are both {one.axis.label}; choose another axis for one of them",
                f"{other.letter.lower()}_type",
            )


def _fixed(line: _Line) -> _Line:
    """With random seeds among its values drawn."""
    if line.axis.key not in SEEDS:
        return line
    return replace(line, values=[drawn_seed() if value == -1 else value for value in line.values])


def _applied(lines: list[_Line], base: Fields, places: tuple[int, int, int]) -> Fields:
    fields = base
    for line, place in zip(lines, places, strict=True):
        fields = line.apply(fields, place)
    return fields


def _vary(fields: Fields, lines: list[_Line], places: tuple[int, int, int]) -> Fields:
    """With the seed counted on along the axes that vary it, as A1111 counts."""
    by, stride = 0, 1
    for line, place in zip(lines, places, strict=True):
        if line.varies:
            by += place * stride
            stride *= len(line.values)
    return counted(fields, by)


def _checked(lines: list[_Line], base: Fields, check: Check) -> list[GenerationRequest]:
    """The requests of the cells along the three axes, each value with the first ones of the others.

    Raises:
        ScriptError: one makes no sense; names the axis and the value that it has it from.
    """
    requests = [_first(lines, base, check)]
    for at, line in enumerate(lines):
        thorough = line.axis.kind in ("text", "styles", "S/R", "order")
        for place in range(1, len(line.values)):
            places = tuple(place if other == at else 0 for other in range(3))
            fields = _applied(lines, base, (places[0], places[1], places[2]))
            try:
                requests.append(check(fields, thorough))
            except RequestError as error:
                raise line.error(error, place) from None
    return requests


def _first(lines: list[_Line], base: Fields, check: Check) -> GenerationRequest:
    """The request of the first cell.

    Raises:
        ScriptError: one of its values makes no sense, where the base alone does.
        RequestError: the base makes none either, or only the values together.
    """
    fields = _applied(lines, base, (0, 0, 0))
    try:
        return check(fields, True)
    except RequestError as error:
        try:
            check(base, True)
        except RequestError:
            raise error from None
        for line in lines:
            try:
                check(line.apply(base, 0), True)
            except ScriptError:
                raise
            except RequestError as wrong:
                raise line.error(wrong, 0) from None
        raise


def _order(lines: list[_Line]) -> tuple[int, ...]:
    """The cells' numbers, so that the dearest axis changes least often; among equals Z, then Y, then X is the outer loop."""
    columns, rows = len(lines[0].values), len(lines[1].values)
    outer = sorted((2, 1, 0), key=lambda place: -lines[place].axis.cost)
    found = []
    for places in itertools.product(*(range(len(lines[place].values)) for place in outer)):
        at = dict(zip(outer, places, strict=True))
        found.append((at[2] * rows + at[1]) * columns + at[0])
    return tuple(found)


def _items(lines: list[_Line], fixed: bool) -> dict[str, str]:
    """The keys of A1111's infotext of a grid; `fixed`: seeds that were drawn are said beside what was asked for."""
    items = {"Script": "X/Y/Z plot"}
    for line in lines:
        if line.axis.kind == "nothing":
            continue
        items[f"{line.letter} Type"] = line.axis.label
        items[f"{line.letter} Values"] = syntax.joined(line.texts)
        if line.axis.key in SEEDS and fixed:
            items[f"Fixed {line.letter} Values"] = ", ".join(map(str, line.values))
    return items
