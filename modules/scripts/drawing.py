"""The grid pictures of a script that is over: drawn from its cells' files and saved like any picture, with A1111's keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from modules import __version__
from modules.errors import RequestError
from modules.images.decode import decode
from modules.images.infotext import GenerationInfo
from modules.images.recipe import read_record
from modules.jobs.views import JobView
from modules.pixels.mosaic import Tile, mosaic
from modules.pixels.regions import Box
from modules.queue.scripts import StoredCell, StoredRun
from modules.roles import by_role
from modules.scripts.host import Host
from modules.scripts.plan import MAX_CELLS, MAX_SHEET_PIXELS
from modules.scripts.sheets import Grid, annotated, cell_size, draw_grid, fitted
from modules.scripts.upscale import TILE, forget_enlarged

_NUMBERS = MAX_CELLS + 1
"""Numbers of grid pictures that one drawing may use: one for each value of Z, and one for all together."""


def draw_sheets(host: Host, run: StoredRun, cells: Mapping[int, StoredCell]) -> list[dict[str, Any]]:
    """Draw and save the grid, and of several values of Z the grid of grids first.  May be repeated: a file that is there stays.

    Raises:
        OutputError: one could not be saved.
    """
    plan, painted = run.plan, [cell for cell in cells.values() if cell.pictures]
    if not plan.get("draw_sheet") or not painted:
        return []
    info = _info(host, run, min(painted, key=lambda cell: cell.number))
    if plan.get("script") == "upscale":
        return _put_together(host, run, cells, info)
    columns, rows, titles = ([_heading(one) for one in plan[name]] for name in ("columns", "rows", "sheets"))
    native = [cell_size([(one["width"], one["height"]) for one in cell.pictures]) for cell in painted]
    size = fitted(len(columns), len(rows), (max(one[0] for one in native), max(one[1] for one in native)))
    grid = Grid(columns, rows, size, bool(plan.get("draw_legend", True)), int(plan.get("margin", 0)))
    plane, sheets, whole = len(columns) * len(rows), [], None
    together = len(titles) > 1 and len(titles) * plane * size[0] * size[1] <= MAX_SHEET_PIXELS

    def save(number: int, image: Image.Image, title: str) -> None:
        sheets.append({**_saved(host, run, number, image.tobytes(), image.size, info), "title": title})

    for z, title in enumerate(titles):
        image = draw_grid(grid, partial(_of_cell, host, run, cells, z * plane))
        if together:
            step = image.width + grid.margin
            whole = whole or Image.new("RGB", (step * len(titles) - grid.margin, image.height), "white")
            whole.paste(image, (z * step, 0))
        if not together or plan.get("include_sub_sheets"):
            save(z + 1, image, "".join(text for text, _ in title))
        above = Grid(titles, [()], image.size, grid.legend, grid.margin)
    if whole is not None:
        save(0, annotated(whole, above) if grid.legend else whole, "")
        sheets.insert(0, sheets.pop())
    return sheets


def _put_together(host: Host, run: StoredRun, cells: Mapping[int, StoredCell], info: GenerationInfo) -> list[dict[str, Any]]:
    """The pictures of SD upscale, each of its tiles.

    Raises:
        RequestError: a tile was not made, or its file is gone.
        OutputError: a picture could not be saved.
    """
    forget_enlarged()
    init = by_role(run.plan["base"]).get("pictures")
    info = replace(info, request=info.request.model_copy(update={"pictures": init}))
    across, down, saved = len(run.plan["columns"]), len(run.plan["rows"]), []
    tiles = across * down * len(run.plan["sheets"])

    def tile(number: int) -> Tile:
        cell = cells.get(number)
        found = _pictures(host, run, cell)
        if cell is None or isinstance(found, str):
            raise RequestError(f"tile {number + 1} of {tiles} is missing ({found}); make the missing ones")
        left, top, width, height = cell.changes[TILE][:4]
        return Tile(Box(left, top, left + width, top + height), np.asarray(found[0].convert("RGB")))

    for z, title in enumerate(run.plan["sheets"]):
        first = z * across * down
        rows = ([tile(first + row * across + column) for column in range(across)] for row in range(down))
        width, height = cells[first].changes[TILE][4:6]
        pixels = mosaic(rows, width, height)
        seed = getattr(info.request, "seed", 0) + z
        own = replace(info, request=info.request.model_copy(update={"seed": seed % 2**64}))
        saved.append({**_saved(host, run, z, pixels.tobytes(), (width, height), own), "title": title})
    return saved


def _saved(
    host: Host, run: StoredRun, number: int, pixels: bytes, size: tuple[int, int], info: GenerationInfo
) -> dict[str, Any]:
    """Save the picture of this number of a script, and hand it to the gallery; what is kept of it."""
    saved = host.outputs.save(pixels, *size, info, run.id, run.revision * _NUMBERS + number, run.created)
    host.picture_saved(saved.name, run.user)
    return {name: getattr(saved, name) for name in ("name", "sha256", "width", "height", "infotext")}


def _heading(one: Any) -> tuple[tuple[str, bool], ...]:
    """A heading as JSON has it: lines, or one text."""
    if isinstance(one, str):
        return ((one, True),) if one else ()
    return tuple((str(text), bool(holds)) for text, holds in one)


def _of_cell(host: Host, run: StoredRun, cells: Mapping[int, StoredCell], first: int, number: int) -> list[Image.Image] | str:
    return _pictures(host, run, cells.get(first + number))


def _pictures(host: Host, run: StoredRun, cell: StoredCell | None) -> list[Image.Image] | str:
    if cell is None or not cell.pictures:
        return (cell.error if cell else "") or "not made"
    job = host.job(cell.job, run.user)
    found = []
    for picture in job.pictures if job else ():
        try:
            found.append(decode(picture.path.read_bytes()))
        except (OSError, RequestError):
            continue
    return found or "its file is gone"


def _info(host: Host, run: StoredRun, cell: StoredCell) -> GenerationInfo:
    """What the grid's file says: what its first cell's does, and of what script it is."""
    job = host.job(cell.job, run.user)
    if job is None or not job.pictures:
        raise RequestError("the first cell's job was removed from the list")
    items = {str(key): str(value) for key, value in run.plan.get("items", {}).items()}
    info = _recorded(job) or GenerationInfo(job.request.image(0), "", "", job.request.schedule, f"Atelier {__version__}")
    return replace(info, extras={**info.extras, **items}, facts={})


def _recorded(job: JobView) -> GenerationInfo | None:
    try:
        return read_record(job.pictures[0].path).info
    except RequestError:  # a private picture says nothing
        return None
