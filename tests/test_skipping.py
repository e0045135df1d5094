"""Giving up one picture of a job, waiting for jobs, and letting go of models, before an engine whose words the test says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modules.app import App
from modules.settings import Settings
from tests.scripted import ScriptedLink
from tests.tiny import tiny_checkpoint

SMALL = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    return folder


@pytest.fixture
def link() -> ScriptedLink:
    return ScriptedLink()


@pytest.fixture
def app(models: Path, tmp_path: Path, link: ScriptedLink) -> Iterator[App]:
    app = App(Settings(data_dir=tmp_path / "data", models_dirs=(models,), outputs_dir=tmp_path / "out"), link)
    app.start()
    link.hello()
    yield app
    app.close()


def over(app: App, job: str) -> str:
    return [view.state for view in app.events(job, "me")][-1]


def test_skip_finishes_the_picture_nearest_its_end(app: App, link: ScriptedLink) -> None:
    job = app.submit({**SMALL, "count": 3}, "me").id
    link.step(f"{job}.1")
    assert app.skip(job, "me")
    assert link.tasks("finish") == [f"{job}.1"]
    for index in (1, 0, 2):
        link.done(f"{job}.{index}")
    assert over(app, job) == "done"
    view = app.job(job, "me")
    assert view is not None
    assert [picture.index for picture in view.pictures] == [0, 1, 2]


def test_interrupt_finishes_what_is_painted_and_begins_nothing_else(app: App, link: ScriptedLink) -> None:
    job = app.submit({**SMALL, "count": 100}, "me").id
    flying = link.flying()
    assert 0 < len(flying) < 100
    assert app.interrupt(job, "me")
    assert link.tasks("finish") == flying
    for task in flying:
        link.done(task)
    assert over(app, job) == "done"
    assert link.flying() == []
    view = app.job(job, "me")
    assert view is not None
    assert len(view.pictures) == len(flying)
    assert not app.interrupt(job, "me")


def test_what_was_interrupted_is_not_gone_on_with_after_a_restart(app: App, link: ScriptedLink) -> None:
    half = app.submit({**SMALL, "count": 2}, "me").id
    link.done(f"{half}.0")
    app.service.settle(60)
    none = app.submit({**SMALL, "count": 2}, "me").id
    assert app.interrupt(half, "me")
    assert app.interrupt(none, "me")
    app.close()  # with pictures of both in flight
    again = ScriptedLink()
    second = App(app.settings, again)
    second.start()
    again.hello()
    try:
        states = [(view.state, view.done) for job in (half, none) if (view := second.job(job, "me"))]
        assert states == [("done", 1), ("cancelled", 0)]
        assert again.flying() == []
        assert second.retry(none, "me"), "a cancelled job can be tried again"
        assert again.flying() == [f"{none}.0", f"{none}.1"]
    finally:
        second.close()


def test_interrupting_a_job_that_waits_cancels_it(app: App, link: ScriptedLink) -> None:
    app.pause("me", True)
    job = app.submit(SMALL, "me").id
    assert app.interrupt(job, "me")
    assert over(app, job) == "cancelled"


def test_what_was_to_be_finished_is_finished_at_once_by_the_next_engine_too(app: App, link: ScriptedLink) -> None:
    job = app.submit({**SMALL, "count": 2}, "me").id
    assert app.skip(job, "me")
    (skipped,) = link.tasks("finish")
    link.died()
    link.hello()
    while skipped not in link.flying():
        link.done(link.flying()[0])
    assert link.tasks("finish") == [skipped]


def test_every_picture_of_a_job_can_be_skipped(app: App, link: ScriptedLink) -> None:
    job = app.submit({**SMALL, "count": 2}, "me").id
    assert app.skip(job, "me")
    assert app.skip(job, "me")
    assert not app.skip(job, "me"), "all are about to be finished"
    assert sorted(link.tasks("finish")) == [f"{job}.0", f"{job}.1"]
    link.done(f"{job}.0")
    link.done(f"{job}.1")
    assert over(app, job) == "done"


def test_another_users_picture_cannot_be_skipped(app: App, link: ScriptedLink) -> None:
    job = app.submit(SMALL, "me").id
    assert not app.skip(job, "you")
    assert not app.skip("0" * 32, "me")
    assert link.flying() == [f"{job}.0"]


def test_what_waits_behind_a_pause_is_not_skipped(app: App, link: ScriptedLink) -> None:
    app.pause("me", True)
    job = app.submit(SMALL, "me").id
    assert not app.skip(job, "me")
    assert app.unfinished(job)


def test_unload_and_load_reach_the_engine(app: App, link: ScriptedLink) -> None:
    app.unload()
    app.preload()
    assert [(m.kind, m.data) for m in link.sent[-2:]] == [("unload", {}), ("load", {"checkpoint": "tiny"})]
