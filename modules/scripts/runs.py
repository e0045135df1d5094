"""The scripts of a server: accepted, carried out cell by cell as ordinary jobs, and taken up again after a restart.

A few cells are in the queue at a time, in the script's order and those of the oldest script first, so that what else the user
wants is not behind all of it and the limit of the queue is not used up.  When all cells are over, the grid pictures are drawn
and saved.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from modules.errors import AtelierError, LimitError, QueueError, RequestError
from modules.queue.scripts import OVER, CellState, ScriptStore, StoredCell, StoredRun, job_key
from modules.pixels.enlarging import hires_upscalers
from modules.request import GenerationRequest
from modules.scripts.axes import Axis, Names, axes
from modules.scripts.detail import AREA, found_in, with_area
from modules.scripts.drawing import draw_sheets
from modules.scripts.host import Host
from modules.scripts.looping import from_picture_of
from modules.scripts.parsing import plan_of
from modules.scripts.plan import Fields, Plan, ScriptError
from modules.scripts.preview import Preview, preview_of
from modules.scripts.upscale import TILE, size_in, with_tile
from modules.scripts.views import RunView, view_of

log = logging.getLogger("atelier")

WINDOW = 8
"""Cells of one user's scripts that are in the queue at a time: as many as a device has in flight, twice."""
LOOK_SECONDS = 5.0
"""Until something that was refused (a full queue, a full disk) is tried again."""
MAX_BYTES = 16 << 20
"""Of what is kept of a script: prompts may be long, and cells many."""


class _Live:
    """A script under way: its record, and its cells as they are now."""

    def __init__(self, run: StoredRun, cells: Sequence[StoredCell]) -> None:
        self.run, self.cells = run, {cell.number: cell for cell in cells}
        self.order = [number for number in run.plan.get("order", []) if number in self.cells] or sorted(self.cells)
        self.drawing = False
        self.said = run.error

    @property
    def queued(self) -> list[StoredCell]:
        return [cell for cell in self.cells.values() if cell.state == "queued"]

    @property
    def over(self) -> bool:
        return all(cell.state in OVER for cell in self.cells.values())


