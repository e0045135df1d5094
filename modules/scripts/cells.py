"""A cell of a script when it is submitted: its request, with the pictures that it starts from, and what is made with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from modules.queue.scripts import StoredCell, StoredRun
from modules.scripts.detail import AREA, with_area
from modules.scripts.finding import looks, with_found
from modules.scripts.host import Host
from modules.scripts.looping import from_picture_of
from modules.scripts.plan import ENLARGE, Fields, fields_of
from modules.scripts.upscale import TILE, enlarged_picture, with_tile


def request_of(
    host: Host, run: StoredRun, cell: StoredCell, before: StoredCell | None, cells: Mapping[int, StoredCell]
) -> Fields | None:
    """The fields of a cell's request; `before` is the cell whose picture it starts from.  None where there is nothing to paint,
    and it stands for the picture of the cell before.

    Raises:
        RequestError: a picture that it needs is gone.
    """
    fields = fields_of(run.plan["base"], cell.changes)
    if TILE in fields:
        return with_tile(host, fields, run.user, before.job if before else "")
    if looks(fields) and before is not None:
        return with_found(host, fields, run.user, before, cells)
    if before is not None:
        fields = from_picture_of(host, fields, before.job, run.user)
    return with_area(host, fields, run.user) if AREA in fields else fields


def why_not_begun(before: StoredCell | None) -> str:
    """Why a cell is not made whose picture to start from was not."""
    why = f": {before.error}" if before is not None and before.error else ""
    return f"the one before it was not finished{why}"


def to_be_made(host: Host, cells: Sequence[StoredCell], wanted: Collection[int], user: str) -> set[int]:
    """The numbers of the `wanted` cells, of those that start from a picture of these, and of one that enlarged the picture of
    these where its file is gone."""
    found, before = set(wanted), -1
    while len(found) > before:
        before = len(found)
        found |= {cell.number for cell in cells if cell.after in found}
    needed = {cell.after for cell in cells if cell.number in found}
    enlarging = (cell for cell in cells if ENLARGE in cell.changes and cell.number in needed)
    return found | {cell.number for cell in enlarging if enlarged_picture(host, cell.job, user) is None}
