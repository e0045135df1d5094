"""Image hooks: a picture is changed before it is saved and told of after, its record says so, and failures name who failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modules.app import App
from modules.extensions.isolation import ISOLATION
from modules.hooks import HOOKS, hookimpl
from modules.images.recipe import read_record
from modules.jobs.image_hooks import Finished, ImageHook, Saved
from modules.settings import Settings
from tests.scripted import ScriptedLink

SMALL: dict[str, Any] = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64, "checkpoint": "tiny"}


class Framed:
    """Puts a white frame around a picture of more pixels, and remembers what was saved."""

    def __init__(self, answer: Any = None, raises_after: bool = False) -> None:
        self.answer, self.raises_after = answer, raises_after
        self.saved: list[Saved] = []

    @hookimpl
    def image_hooks(self) -> list[ImageHook]:
        return [ImageHook("Framed", self.before, self.after)]

    def before(self, finished: Finished) -> Finished:
        if self.answer is not None:
            return finished.changed(self.answer)
        assert not finished.pixels.flags.writeable
        assert finished.user == "me"
        return finished.changed(np.pad(finished.pixels, ((8, 8), (8, 8), (0, 0)), constant_values=255), "framed")

    def after(self, saved: Saved) -> None:
        if self.raises_after:
            raise RuntimeError("nobody listens")
        self.saved.append(saved)


@contextmanager
def one_picture(settings: Settings, plugin: object | None = None) -> Iterator[tuple[App, Any]]:
    """The view of a job of one black picture that is over."""
    link = ScriptedLink()
    app = App(settings, link)
    app.start()
    link.hello()
    try:
        job = app.submit(SMALL, "me").id
        if plugin is None:
            link.done(f"{job}.0")
            app.service.settle()
        else:
            with HOOKS.registered(plugin, "framed"):
                link.done(f"{job}.0")
                app.service.settle()
        yield app, app.job(job, "me")
    finally:
        app.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    from tests.tiny import tiny_checkpoint

    (tmp_path / "models").mkdir()
    tiny_checkpoint(tmp_path / "models" / "tiny.safetensors")
    return Settings(data_dir=tmp_path / "data", models_dirs=(tmp_path / "models",), outputs_dir=tmp_path / "out")


def file_of(settings: Settings) -> Path:
    (file,) = settings.outputs_dir.rglob("*.png")
    return file


def notes_of(file: Path) -> str:
    return str(read_record(file.read_bytes()).info.facts.get("notes", ""))


def test_a_picture_is_changed_before_it_is_saved_and_told_of_after(settings: Settings) -> None:
    plugin = Framed()
    with one_picture(settings, plugin) as (_, job):
        assert job.state == "done"
    file = file_of(settings)
    pixels = np.asarray(Image.open(file))
    assert pixels.shape == (80, 80, 3)
    assert (pixels[8:72, 8:72] == 0).all()
    assert (pixels[:8] == 255).all()
    assert notes_of(file) == "framed"
    (saved,) = plugin.saved
    assert (saved.image.path, saved.image.width, saved.user) == (file, 80, "me")
    assert saved.info.request.prompt == "a cat"


@pytest.mark.parametrize(
    "plugin",
    [Framed(answer=np.zeros((4, 4), np.uint8)), Framed(answer=np.zeros((4, 4, 3))), Framed(answer="black")],
    ids=["grey", "floats", "no pixels"],
)
def test_nonsense_is_left_out_and_said(settings: Settings, plugin: Framed) -> None:
    with one_picture(settings, plugin) as (_, job):
        assert job.state == "done"
    assert np.asarray(Image.open(file_of(settings))).shape == (64, 64, 3)
    assert "the extension framed failed in image_hooks" in notes_of(file_of(settings))


def test_a_picture_fails_where_its_extension_says_so(settings: Settings) -> None:
    ISOLATION.declare("framed", "fail")
    try:
        with one_picture(settings, Framed(answer="black")) as (_, job):
            assert job.state == "failed"
            assert "framed" in job.error
    finally:
        ISOLATION.declare("framed", "without")
    assert list(settings.outputs_dir.rglob("*.png")) == []


def test_what_raises_after_the_saving_changes_nothing(settings: Settings) -> None:
    with one_picture(settings, Framed(raises_after=True)) as (_, job):
        assert job.state == "done"
    assert notes_of(file_of(settings)) == "framed"


def test_without_an_extension_the_bytes_are_the_engines(settings: Settings) -> None:
    with one_picture(settings) as (_, job):
        assert job.state == "done"
    assert notes_of(file_of(settings)) == ""
    assert (np.asarray(Image.open(file_of(settings))) == 0).all()
