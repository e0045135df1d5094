"""Scripts as their users see them: states and progress of the cells, grids, and when all of it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modules.jobs.views import JobView
from modules.queue.scripts import OVER, CellState, RunState, StoredCell, StoredRun
from modules.scripts.plan import TITLES


@dataclass(frozen=True)
class CellView:
    """A cell.  `progress` is 0 to 1; `pictures` have index, seed, width and height."""

    number: int
    state: CellState
    job: str
    error: str
    progress: float
    pictures: tuple[Mapping[str, int], ...]


@dataclass(frozen=True)
class RunView:
    """A script.  `plan` has title, headings and notes; `drawing`: all cells are over, the grid is drawn."""

    id: str
    state: RunState
    plan: Mapping[str, Any]
    cells: tuple[CellView, ...]
    sheets: tuple[Mapping[str, Any], ...]
    created: float
    error: str
    drawing: bool
    progress: float
    eta_s: float | None

    @property
    def title(self) -> str:
        return TITLES.get(str(self.plan.get("script")), "Script")

    @property
    def done(self) -> int:
        return sum(cell.state == "done" for cell in self.cells)


def view_of(run: StoredRun, cells: Iterable[StoredCell], drawing: bool, job_of: Callable[[str], JobView | None]) -> RunView:
    """The view of a script with these cells; `job_of` is asked for the jobs of cells in the queue."""
    shown, jobs = [], []
    for cell in cells:
        job = job_of(cell.job) if cell.state == "queued" and cell.job else None
        jobs += [job] if job is not None else []
        progress = 1.0 if cell.state == "done" else job.progress if job else 0.0
        shown.append(CellView(cell.number, cell.state, cell.job, cell.error, progress, cell.pictures))
    progress = sum(1.0 if view.state in OVER else view.progress for view in shown) / max(1, len(shown))
    return RunView(
        id=run.id,
        state=run.state,
        plan=run.plan,
        cells=tuple(shown),
        sheets=run.sheets,
        created=run.created,
        error=run.error,
        drawing=drawing,
        progress=progress,
        eta_s=_eta(shown, jobs) if run.state == "running" else None,
    )


def _eta(cells: Sequence[CellView], jobs: Sequence[JobView]) -> float | None:
    """Seconds until all cells are made, by the estimates of those in the queue; None where there is none."""
    known = [job.eta_s for job in jobs if job.eta_s is not None]
    if not known:
        return None
    each = max(known) / max(0.1, len(known) - sum(job.progress for job in jobs))
    return max(known) + each * sum(cell.state == "waiting" for cell in cells)
