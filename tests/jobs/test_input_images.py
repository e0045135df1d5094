"""The pictures that jobs start from: whose they are, how long they stay, and that a recipe finds them again."""

from __future__ import annotations

import io
import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modules.app import App
from modules.errors import LimitError, RequestError
from modules.images.recipe import read_recipe
from modules.images.uploads import LEAST
from modules.jobs.views import JobView
from modules.jobs.worker import engine_configuration
from modules.request import Img2Img
from modules.settings import Settings
from tests.local import LocalLink
from tests.scripted import ScriptedLink
from tests.tiny import tiny_checkpoint

SMALL: dict[str, Any] = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64, "sampler": "Euler"}


def png(shade: int = 0, size: tuple[int, int] = (64, 64)) -> bytes:
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    image.putpixel((0, 0), (shade, 0, 0))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def mask(size: tuple[int, int] = (64, 64)) -> bytes:
    image = Image.new("L", size)
    image.paste(255, (16, 16, 48, 48))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    return folder


@pytest.fixture
def settings(models: Path, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", models_dirs=(models,), outputs_dir=tmp_path / "outputs")


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    yield app
    app.close()


@pytest.fixture
def link() -> ScriptedLink:
    return ScriptedLink()


@pytest.fixture
def scripted(settings: Settings, link: ScriptedLink) -> Iterator[App]:
    app = App(settings, link)
    app.start()
    yield app
    app.close()


def settled(app: App) -> None:
    """What waits for the sender's thread has been sent."""
    app.service.sender.settle()


def finish(app: App, view: JobView) -> JobView:
    *_, last = app.events(view.id, "me")
    assert last.state == "done", last.error
    return last


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_an_inpaint_comes_out_and_its_recipe_paints_it_again_elsewhere(app: App, settings: Settings, tmp_path: Path) -> None:
    """As `generate --from` does it: a fresh App, an empty data folder, and the picture with what lies beside it."""
    start = {"source": app.keep_upload(png(), "me").id, "mask": app.keep_upload(mask(), "me").id}
    picture = finish(app, app.submit({**SMALL, **start, "denoising_strength": 0.6}, "me")).pictures[0]
    assert sorted(path.stem for path in (settings.outputs_dir / "sources").iterdir()) == sorted(start.values())
    recipe = read_recipe(picture.path)
    assert recipe.fields["source"] == start["source"]

    other = replace(settings, data_dir=tmp_path / "data2", outputs_dir=tmp_path / "outputs2")
    second = App(other, LocalLink(engine_configuration(other)), durable=False)
    second.start()
    try:
        fields = {**recipe.fields, "checkpoint": "tiny"}
        with pytest.raises(RequestError, match="not here"):
            second.submit(fields, "me")
        second.input_images.adopt(fields, "me", picture.path)
        again = finish(second, second.submit(fields, "me")).pictures[0]
        assert np.abs(pixels(again.path) - pixels(picture.path)).max() <= 1
    finally:
        second.close()


def test_a_recipe_whose_source_is_nowhere_says_where_it_was_looked_for(scripted: App, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cat\.png was painted from a picture \(mask 000000000000\).*sources"):
        scripted.input_images.adopt(
            {"source": scripted.keep_upload(png(), "me").id, "mask": "0" * 64}, "me", tmp_path / "cat.png"
        )


def test_what_lies_beside_the_outputs_must_have_the_pixels_of_its_name(app: App, settings: Settings, tmp_path: Path) -> None:
    """A file that was exchanged is not painted from."""
    source = app.keep_upload(png(1), "me").id
    beside = settings.outputs_dir / "sources"
    beside.mkdir(exist_ok=True)
    (beside / f"{source}.png").write_bytes(png(2))
    with pytest.raises(RequestError, match="in none of"):
        app.input_images.adopt({"source": source}, "command line", tmp_path / "x.png")


def test_sources_are_not_kept_where_nobody_wants_them(settings: Settings) -> None:
    settings = replace(settings, keep_sources=False)
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    try:
        finish(app, app.submit({**SMALL, "source": app.keep_upload(png(), "me").id}, "me"))
        assert not (settings.outputs_dir / "sources").exists()
    finally:
        app.close()


def test_a_private_picture_leaves_no_source_beside_it(app: App, settings: Settings) -> None:
    finish(app, app.submit({**SMALL, "source": app.keep_upload(png(), "me").id, "private": True}, "me"))
    assert not (settings.outputs_dir / "sources").exists()


def test_only_ones_own_pictures_are_painted_from(scripted: App) -> None:
    mine = scripted.keep_upload(png(), "me").id
    for fields, user in (({"source": mine}, "you"), ({"source": "0" * 64}, "me"), ({"source": mine, "mask": "1" * 64}, "me")):
        with pytest.raises(RequestError, match="not here"):
            scripted.submit({**SMALL, **fields}, user)
    assert scripted.submit({**SMALL, "source": mine}, "me").state == "queued"
    assert scripted.upload_path(mine, "you") is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"source": "cat.png"}, "source: must be the id of a picture that was sent before"),
        ({"source": 7}, "source: must be the id"),
        ({"box": (1, 2, 3)}, "x, y, width, height, (1, 2, 3) was given"),
        ({"box": ("a", -1, 2.5, None)}, "box: must be four whole numbers"),
        ({"box": (5, 5, 0, 10)}, "box: width and height must be at least 1"),
        ({"denoising_strength": 1.5}, "denoising_strength: must be a number from 0 to 1, 1.5 was given"),
        ({"masked_content": "magic"}, "masked_content: must be one of fill, original"),
        ({"outpaint_left": 1024, "outpaint_right": 1024}, "would grow to"),
        ({"mask_colour": "red"}, "there is no such field"),
    ],
)
def test_bad_fields_are_refused_in_words_once_each(scripted: App, fields: dict[str, Any], words: str) -> None:
    source = scripted.keep_upload(png(size=(7000, 16)), "me").id
    with pytest.raises(RequestError) as caught:
        scripted.submit({**SMALL, "source": source, **fields}, "me")
    assert words in str(caught.value)
    assert str(caught.value).count(":") <= 2
    assert scripted.jobs("me") == []


