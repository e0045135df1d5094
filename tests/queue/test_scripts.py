"""Scripts in the job list: they survive a kill and a damaged file, and what cannot be read is passed over."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from modules.errors import LimitError
from modules.queue import scripts
from modules.queue.salvage import salvage
from modules.queue.store import JobStore

PLAN: dict[str, Any] = {
    "script": "xyz",
    "base": {"prompt": "a"},
    "columns": [[]],
    "rows": [[]],
    "sheets": [""],
    "order": [0, 1],
}
CELLS: list[tuple[dict[str, Any], int | None]] = [({"steps": 1}, None), ({"steps": 2}, 0)]


def test_a_script_is_there_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    store = JobStore(path)
    run, new = store.scripts.add(PLAN, CELLS, "anna", "key")
    assert new
    assert store.scripts.add(PLAN, CELLS, "anna", "key") == (run, False)
    store.scripts.set_cell(run.id, 0, "done", "job0", pictures=[{"index": 0, "seed": 7, "width": 64, "height": 64}])
    store._file.abandon()
    store = JobStore(path)
    assert store.scripts.running() == [run]
    first, second = store.scripts.cells(run.id)
    assert (first.state, first.job, first.pictures[0]["seed"]) == ("done", "job0", 7)
    assert (second.state, second.changes, second.after) == ("waiting", {"steps": 2}, 0)
    store.close()


def test_what_is_late_about_an_earlier_attempt_changes_nothing() -> None:
    store = JobStore(None)
    run, _ = store.scripts.add(PLAN, CELLS, "anna", "")
    store.scripts.set_cell(run.id, 0, "failed", "job0", "no memory")
    store.scripts.again(run.id, [0, 1])
    assert [(cell.state, cell.attempt) for cell in store.scripts.cells(run.id)] == [("waiting", 1), ("waiting", 0)]
    store.scripts.set_cell(run.id, 0, "done", "job0", attempt=0)
    assert store.scripts.cells(run.id)[0].state == "waiting"
    store.close()


def test_few_are_under_way_and_few_that_are_over_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "RUNNING", 2)
    monkeypatch.setattr(scripts, "KEPT", 1)
    store = JobStore(None)
    first, second = (store.scripts.add(PLAN, CELLS, "anna", "")[0] for _ in range(2))
    with pytest.raises(LimitError, match="2 scripts of yours"):
        store.scripts.add(PLAN, CELLS, "anna", "")
    berts = store.scripts.add(PLAN, CELLS, "bert", "")[0]
    assert store.scripts.finish(berts.id, "done")
    assert store.scripts.finish(first.id, "done")
    assert store.scripts.finish(second.id, "cancelled")
    assert not store.scripts.finish(second.id, "done")
    third = store.scripts.add(PLAN, CELLS, "anna", "")[0]
    assert [run.id for run in store.scripts.list_for("anna")] == [third.id, second.id]
    assert store.scripts.cells(first.id) == []
    assert [run.id for run in store.scripts.list_for("bert")] == [berts.id], "another user's do not count"
    store.close()


def test_scripts_are_taken_over_from_a_damaged_list(tmp_path: Path) -> None:
    damaged, fresh = JobStore(tmp_path / "damaged.sqlite"), JobStore(None)
    sound, torn, odd = (damaged.scripts.add(PLAN, CELLS, "anna", "")[0] for _ in range(3))
    damaged.close()
    db = sqlite3.connect(tmp_path / "damaged.sqlite")
    db.execute("UPDATE scripts SET plan = '{torn' WHERE id = ?", (torn.id,))
    db.execute("UPDATE scripts SET plan = '[1]' WHERE id = ?", (odd.id,))
    db.execute("UPDATE script_cells SET changes = 'torn' WHERE run = ? AND number = 1", (sound.id,))
    db.commit()
    db.close()
    salvage(tmp_path / "damaged.sqlite", fresh._file.db)
    assert fresh.scripts.running() == [sound]
    assert [cell.number for cell in fresh.scripts.cells(sound.id)] == [0]
    fresh.close()
