"""Engines that are started anew on purpose, and deaths that extensions are blamed for: jobs are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modules.app import App
from modules.engine.extensions import uses_path
from modules.engine.messages import Message
from modules.settings import Settings
from tests.extensions.writing import EMPTY, SAMPLER, write_extension
from tests.scripted import ScriptedLink

ASKED = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64}


@pytest.fixture
def link() -> ScriptedLink:
    return ScriptedLink()


@pytest.fixture
def app(settings: Settings, link: ScriptedLink, tmp_path: Path) -> Iterator[App]:
    from dataclasses import replace

    write_extension(tmp_path / "ext", "glow", engine=EMPTY)
    write_extension(tmp_path / "ext", "zig", SAMPLER.format("Zig zag"))
    app = App(replace(settings, extensions_dir=tmp_path / "ext"), link)
    app.start()
    link.hello()
    yield app
    app.close()


def test_switching_an_engine_half_starts_the_engine_anew_and_keeps_the_jobs(app: App, link: ScriptedLink) -> None:
    jobs = [app.submit({**ASKED, "count": 2}, "me").id for _ in range(2)]
    before = link.tasks()
    assert len(before) == 4
    for _ in range(3):  # so often that an engine that died would have been blamed
        app.extensions.disable("glow")
        assert app.engine().state == "restarting"
        link.hello()
        assert link.tasks() == before, "the same images in the same order, all at once: none is suspected"
        app.extensions.enable("glow")
        link.hello()
    assert link.restarts == ["the extension glow was switched off", "the extension glow was switched on"] * 3
    for task in link.tasks():
        link.done(task)
    app.service.settle(60)
    assert [(view.state, view.done) for view in (app.job(job, "me") for job in jobs) if view] == [("done", 2)] * 2


def died_with_glow(app: App, link: ScriptedLink) -> None:
    path = uses_path(app.settings.data_dir, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("glow\n")
    link.died()
    link.hello()


def test_a_job_is_tried_without_the_extension_that_is_suspended(app: App, link: ScriptedLink) -> None:
    job = app.submit(ASKED, "me").id
    died_with_glow(app, link)
    died_with_glow(app, link)
    assert app.extensions.find("glow").state == "suspended"
    assert "glow" not in [found.name for found in app.extensions.in_engine()]
    view = app.job(job, "me")
    assert view is not None
    assert view.state == "running", "it is not given up"
    assert link.tasks() == [f"{job}.0"]
    link.died()
    app.service.settle(60)
    view = app.job(job, "me")
    assert view is not None
    assert (view.state, "it was tried twice" in view.error) == ("failed", True), "without an extension it is its own fault"


def test_what_an_engine_says_of_extensions_is_heard(app: App, link: ScriptedLink) -> None:
    link.say(Message("extension-loaded", {"extension": "glow", "hooks": ["denoiser_wrappers"]}))
    assert app.extensions.find("glow").hooks == ("denoiser_wrappers",)
    for _ in range(3):
        link.say(
            Message("extension-raised", {"extension": "glow", "hook": "denoiser_wrappers", "error": "ValueError: no light"})
        )
    assert app.extensions.find("glow").state == "failed"
    assert [message.data for message in link.sent if message.kind == "drop-extension"] == [{"extension": "glow"}]
    assert link.restarts == []


def test_jobs_whose_sampler_went_with_its_extension_are_shown_and_saved(app: App, link: ScriptedLink) -> None:
    with_hires = {**ASKED, "sampler": "Zig zag", "hires": {"width": 96, "height": 96, "steps": 2, "denoising_strength": 0.5}}
    jobs = [app.submit(fields, "me").id for fields in ({**ASKED, "sampler": "Zig zag"}, with_hires)]
    app.extensions.disable("zig")
    assert [view.id for view in app.jobs("me")] == jobs[::-1]
    assert len(app.queue("me").jobs) == 2
    link.step(f"{jobs[0]}.0")
    link.done(f"{jobs[0]}.0")
    link.failed(f"{jobs[1]}.0", "Sampler 'Zig zag' is not here.")
    app.service.settle(60)
    assert [view.state for view in app.jobs("me")] == ["failed", "done"]