def test_the_message_to_the_engine_carries_the_pixels(scripted: App, link: ScriptedLink) -> None:
    link.hello()
    source, drawn = scripted.keep_upload(png(), "me"), scripted.keep_upload(mask(), "me")
    scripted.submit({**SMALL, "source": source.id, "mask": drawn.id, "count": 2}, "me")
    settled(scripted)
    sent = [message for message in link.sent if message.kind == "submit"]
    assert [message.data["pictures"] for message in sent] == [{"init": ["RGB", 64, 64], "mask": ["RGB", 64, 64]}] * 2
    with Image.open(io.BytesIO(png())) as image, Image.open(io.BytesIO(mask())) as other:
        assert sent[0].blob == image.tobytes() + other.convert("RGB").tobytes()


def test_a_job_that_was_cancelled_meanwhile_is_not_sent(
    scripted: App, link: ScriptedLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    link.hello()
    source = scripted.keep_upload(png(), "me").id
    read, cancelled = scripted.input_images.read, threading.Event()
    monkeypatch.setattr(scripted.input_images, "read", lambda *what: (cancelled.wait(60), read(*what))[1])
    view = scripted.submit({**SMALL, "source": source}, "me")
    scripted.cancel(view.id, "me")
    cancelled.set()
    settled(scripted)
    assert link.tasks() == []
    job = scripted.submit({**SMALL, "source": source}, "me")
    settled(scripted)
    assert link.tasks() == [f"{job.id}.0"]


def test_unfinished_jobs_hold_their_pictures_and_finished_ones_let_go(scripted: App, link: ScriptedLink) -> None:
    scripted.input_images.uploads._per_user = 2 * LEAST
    held = scripted.keep_upload(png(1), "me").id
    view = scripted.submit({**SMALL, "source": held}, "me")
    for shade in range(2, 8):
        scripted.keep_upload(png(shade), "me")
    assert scripted.upload_path(held, "me") is not None
    scripted.submit({**SMALL, "source": scripted.keep_upload(png(9), "me").id}, "me")
    with pytest.raises(LimitError, match="wait"):
        scripted.keep_upload(png(10), "me")
    scripted.cancel(view.id, "me")
    assert scripted.keep_upload(png(10), "me")
    assert scripted.upload_path(held, "me") is None


def test_a_source_that_made_room_comes_back_from_beside_the_outputs_for_the_user_who_used_it(app: App) -> None:
    source = app.keep_upload(png(3), "me").id
    finish(app, app.submit({**SMALL, "source": source}, "me"))
    kept = app.upload_path(source, "me")
    assert kept is not None
    kept.unlink()
    assert app.upload_path(source, "you") is None, "a user who never sent it"
    assert app.upload_path(source, "me") is not None
    finish(app, app.submit({**SMALL, "source": source, "seed": 8}, "me"))


def test_a_job_whose_source_vanished_fails_in_words_and_can_be_retried_when_it_is_back(
    scripted: App, link: ScriptedLink
) -> None:
    source = scripted.keep_upload(png(4), "me").id
    view = scripted.submit({**SMALL, "source": source}, "me")
    path = scripted.upload_path(source, "me")
    assert path is not None
    path.unlink()
    link.hello()
    settled(scripted)
    failed = scripted.job(view.id, "me")
    assert failed is not None
    assert (failed.state, "send it again" in failed.error) == ("failed", True)
    with pytest.raises(RequestError, match="not here"):
        scripted.retry(view.id, "me")
    scripted.keep_upload(png(4), "me")
    assert scripted.retry(view.id, "me")
    settled(scripted)
    assert link.tasks() == [f"{view.id}.0"]


def test_a_queued_inpaint_survives_a_restart(settings: Settings) -> None:
    first = App(settings, ScriptedLink())
    first.start()
    start = {"source": first.keep_upload(png(), "me").id, "mask": first.keep_upload(mask(), "me").id}
    view = first.submit({**SMALL, **start, "count": 2}, "me")
    first.close()
    second = App(settings, LocalLink(engine_configuration(settings)))
    second.start()
    try:
        done = finish(second, view)
        assert isinstance(done.request, Img2Img)
        assert (done.request.source, done.request.mask) == (start["source"], start["mask"])
        assert len(done.pictures) == 2
    finally:
        second.close()


def test_a_source_without_a_size_is_painted_in_its_own_shape(scripted: App) -> None:
    source = scripted.keep_upload(png(size=(300, 100)), "me").id
    fields = {name: value for name, value in SMALL.items() if name not in ("width", "height")}
    request = scripted.submit({**fields, "source": source}, "me").request
    assert (request.width, request.height) == (112, 64), "the model's 64x64 pixels, no side below 64"
    assert scripted.submit({**fields, "source": source, "width": 128}, "me").request.height == 64


def test_what_makes_no_difference_is_not_recorded(scripted: App) -> None:
    source = scripted.keep_upload(png(), "me").id
    request = scripted.submit({**SMALL, "source": source, "mask_blur_x": 9, "soft_bias": 3, "masked_padding": 7}, "me").request
    assert isinstance(request, Img2Img)
    assert (request.mask_blur_x, request.soft_bias, request.masked_padding) == (4, 1.0, 32)


def test_a_job_of_a_newer_version_still_shows_what_it_started_from(settings: Settings) -> None:
    first = App(settings, ScriptedLink())
    source = first.keep_upload(png(), "me").id
    view = first.submit({**SMALL, "source": source, "denoising_strength": 0.4}, "me")
    first.close()
    with sqlite3.connect(settings.data_dir / "jobs.sqlite") as db:
        stored = json.loads(db.execute("SELECT request FROM jobs").fetchone()[0])
        db.execute("UPDATE jobs SET request = ?", (json.dumps({**stored, "wonder": 3}),))
    second = App(settings, ScriptedLink())
    second.start()
    try:
        shown = second.job(view.id, "me")
        assert shown is not None
        assert shown.state == "failed"
        assert isinstance(shown.request, Img2Img)
        assert (shown.request.source, shown.request.denoising_strength) == (source, 0.4)
    finally:
        second.close()
