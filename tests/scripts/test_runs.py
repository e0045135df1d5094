"""Scripts as they are carried out: cells become jobs in their order, and survive restarts, refusals and failures."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modules.app import App
from modules.errors import LimitError, QueueError
from modules.images.infotext import parse
from modules.images.outputs import SavedImage
from modules.images.recipe import read_record
from modules.jobs.worker import engine_configuration
from modules.queue import scripts as scripts_module
from modules.queue.store import JobStore
from modules.scripts import drawing
from modules.scripts import runs as runs_module
from modules.scripts.plan import ScriptError
from modules.scripts.runs import ScriptRuns
from modules.scripts.views import RunView
from modules.settings import Settings
from tests.local import LocalLink
from tests.scripted import ScriptedLink
from tests.tiny import tiny_checkpoint
from tests.ui.fake_app import FakeApp

ME = "me"
FIELDS: dict[str, Any] = {"prompt": "a cat", "seed": 7, "steps": 4, "width": 64, "height": 64}
PLOT = {"name": "xyz", "x_type": "Steps", "x_values": "1-3", "y_type": "CFG Scale", "y_values": "5,7"}
PLAN: dict[str, Any] = {"script": "xyz", "base": {}, "columns": [[]], "rows": [[]], "sheets": [""], "order": [0]}
PATIENCE_S = 60
"""For waiting on states; nothing is measured."""


@pytest.fixture
def app(tmp_path: Path) -> FakeApp:
    return FakeApp(tmp_path)


def look(app: FakeApp, run: str) -> RunView:
    """The script after one look at its jobs, and any drawing done."""
    app.scripts.look()
    app.scripts._drawer.submit(lambda: None).result(PATIENCE_S)
    view = app.scripts.run(run, ME)
    assert view is not None
    return view


def states(view: RunView) -> list[str]:
    return [cell.state for cell in view.cells]


def finish_all(app: FakeApp, run: str) -> RunView:
    for _ in range(50):
        view = look(app, run)
        if view.state != "running":
            return view
        for cell in view.cells:
            if cell.state == "queued":
                app.finish_picture(cell.job)
    raise AssertionError(f"it never ended: {states(view)}")


def test_cells_are_jobs_a_few_at_a_time_in_order(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "WINDOW", 2)
    run = app.scripts.start(PLOT, FIELDS, ME)
    view = look(app, run.id)
    assert states(view) == ["queued", "queued", "waiting", "waiting", "waiting", "waiting"]
    app.finish_picture(view.cells[0].job)
    view = look(app, run.id)
    assert states(view) == ["done", "queued", "queued", "waiting", "waiting", "waiting"]
    assert view.progress == pytest.approx(1 / 6)
    finish_all(app, run.id)
    asked = [(job.request.steps, job.request.cfg_scale) for _, job in app.records.values()]
    assert asked == [(1, 5), (2, 5), (3, 5), (1, 7), (2, 7), (3, 7)]


def test_the_grid_is_saved_with_a1111s_keys(app: FakeApp) -> None:
    view = finish_all(app, app.scripts.start({**PLOT, "margin_size": 4}, FIELDS, ME).id)
    assert (view.state, view.error, len(view.sheets)) == ("done", "", 1)
    path = app.settings.outputs_dir / view.sheets[0]["name"]
    with Image.open(path) as image:
        assert image.width > 3 * 64 + 2 * 4
        items = parse(image.text["parameters"])  # type: ignore[attr-defined]
    assert {key: items[key] for key in ("Script", "X Type", "X Values", "Y Type", "Y Values")} == {
        "Script": "X/Y/Z plot",
        "X Type": "Steps",
        "X Values": "1-3",
        "Y Type": "CFG Scale",
        "Y Values": "5, 7",
    }
    assert read_record(path).job == view.id
    assert app.saved == [(view.sheets[0]["name"], ME)]  # for the gallery, and when its index is made anew:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert app.scripts.store.sheet_owners() == {view.sheets[0]["name"]: (ME, digest)}


def test_each_z_has_a_grid_and_all_together_have_one(app: FakeApp) -> None:
    script = {**PLOT, "z_type": "Seed", "z_values": "1,2", "include_sub_grids": True}
    view = finish_all(app, app.scripts.start(script, FIELDS, ME).id)
    assert [sheet["title"] for sheet in view.sheets] == ["", "Seed: 1", "Seed: 2"]
    assert view.sheets[0]["width"] == view.sheets[1]["width"] * 2
    alone = finish_all(app, app.scripts.start({**script, "include_sub_grids": False}, FIELDS, ME).id)
    assert len(alone.sheets) == 1


def test_grids_drawn_again_share_no_numbers_with_those_before(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a number that it had before, an older grid would be found and taken for the new one."""
    numbers: list[int] = []

    def save(pixels: bytes, width: int, height: int, info: object, job: str, index: int, when: float) -> SavedImage:
        numbers.append(index)
        return SavedImage(Path(), f"{index}.png", "", "", width, height)

    monkeypatch.setattr(app.outputs, "save", save)
    monkeypatch.setattr(drawing, "_info", lambda *_: None)
    monkeypatch.setattr(drawing, "MAX_SHEET_PIXELS", 1)  # a grid for each
    script = {"name": "xyz", "z_type": "Seed", "z_values": "1-205", "draw_legend": False}
    run = app.scripts.start(script, FIELDS, ME).id
    stored = app.scripts.store.get(run)
    assert stored is not None
    cells = {one.number: replace(one, pictures=({"width": 1, "height": 1},)) for one in app.scripts.store.cells(run)}
    for revision in (0, 1):
        drawing.draw_sheets(app, replace(stored, revision=revision), cells)
    assert len(set(numbers)) == len(numbers) == 2 * 205


