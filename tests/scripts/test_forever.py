"""Generate forever: a job that is painted and one that waits, over restarts, until its user or a failure ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modules.app import App
from modules.errors import LimitError, RequestError
from modules.scripts.forever import ForeverView
from modules.settings import Settings
from tests.scripted import ScriptedLink
from tests.tiny import tiny_checkpoint
from tests.ui.fake_app import FakeApp

ME = "me"
FIELDS: dict[str, Any] = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64}


@pytest.fixture
def app(tmp_path: Path) -> FakeApp:
    return FakeApp(tmp_path)


def look(app: FakeApp | App, user: str = ME) -> ForeverView:
    app.forever.look()
    view = app.forever.view(user)
    assert view is not None
    return view


def states(app: FakeApp) -> list[str]:
    return [job.state for _, job in app.records.values()]


def test_one_is_painted_and_one_waits_each_with_a_seed_of_its_own(app: FakeApp) -> None:
    first = app.forever.start(FIELDS, ME)
    assert (first.on, first.pictures, len(first.jobs), first.seed) == (True, 0, 1, None)
    look(app)
    assert states(app) == ["queued"], "the first waits: another one would only be longer in line"
    for made in range(1, 4):
        app.step(look(app).jobs[0], 1)
        assert len(look(app).jobs) == 2
        assert states(app)[-2:] == ["running", "queued"]
        look(app)
        assert len(app.records) == made + 1, "no more of them, however often it is looked at"
        app.finish_picture(look(app).jobs[0])
        assert look(app).pictures == made
    assert len({job.request.seed for _, job in app.records.values()}) == 4


def test_stop_finishes_what_is_painted_and_cancels_what_waits(app: FakeApp) -> None:
    app.forever.start({**FIELDS, "count": 2}, ME)
    app.step(look(app).jobs[0], 1)
    look(app)
    assert not app.forever.stop("you")
    assert app.forever.stop(ME)
    assert not app.forever.stop(ME), "once"
    assert states(app) == ["running", "cancelled"]
    app.finish_picture(next(iter(app.records)))
    app.finish_picture(next(iter(app.records)))
    view = look(app)
    assert (view.on, view.pictures, view.error, view.jobs) == (False, 2, "", ())
    assert len(app.records) == 2


def test_a_cancelled_job_is_followed_by_the_next_and_a_failed_one_ends_it(app: FakeApp) -> None:
    app.forever.start({**FIELDS, "seed": 7}, ME)
    app.cancel(look(app).jobs[0], ME)
    view = look(app)
    assert (view.on, view.seed, len(app.records)) == (True, 7, 2)
    app.fail(view.jobs[0], "a prediction is not finite")
    view = look(app)
    assert (view.on, view.error) == (False, "a prediction is not finite")
    look(app)
    assert len(app.records) == 2


def test_a_job_that_is_forgotten_does_not_hold_it_up(app: FakeApp) -> None:
    app.forever.start(FIELDS, ME)
    app.forget(look(app).jobs[0])
    assert len(look(app).jobs) == 1


def test_another_one_takes_its_place_and_what_makes_no_sense_leaves_it(app: FakeApp) -> None:
    app.forever.start(FIELDS, ME)
    with pytest.raises(RequestError, match="steps"):
        app.forever.start({**FIELDS, "steps": 0}, ME)
    assert look(app).on
    app.forever.start({**FIELDS, "prompt": "a dog"}, ME)
    assert states(app) == ["cancelled", "queued"]
    assert look(app).prompt == "a dog"
    app.forever.start(FIELDS, "you")
    assert look(app).on
    assert look(app, "you").on


def test_a_full_queue_is_waited_for(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    submit = app.submit

    def full(*given: Any) -> Any:
        raise LimitError("you have 50 jobs in the queue")

    app.forever.start(FIELDS, ME)
    app.step(look(app).jobs[0], 1)
    monkeypatch.setattr(app, "submit", full)
    view = look(app)
    assert (view.on, view.error) == (True, "you have 50 jobs in the queue")
    monkeypatch.setattr(app, "submit", submit)
    view = look(app)
    assert (view.error, len(view.jobs)) == ("", 2)


def test_what_cannot_be_made_any_more_ends_it(app: FakeApp) -> None:
    app.forever.start({**FIELDS, "checkpoint": "stickers"}, ME)
    app.step(look(app).jobs[0], 1)
    app.models.pop(0)
    view = look(app)
    assert not view.on
    assert "stickers" in view.error


def test_an_account_that_may_not_paint_any_more_ends_it(app: FakeApp) -> None:
    app.forever.start(FIELDS, ME)
    app.forever.let_in = lambda user: False
    view = look(app)
    assert (view.on, view.error) == (False, "the account may not paint any more")
    assert states(app) == ["cancelled"]


def test_it_goes_on_after_a_restart_and_the_next_key_finds_a_job_that_was_not_recorded(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    tiny_checkpoint(models / "tiny.safetensors")
    settings = Settings(data_dir=tmp_path / "data", models_dirs=(models,), outputs_dir=tmp_path / "out")
    first = App(settings, ScriptedLink())  # never started: nothing goes on by itself
    begun = first.forever.start(FIELDS, ME)
    run = first.store.forever.get(ME)
    assert run is not None
    lost = first.submit(FIELDS, ME, f"forever-{run.id}-1")  # stopped before it was recorded
    first.store.mark_running(begun.jobs[0])
    first.close()

    second = App(settings, ScriptedLink())
    for job in second.store.recover():
        second.service.live.take_up(job)
    second.forever._live = {run.user: run for run in second.store.forever.going()}  # as `begin`, without its thread
    try:
        assert look(second).jobs == begun.jobs, "which waits again"
        second.cancel(begun.jobs[0], ME)
        assert look(second).jobs == (lost.id,)
        assert second.forever.stop(ME)
        assert second.store.forever.going() == []
    finally:
        second.close()