class ScriptRuns:
    """All scripts of one data folder.  Any thread may call.

    Args:
        store: their records.
        host: the App, whose jobs the cells become.
        per_user: unfinished jobs that a user may have; scripts leave half of these places free.
    """

    def __init__(self, store: ScriptStore, host: Host, per_user: int = 2 * WINDOW) -> None:
        self.store, self._host, self.per_user = store, host, per_user
        self._lock = threading.RLock()
        self._live: dict[str, _Live] = {}
        self._woken, self._closing = threading.Event(), False
        self._thread: threading.Thread | None = None
        self._drawer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="script-sheets")
        self._unlisten: Callable[[], None] = lambda: None
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._listening = threading.Lock()

    # ---- before a script is begun

    def names(self) -> Names:
        host = self._host
        return Names(
            checkpoints=lambda: [info.name for info in host.checkpoints() if not info.problem],
            vaes=lambda: ["Automatic", "None", *(info.name for info in host.vaes() if not info.problem)],
            styles=lambda: list(host.library.styles()),
            upscalers=lambda: [*hires_upscalers(), *(info.name for info in host.upscalers() if not info.problem)],
            checkpoint=lambda name: host.checkpoint(name).name,
            vae=host.catalogue.vae,
            upscaler=lambda name: host.catalogue.upscaler(name, "hires.upscaler", hires_upscalers()),
        )

    def axes(self, image: bool) -> list[tuple[Axis, list[str] | None]]:
        """The axes of an X/Y/Z plot that can be used, with all that can be chosen, None where values are typed."""
        names = self.names()
        return [(axis, axis.choices(names)) for axis in axes(image) if not axis.missing]

    def plan(self, script: Mapping[str, Any], fields: Fields, user: str) -> Plan:
        """
        Raises:
            ScriptError: the script makes no sense; names the axis and value.
            RequestError: the fields make none.
        """

        def prepared(given: Fields) -> GenerationRequest:
            return self._host.prepared(given, user)

        looks = size_in(self._host, user), found_in(self._host, user)
        return plan_of(script, fields, self.names(), prepared, *looks)

    def preview(self, script: Mapping[str, Any], fields: Fields) -> Preview:
        """What `start` would make of it, whatever picture it starts from; `picture` in the script is its width and height.

        Raises:
            As `plan`.
        """
        plan = plan_of(script, fields, self.names(), self._host.complete, lambda fields: _size_said(script))
        return preview_of(plan, self._host.quote)

    # ---- users

    def start(self, script: Mapping[str, Any], fields: Fields, user: str, key: str = "") -> RunView:
        """Accept a script.  When this returns it is on disk and survives a restart; `key` as for `App.submit`.

        Raises:
            ScriptError, RequestError: as `plan`.
            LimitError: too many are under way.
            QueueError: it cannot be written.
        """
        plan = self.plan(script, fields, user)
        stored = {
            "script": plan.script,
            "base": plan.base,
            "columns": plan.columns,
            "rows": plan.rows,
            "sheets": plan.sheets,
            "order": plan.order,
            "items": dict(plan.items),
            "draw_legend": plan.draw_legend,
            "draw_sheet": plan.draw_sheet,
            "include_cells": plan.include_cells,
            "include_sub_sheets": plan.include_sub_sheets,
            "margin": plan.margin,
            "last_only": plan.last_only,
            "notes": plan.notes,
        }
        cells = [(cell.changes, cell.after) for cell in plan.cells]
        if (size := len(json.dumps([stored, cells]))) > MAX_BYTES:
            raise ScriptError(
                f"its cells have {size:,} characters of text altogether, and {MAX_BYTES:,} is the most; take fewer values"
            )
        with self._lock:
            run, new = self.store.add(stored, cells, user, key)
            if new:
                self._live[run.id] = _Live(run, self.store.cells(run.id))
        self._woken.set()
        view = self.run(run.id, user)
        assert view is not None
        return view

    def runs(self, user: str) -> list[StoredRun]:
        """One's own scripts, newest first."""
        return self.store.list_for(user)

    def run(self, run: str, user: str) -> RunView | None:
        """One's own script; None when there is none of that id."""
        with self._lock:
            found = self.store.get(run, user)
            if found is None:
                return None
            live = self._live.get(run)
            cells = list(live.cells.values()) if live else self.store.cells(run)
            drawing = live is not None and live.drawing
        return view_of(found, cells, drawing, lambda job: self._host.job(job, user))

    def unfinished(self, run: str) -> bool:
        """Whether a script is under way.  Waits for nothing, so that an event loop may ask: the lock is held while files are
        written."""
        return run in self._live

    def with_job(self, job_id: str | None, user: str) -> str | None:
        """The user's script under way that a job is a cell of; without a job the oldest one.  None where there is none."""
        with self._lock:
            mine = [live for live in self._live.values() if live.run.user == user]
            found = (live for live in mine if job_id is None or any(cell.job == job_id for cell in live.cells.values()))
            return next((live.run.id for live in found), None)

    def cancel(self, run: str, user: str) -> bool:
        """End one's own script under way; finished pictures stay.  False when there is no such one."""
        with self._lock:
            live = self._live.get(run)
            if live is None or live.run.user != user or not self.store.finish(run, "cancelled"):
                return False
            del self._live[run]
            queued = live.queued
        try:
            for cell in queued:
                self._host.cancel(cell.job, user)
        finally:
            self._announce()
        return True

    def again(self, run: str, user: str, numbers: Sequence[int] | None = None) -> bool:
        """Make cells once more that are over: these, or all that failed or were cancelled.  False when there is no such one.

        Raises:
            LimitError: the script is over, and too many others are under way.
            QueueError: it cannot be written.
        """
        with self._lock:
            found = self.store.get(run, user)
            if found is None:
                return False
            cells = self.store.cells(run)
            wanted = (
                set(numbers)
                if numbers is not None
                else {cell.number for cell in cells if cell.state in ("failed", "cancelled")}
            )
            wanted = _with_followers(cells, wanted)
            self.store.again(run, [cell.number for cell in cells if cell.number in wanted and cell.state in OVER])
            found = self.store.get(run, user)
            assert found is not None
            if found.state == "running":
                self._live[run] = _Live(found, self.store.cells(run))
        self._woken.set()
        return True

    def remove(self, run: str, user: str) -> bool:
        """Forget one's own script that is over; its pictures stay.  False when there is no such one."""
        return self.store.remove(run, user)

    def sheet(self, run: str, number: int, user: str) -> Mapping[str, Any] | None:
        """A grid picture of one's own script: name below the outputs folder, width, height, title."""
        found = self.store.get(run, user)
        return found.sheets[number] if found is not None and 0 <= number < len(found.sheets) else None

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called, on any thread, whenever a script ended; it must be quick and not raise.

        Returns how to end that.  Neither waits for anything, so that an event loop may call them.
        """
        with self._listening:
            self._listeners = (*self._listeners, listener)

        def end() -> None:
            with self._listening:
                self._listeners = tuple(one for one in self._listeners if one is not listener)

        return end

    # ---- the process

    def begin(self) -> None:
        """Take up what an earlier run left, and carry out what comes."""
        with self._lock:
            for run in self.store.running():
                self._live.setdefault(run.id, _Live(run, self.store.cells(run.id)))
        self._unlisten = self._host.listen(self._woken.set)
        self._thread = threading.Thread(target=self._loop, name="scripts", daemon=True)
        self._thread.start()
        self._woken.set()

    def close(self) -> None:
        """Stop; what is under way goes on with the next start."""
        self._closing = True
        self._woken.set()
        if self._thread is not None:
            self._unlisten()
            self._thread.join(timeout=30)
            self._thread = None
        self._drawer.shutdown(wait=True)
        self._announce()

    def _loop(self) -> None:
        while not self._closing:
            self._woken.wait(LOOK_SECONDS)
            self._woken.clear()
            self.look()

    def look(self) -> None:
        """Take in what jobs have come to, and submit what is next of each script."""
        with self._lock:
            lives = list(self._live.values())
        for live in lives:
            if self._closing:
                return
            try:
                with self._lock:
                    if self._live.get(live.run.id) is live:
                        self._take_in(live)
                        self._submit(live)
                        self._conclude(live)
            except AtelierError as error:
                log.warning("script %s: %s", live.run.id[:8], error)
            except Exception:  # one script must not hold up the others
                log.exception("script %s was not carried on", live.run.id[:8])

    def _take_in(self, live: _Live) -> None:
        user = live.run.user
        for cell in live.queued:
            if self._host.unfinished(cell.job):
                continue
            job = self._host.job(cell.job, user)
            if job is not None and not job.over:
                continue
            if job is None:
                self._set(live, cell, "failed", error="its job was removed from the list")
                continue
            pictures = [
                {"index": one.index, "seed": one.seed, "width": one.width, "height": one.height} for one in job.pictures
            ]
            state: CellState = "done" if job.state == "done" else "failed" if job.state == "failed" else "cancelled"
            self._set(live, cell, state, error=job.error, pictures=pictures)

    def _submit(self, live: _Live) -> None:
        same = (other for other in self._live.values() if other.run.user == live.run.user)
        room = min(WINDOW, max(1, self.per_user // 2)) - sum(len(other.queued) for other in same)
        for number in live.order:
            if room <= 0:
                return
            cell = live.cells[number]
            if cell.state != "waiting":
                continue
            before = live.cells.get(cell.after) if cell.after is not None else None
            lost = cell.after is not None and before is None  # it could not be taken over from a damaged list
            if lost or (before is not None and before.state in ("failed", "cancelled")):
                self._set(live, cell, "cancelled", error="the one before it was not finished")
                continue
            if before is not None and before.state != "done":
                continue
            try:
                fields = {**live.run.plan["base"], **cell.changes}
                if TILE in fields:
                    fields = with_tile(self._host, fields, live.run.user)
                if before is not None:
                    fields = from_picture_of(self._host, fields, before.job, live.run.user)
                if AREA in fields:
                    fields = with_area(self._host, fields, live.run.user)
                job = self._host.submit(fields, live.run.user, job_key(live.run.id, number, cell.attempt))
            except RequestError as error:
                self._set(live, cell, "failed", error=str(error))
                continue
            except LimitError as error:
                self._say(live, f"the queue is full: {error}")
                return
            except AtelierError as error:
                self._say(live, str(error))
                raise
            except Exception as error:  # or the script would never end, and who waits for it would wait for ever
                log.exception("while cell %d of script %s was submitted", number, live.run.id[:8])
                self._set(live, cell, "failed", error=f"it could not be submitted ({type(error).__name__}); the log says why")
                continue
            self._set(live, cell, "queued", job=job.id)
            self._say(live, "")
            room -= 1

    def _conclude(self, live: _Live) -> None:
        if not live.over or live.drawing:
            return
        live.drawing = True
        self._drawer.submit(self._draw, live)

    def _draw(self, live: _Live) -> None:
        run, cells = live.run, dict(live.cells)
        sheets, error = [], ""
        try:
            sheets = draw_sheets(self._host, run, cells)
        except QueueError:
            live.drawing = False
            return
        except AtelierError as problem:
            error = f"the grid could not be saved: {problem}"
        except Exception as problem:
            log.exception("while drawing a grid")
            error = f"the grid could not be drawn: {type(problem).__name__}"
        with self._lock:
            if self._live.get(run.id) is not live or not live.drawing:
                return
            try:
                self.store.finish(run.id, "done", sheets, error)
                del self._live[run.id]
            except QueueError as problem:
                log.warning("script %s: %s", run.id[:8], problem)
                live.drawing = False
        self._announce()

    def _set(
        self,
        live: _Live,
        cell: StoredCell,
        state: CellState,
        job: str | None = None,
        error: str = "",
        pictures: Sequence[dict[str, int]] = (),
    ) -> None:
        """Record first, then memory."""
        self.store.set_cell(live.run.id, cell.number, state, job, error, pictures, cell.attempt)
        job = cell.job if job is None else job
        live.cells[cell.number] = StoredCell(
            cell.number, cell.changes, cell.after, state, cell.attempt, job, error, tuple(pictures)
        )

    def _say(self, live: _Live, error: str) -> None:
        if live.said != error:
            self.store.say(live.run.id, error)
            live.said = error

    def _announce(self) -> None:
        for listener in self._listeners:
            listener()


def _size_said(script: Mapping[str, Any]) -> tuple[int, int] | None:
    """The size of a picture that a form says."""
    said = script.get("picture")
    sound = isinstance(said, list) and len(said) == 2 and all(isinstance(side, int) and side > 0 for side in said)
    return (said[0], said[1]) if isinstance(said, list) and sound else None


def _with_followers(cells: Sequence[StoredCell], wanted: set[int]) -> set[int]:
    """Also those that start from a picture of these."""
    found = set(wanted)
    for cell in sorted(cells, key=lambda one: one.number):
        if cell.after in found:
            found.add(cell.number)
    return found
