"""What a script makes of a request: the cells, each a request of its own, how they lie in grids, and in which order they are
made."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modules.errors import RequestError
from modules.request import GenerationRequest
from modules.roles import by_role

Fields = dict[str, Any]
Heading = tuple[tuple[str, bool], ...]
"""What stands above a column or beside a row: lines of text, and whether each holds (else it is struck out)."""

MAX_CELLS = 1000
MAX_PICTURES = 4000
"""Of all cells together."""
MAX_SHEET_PIXELS = 128 << 20
"""Of one grid picture; A1111's own limit is 200 megapixels."""
MAX_MARGIN = 500
DRAWN_SEEDS = 2**32

TITLES = {
    "xyz": "X/Y/Z plot",
    "matrix": "Prompt matrix",
    "prompts": "Prompts from file or textbox",
    "loopback": "Loopback",
    "upscale": "SD upscale",
    "detail": "Detail pass",
}
"""The scripts' names in A1111, by ours."""

ENLARGE = "enlarge"
"""What the changes of a cell have that paints nothing and enlarges the picture of the base: upscaler's name and factor."""

OF_PICTURES = ("loopback", "upscale")
"""Those that start from a picture; of words alone the detail pass paints one first."""


OF_MANY = ("loopback",)
"""Those that may start from many pictures, each with a request of its own."""


class ScriptError(RequestError):
    """A script cannot be carried out as it stands; `place` is the field of its form that this is about."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True)
class Cell:
    """A request of the grid: what differs from the base, and the cell whose first picture it starts from (loopback)."""

    changes: Fields
    after: int | None = None


@dataclass(frozen=True)
class Plan:
    """All cells of a script.

    Cell (column, row, sheet) is number (sheet * rows + row) * columns + column.  `base` are the fields that all have; `order`
    is in which order cells are made; `items` go into the grids' infotext; `last_only`: what came of all is the last cell;
    `notes` are sentences for the user.
    """

    script: str
    base: Fields
    cells: tuple[Cell, ...]
    columns: tuple[Heading, ...]
    rows: tuple[Heading, ...] = ((),)
    sheets: tuple[str, ...] = ("",)
    order: tuple[int, ...] = ()
    items: Mapping[str, str] = field(default_factory=dict)
    draw_legend: bool = True
    draw_sheet: bool = True
    include_cells: bool = False
    include_sub_sheets: bool = False
    margin: int = 0
    last_only: bool = False
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return TITLES[self.script]

    @property
    def uploads(self) -> list[str]:
        """The ids of all pictures that its requests start from: they are kept while it is under way."""
        each = (by_role(fields).get("pictures") for fields in (self.base, *(cell.changes for cell in self.cells)))
        ids = (one for pictures in each if isinstance(pictures, dict) for one in pictures.values())
        return list(dict.fromkeys(one for one in ids if isinstance(one, str)))

    @property
    def submitted(self) -> tuple[int, ...]:
        return self.order or tuple(range(len(self.cells)))

    def fields(self, number: int) -> Fields:
        """The request of a cell."""
        return fields_of(self.base, self.cells[number].changes)


def fields_of(base: Fields, own: Fields) -> Fields:
    """The request of a cell: the base with what is its own, or one that only enlarges the base's picture (`ENLARGE`)."""
    if ENLARGE not in own:
        return {**base, **own}
    upscaler, factor = own[ENLARGE]
    init = (by_role(base).get("pictures") or {}).get("init")
    return {"pictures": {"init": init}, "upscaler_1": upscaler, "upscale_by": factor, "private": bool(base.get("private"))}


def changes(base: Fields, fields: Fields) -> Fields:
    """What `fields` have that `base` has not."""
    return {name: value for name, value in fields.items() if name not in base or base[name] != value}


def drawn_seed() -> int:
    return secrets.randbelow(DRAWN_SEEDS)


def with_seeds(fields: Fields, varied: bool = False) -> Fields:
    """`fields` with random seeds drawn, so that all cells share them; `varied`: some cells vary the seed."""
    found = dict(fields)
    for name in ("seed", "variation_seed"):
        if name == "seed" or varied or found.get("variation_strength"):
            value = found.get(name)
            found[name] = drawn_seed() if value is None or (isinstance(value, int) and value < 0) else value
    return found


def counted(fields: Fields, by: int) -> Fields:
    """`fields` with the seed counted on; one that is random stays so."""
    seed = fields.get("seed")
    return {**fields, "seed": (seed + by) % 2**64} if by and isinstance(seed, int) and seed >= 0 else fields


def check_size(cells: int, count: int, most: int = MAX_CELLS) -> None:
    """Refuse what makes more than `most` cells.

    Raises:
        ScriptError: more cells or pictures than a script may make.
    """
    if not cells:
        raise ScriptError("there is nothing to make: no cell has values")
    if cells > most:
        raise ScriptError(f"that are {cells:,} cells, and {most:,} is the most; take fewer values")
    if cells * count > MAX_PICTURES:
        raise ScriptError(
            f"that are {cells * count:,} pictures ({cells:,} cells of {count}), and {MAX_PICTURES:,} is the most; "
            "take fewer values, or fewer pictures each"
        )


def check_sheet(columns: int, rows: int, sheets: int, requests: list[GenerationRequest]) -> tuple[str, ...]:
    """A note where the grid of grids would be too large, so that there is one for each value of Z.

    Raises:
        ScriptError: already one grid would be.
    """
    sides = [(one.width, one.height) for each in requests for one in (each, getattr(each, "hires", None)) if one is not None]
    width, height = max(side[0] for side in sides), max(side[1] for side in sides)
    pixels = columns * rows * width * height
    if pixels > MAX_SHEET_PIXELS:
        raise ScriptError(
            f"the grid would have {columns * width:,} x {rows * height:,} pixels, {pixels / 1e6:,.0f} megapixels, and "
            f"{MAX_SHEET_PIXELS / 1e6:.0f} are the most; take fewer values, smaller pictures, or Z for one of the axes"
        )
    if sheets > 1 and pixels * sheets > MAX_SHEET_PIXELS:
        return (
            f"All {sheets} grids together would have {pixels * sheets / 1e6:,.0f} megapixels, more than "
            f"{MAX_SHEET_PIXELS / 1e6:.0f}; so there is a grid for each value of Z, and none of all.",
        )
    return ()