def test_a_grid_of_grids_that_is_too_large_is_none(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MAX_SHEET_PIXELS", 6 * 64 * 64 + 1)
    view = finish_all(app, app.scripts.start({**PLOT, "z_type": "Seed", "z_values": "1,2"}, FIELDS, ME).id)
    assert [sheet["title"] for sheet in view.sheets] == ["Seed: 1", "Seed: 2"]


def test_a_cell_that_fails_keeps_no_other_from_its_picture_and_can_be_made_again(app: FakeApp) -> None:
    run = app.scripts.start(PLOT, FIELDS, ME).id
    app.fail(look(app, run).cells[1].job, "the engine died twice")
    view = finish_all(app, run)
    assert view.state == "done"
    assert states(view) == ["done", "failed", "done", "done", "done", "done"]
    assert view.cells[1].error == "the engine died twice"
    first = view.sheets
    assert app.scripts.again(run, ME)
    assert states(look(app, run))[1] == "queued"
    view = finish_all(app, run)
    assert states(view) == ["done"] * 6
    assert len(app.records) == 7
    assert view.sheets != first
    assert (app.settings.outputs_dir / view.sheets[0]["name"]).exists()


def test_one_cell_is_made_again_by_a_job_of_its_own(app: FakeApp) -> None:
    run = app.scripts.start(PLOT, FIELDS, ME).id
    before = finish_all(app, run).cells[4].job
    assert app.scripts.again(run, ME, [4])
    view = finish_all(app, run)
    assert view.cells[4].job != before
    assert len(app.records) == 7


def test_a_request_that_is_refused_fails_its_cell_alone(app: FakeApp) -> None:
    script = {"name": "xyz", "x_type": "Checkpoint name", "x_values": "stickers, big/landscapes"}
    run = app.scripts.start(script, FIELDS, ME).id
    app.models = app.models[:1]  # its file went away
    view = finish_all(app, run)
    assert states(view) == ["done", "failed"]
    assert "big/landscapes" in view.cells[1].error


def test_an_unexpected_error_fails_its_cell_alone_and_the_script_ends(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    submit = app.submit

    def failing(fields: dict[str, Any], user: str, key: str = "") -> Any:
        if fields["steps"] == 2:
            raise ZeroDivisionError
        return submit(fields, user, key)

    monkeypatch.setattr(app, "submit", failing)
    view = finish_all(app, app.scripts.start({**PLOT, "y_type": "Nothing"}, FIELDS, ME).id)
    assert states(view) == ["done", "failed", "done"]
    assert "ZeroDivisionError" in view.cells[1].error


def test_a_loop_whose_one_before_was_lost_does_not_start_from_another_picture(app: FakeApp) -> None:
    """A list that was damaged keeps the cells that could be read."""
    store = app.scripts.store
    run, _ = store.add({**PLAN, "base": FIELDS}, [({}, None), ({}, 0)], ME, "")
    with store._file.transaction() as db:
        db.execute("DELETE FROM script_cells WHERE number = 0")
    app.scripts = again = ScriptRuns(store, app)
    again.begin()
    try:
        assert states(look(app, run.id)) == ["cancelled"]
    finally:
        again.close()


def test_cancel_ends_all_of_it(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "WINDOW", 2)
    run = app.scripts.start(PLOT, FIELDS, ME).id
    app.finish_picture(look(app, run).cells[0].job)
    look(app, run)
    assert not app.scripts.cancel(run, "somebody else")
    assert app.scripts.cancel(run, ME)
    view = look(app, run)
    assert view.state == "cancelled"
    assert states(view) == ["done", *["cancelled"] * 5]
    assert [job.state for _, job in app.records.values()] == ["done", "cancelled", "cancelled"]
    assert not app.scripts.cancel(run, ME)
    assert app.scripts.again(run, ME)
    assert states(finish_all(app, run)) == ["done"] * 6


def test_an_event_loop_may_ask_and_listen_while_a_cell_is_submitted(app: FakeApp) -> None:
    """Submitting writes files under the lock; who waits for a script's end must not wait for that."""
    run = app.scripts.start(PLOT, FIELDS, ME).id
    asked = threading.Event()

    def ask() -> None:
        end = app.scripts.listen(lambda: None)
        if app.scripts.unfinished(run):
            end()
            asked.set()

    with app.scripts._lock:
        threading.Thread(target=ask, daemon=True).start()
        assert asked.wait(PATIENCE_S), "the question waits for the lock"


def test_a_script_and_its_cells_are_cancelled_in_one_step(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stops in between leaves no cell that seems to be in the queue for ever."""
    run = app.scripts.start(PLOT, FIELDS, ME).id
    look(app, run)

    def refuse(job_id: str, user: str) -> bool:
        raise QueueError("the disk is full")

    monkeypatch.setattr(app, "cancel", refuse)
    with pytest.raises(QueueError):
        app.scripts.cancel(run, ME)
    assert {cell.state for cell in app.scripts.store.cells(run)} == {"cancelled"}


def test_a_full_queue_is_waited_for(app: FakeApp) -> None:
    app.limit = 2
    run = app.scripts.start(PLOT, FIELDS, ME).id
    view = look(app, run)
    assert states(view).count("queued") == 2
    assert "wait" in view.error
    app.limit = 0
    view = look(app, run)
    assert states(view) == ["queued"] * 6
    assert view.error == ""


def test_scripts_leave_places_for_other_jobs(app: FakeApp) -> None:
    app.scripts = ScriptRuns(app.scripts.store, app, per_user=6)
    first, second = (app.scripts.start(PLOT, FIELDS, ME).id for _ in range(2))
    assert states(look(app, first)).count("queued") == 3
    assert states(look(app, second)).count("queued") == 0
    finish_all(app, first)
    assert states(look(app, second)).count("queued") == 3


def test_another_start_goes_on_and_makes_no_cell_twice(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs are there; what the last process knew of them beside its records is lost."""
    monkeypatch.setattr(runs_module, "WINDOW", 3)
    run = app.scripts.start(PLOT, FIELDS, ME).id
    app.finish_picture(look(app, run).cells[0].job)
    recorded = app.scripts.store.set_cell
    monkeypatch.setattr(app.scripts.store, "set_cell", lambda *_, **__: None)  # stops before it has recorded anything more
    look(app, run)
    monkeypatch.setattr(app.scripts.store, "set_cell", recorded)
    made = len(app.records)
    app.scripts = again = ScriptRuns(app.scripts.store, app)
    again.begin()
    try:
        view = finish_all(app, run)
    finally:
        again.close()
    assert states(view) == ["done"] * 6
    assert made == 4
    assert len(app.records) == 6


def test_a_user_has_a_limit_of_scripts_also_of_those_begun_again(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts_module, "RUNNING", 1)
    first = app.scripts.start(PLOT, FIELDS, ME).id
    with pytest.raises(LimitError, match="1 scripts of yours are under way already"):
        app.scripts.start(PLOT, FIELDS, ME)
    assert app.scripts.again(first, ME)  # under way it counts itself
    app.scripts.cancel(first, ME)
    app.scripts.start(PLOT, FIELDS, ME)
    with pytest.raises(LimitError):
        app.scripts.again(first, ME)
    view = app.scripts.run(first, ME)
    assert view is not None
    assert view.state == "cancelled"


def test_the_same_key_is_the_same_script(app: FakeApp) -> None:
    one, other = (app.scripts.start(PLOT, FIELDS, ME, "key").id for _ in range(2))
    assert one == other
    assert app.scripts.start(PLOT, FIELDS, ME).id != one
    assert app.scripts.run(one, "somebody else") is None
    assert [run.id for run in app.scripts.runs("somebody else")] == []


def test_what_is_over_is_forgotten_on_demand_with_its_pictures_kept(app: FakeApp) -> None:
    run = app.scripts.start(PLOT, FIELDS, ME).id
    assert not app.scripts.remove(run, ME)
    view = finish_all(app, run)
    assert app.scripts.remove(run, ME)
    assert app.scripts.run(run, ME) is None
    assert (app.settings.outputs_dir / view.sheets[0]["name"]).exists()


def test_loops_start_from_the_picture_before(app: FakeApp) -> None:
    source = app.keep_upload(_png((64, 64)), ME).id
    mask = app.keep_upload(_png((64, 64), "white"), ME).id
    fields = {**FIELDS, "width": 128, "source": source, "mask": mask, "denoising_strength": 0.4, "outpaint_left": 64}
    run = app.scripts.start({"name": "loopback", "loops": 2, "final_denoising_strength": 0.8}, fields, ME).id
    assert states(look(app, run)) == ["queued", "waiting"]
    view = finish_all(app, run)
    first, second = (app.records[cell.job][1].request for cell in view.cells)
    with Image.open(app.records[view.cells[0].job][1].pictures[0].path) as image:
        assert app.keep_upload(_bytes(image), ME).id == second.pictures["init"]
    assert first.pictures["init"] == source
    assert (first.outpaint_left, second.outpaint_left) == (64, 0)
    with Image.open(app.uploads.path(second.pictures["mask"], ME)) as mask_image:
        assert mask_image.size == (128, 64)
    assert (first.denoising_strength, second.denoising_strength) == (0.4, 0.8)


def test_loops_of_many_pictures_are_one_script_that_keeps_all_of_them(app: FakeApp) -> None:
    red, blue, mask = (app.keep_upload(_png((64, 64), colour), ME).id for colour in ("red", "blue", "white"))
    first = {**FIELDS, "source": red, "mask": mask, "denoising_strength": 0.4}
    second = {**FIELDS, "source": blue, "mask": None, "denoising_strength": 0.4, "prompt": "a dog", "width": 128, "count": 2}
    script = {"name": "loopback", "loops": 2, "final_denoising_strength": 0.8}
    view = app.scripts.start(script, first, ME, "", [first, second])
    run = app.scripts.store.get(view.id)
    assert run is not None
    assert set(run.plan["uploads"]) == {red, blue, mask}
    view = finish_all(app, view.id)
    assert (view.state, view.error, len(view.sheets), len(view.plan["rows"])) == ("done", "", 0, 3)
    requests = [app.records[cell.job][1].request for cell in view.cells]
    assert [(one.prompt, one.width, one.seed, one.denoising_strength) for one in requests] == [
        ("a cat", 64, 7, 0.4), ("a cat", 64, 8, 0.8),
        ("a dog", 128, 7, 0.4), ("a dog", 128, 8, 0.8), ("a dog", 128, 9, 0.4), ("a dog", 128, 10, 0.8),
    ]  # fmt: skip
    assert [one.source for one in requests[::2]] == [red, blue, blue]
    assert [one.mask is not None for one in requests] == [True, True, False, False, False, False]
    assert not {red, blue} & {one.source for one in requests[1::2]}
    with pytest.raises(ScriptError, match="carried out with one picture; Loopback takes many"):
        app.scripts.start({"name": "matrix"}, first, ME, "", [first, second])


def test_a_loop_that_fails_ends_those_behind_it(app: FakeApp) -> None:
    source = app.keep_upload(_png((64, 64)), ME).id
    run = app.scripts.start({"name": "loopback", "loops": 3}, {**FIELDS, "source": source}, ME).id
    app.fail(look(app, run).cells[0].job, "no memory")
    view = look(app, run)
    assert states(view) == ["failed", "cancelled", "cancelled"]
    view = look(app, run)
    assert view.state == "done"


def test_a_preview_counts_and_asks_for_no_picture(app: FakeApp) -> None:
    found = app.scripts.preview({**PLOT, "z_type": "Seed", "z_values": "1-4"}, {**FIELDS, "count": 2})
    assert (found.cells, found.pictures, found.columns, found.rows, found.sheets, found.seconds) == (24, 48, 3, 2, 4, None)
    loops = app.scripts.preview({"name": "loopback", "loops": 3}, {**FIELDS, "source": "0" * 64})
    assert loops.cells == 3


def test_jobs_of_remembered_scripts_outlive_the_history(tmp_path: Path) -> None:
    app = FakeApp(tmp_path)
    store = JobStore(None, history=1)
    request = app.complete(FIELDS)
    cell, other, last = (store.add(request, ME).id for _ in range(3))
    run, _ = store.scripts.add(PLAN, [({}, None)], ME, "")
    store.scripts.set_cell(run.id, 0, "queued", cell)
    for job in (cell, other, last):
        store.finish(job, "done")
    assert [store.get(job) is not None for job in (cell, other, last)] == [True, False, True]
    store.close()


# ---- with an engine


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "models").mkdir()
    tiny_checkpoint(tmp_path / "models" / "tiny.safetensors")
    return Settings(
        data_dir=tmp_path / "data", models_dirs=(tmp_path / "models",), outputs_dir=tmp_path / "out", jobs_per_user=3
    )


@pytest.fixture
def opened() -> Iterator[Callable[[App], App]]:
    apps: list[App] = []

    def start(app: App) -> App:
        apps.append(app)
        app.start()
        return app

    yield start
    for app in apps:
        app.close()


def test_a_restart_in_the_middle_completes_the_grid(settings: Settings, opened: Callable[[App], App]) -> None:
    """An engine that paints nothing, then the program stops; the next one paints."""
    link = ScriptedLink()
    first = opened(App(settings, link))
    link.hello()
    run = first.scripts.start(PLOT, {**FIELDS, "steps": 1}, ME).id
    first.scripts.look()
    before = {cell.job for cell in first.scripts.run(run, ME).cells if cell.job}  # type: ignore[union-attr]
    assert before
    first.close()

    ended = threading.Event()
    second = App(settings, LocalLink(engine_configuration(settings)))
    second.scripts.listen(ended.set)
    opened(second)
    assert second.scripts.unfinished(run) or ended.is_set()
    assert ended.wait(PATIENCE_S), second.scripts.run(run, ME)
    view = second.scripts.run(run, ME)
    assert view is not None
    assert states(view) == ["done"] * 6
    assert before <= {cell.job for cell in view.cells}
    assert len(second.jobs(ME)) == 6
    path = settings.outputs_dir / view.sheets[0]["name"]
    items = parse(read_infotext(path))
    assert (items["Script"], items["Model"], items["X Values"]) == ("X/Y/Z plot", "tiny", "1-3")


def read_infotext(path: Path) -> str:
    with Image.open(path) as image:
        return str(image.text["parameters"])  # type: ignore[attr-defined]


def _png(size: tuple[int, int], colour: str = "teal") -> bytes:
    return _bytes(Image.new("RGB", size, colour))


def _bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
