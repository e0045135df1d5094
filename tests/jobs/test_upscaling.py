"""A picture that is only enlarged, from its request to its file and back: names, sizes, texts, restarts, and whose it is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modules.app import App
from modules.errors import RequestError
from modules.images.encoding import Form
from modules.images.reading import read_picture
from modules.images.recipe import read_record
from modules.jobs.views import JobView, changed_settings
from modules.jobs.worker import engine_configuration
from modules.request import Upscaling, parse_request
from modules.request.parsing import parse_stored
from modules.settings import Settings
from tests.local import LocalLink
from tests.tiny import tiny_checkpoint
from tests.tiny_upscalers import tiny_upscaler

TEXT = "a cat\nNegative prompt: rain\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 3, Size: 64x64, Model: tiny"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    tiny_checkpoint(folder / "another.safetensors", seed=1)
    tiny_upscaler(folder / "ESRGAN" / "sharp.safetensors")
    return folder


@pytest.fixture
def app(models: Path, tmp_path: Path) -> Iterator[App]:
    settings = Settings(data_dir=tmp_path / "data", models_dirs=(models,), outputs_dir=tmp_path / "outputs")
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    yield app
    app.close()


def source(app: App, size: tuple[int, int] = (40, 32), user: str = "me") -> str:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, "PNG")
    return app.keep_upload(buffer.getvalue(), user).id


def finish(app: App, view: JobView) -> JobView:
    *_, last = app.events(view.id, "me")
    assert last.state == "done", last.error
    return last


def test_it_is_a_job_like_any_other_and_its_file_says_how_it_was_made(app: App) -> None:
    fields = {"source": source(app), "upscaler_1": "SHARP", "source_text": TEXT}
    view = finish(app, app.submit(fields, "me", key="mine"))
    (picture,) = view.pictures
    said = "Postprocess upscale by: 2, Postprocess upscaler: sharp"
    assert (picture.width, picture.height, picture.infotext) == (80, 64, f"{TEXT}, {said}")
    assert app.submit(fields, "me", key="mine").id == view.id
    with Image.open(picture.path) as image:
        assert image.info["parameters"] == TEXT, "as it was"
        assert (image.info["postprocessing"], image.info["extras"]) == (said, said)
    assert isinstance(read_record(picture.path).info.request, Upscaling)
    found = read_picture(picture.path.read_bytes())
    assert (found.prompt, found.fields["seed"], found.fields["width"]) == ("a cat", 3, 64), "how its source was painted"
    assert "upscaler_1" not in found.fields
    assert ("Upscaler 1", "sharp") in changed_settings(view.request)
    assert not any(TEXT in value for _, value in changed_settings(view.request))
    assert app.outputs.find(view.id, 0, 0, view.created) is not None, "a replay takes it over"


def test_other_formats_carry_both_in_their_one_text(app: App) -> None:
    app.outputs.form = Form("webp", 90)
    picture = finish(app, app.submit({"source": source(app), "upscaler_1": "Lanczos", "source_text": TEXT}, "me")).pictures[0]
    found = read_picture(picture.path.read_bytes())
    assert found.infotext == f"{TEXT}, Postprocess upscale by: 2, Postprocess upscaler: Lanczos"
    assert "made with an upscaler, which is not taken over" in found.notes
    bare = finish(app, app.submit({"source": source(app), "upscaler_1": "Lanczos", "private": True}, "me")).pictures[0]
    assert read_picture(bare.path.read_bytes()).program == ""


def test_it_is_taken_up_after_a_restart(app: App) -> None:
    app.pause("me", True)
    view = app.submit({"source": source(app), "upscaler_1": "sharp", "width": 96, "height": 96}, "me")
    app.close()
    again = App(replace(app.settings), LocalLink(engine_configuration(app.settings)))
    again.start()
    again.pause("me", False)
    known = again.job(view.id, "me")
    assert known is not None
    assert finish(again, known).pictures[0].width == 96
    again.close()


def test_the_default_checkpoint_stays_the_one_that_painted_last(app: App) -> None:
    small = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64}
    finish(app, app.submit({**small, "checkpoint": "tiny"}, "me"))
    finish(app, app.submit({"source": source(app), "upscaler_1": "None"}, "me"))
    default = app.default_checkpoint()
    assert default is not None
    assert default.name == "tiny"


def test_interrupting_cancels_as_half_of_it_is_nothing(app: App) -> None:
    app.pause("me", True)
    view = app.submit({"source": source(app), "upscaler_1": "sharp"}, "me")
    assert not app.skip(view.id, "me")
    assert app.interrupt(view.id, "me")
    ended = app.job(view.id, "me")
    assert ended is not None
    assert ended.state == "cancelled"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"upscaler_1": "SwinIR"}, "upscaler_1: upscaler 'SwinIR' is not here. Known: Lanczos, Nearest, None, sharp."),
        ({"upscaler_1": "sharp", "upscaler_2": "x"}, "upscaler_2: upscaler 'x' is not here"),
        ({"upscaler_1": "sharp", "upscale_by": 9}, "upscale_by: must be a number"),
        ({"upscaler_1": "sharp", "width": 100}, "width, height: give both"),
        ({"upscaler_1": "sharp", "prompt": "a cat"}, "prompt: there is no such field of a picture that is only enlarged"),
        (
            {"upscaler_1": "sharp", "width": 8192, "height": 8192},
            "the picture would have 10240x8192 pixels; at most 8192 a side",
        ),
        ({"upscaler_1": ""}, "upscaler_1: must be text"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(app: App, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as refused:
        app.submit({"source": source(app), **fields}, "me")
    assert words in str(refused.value)
    assert not app.jobs("me")


def test_another_user_s_picture_is_not_there(app: App) -> None:
    with pytest.raises(RequestError, match=r"is not here \(any more\)"):
        app.submit({"source": source(app, user="other"), "upscaler_1": "sharp"}, "me")


def test_a_request_is_its_own_fields_alone_and_survives_its_record() -> None:
    request = parse_request({"source": "0" * 64, "upscaler_1": "sharp", "source_text": TEXT})
    stored = request.model_dump(mode="json")
    assert "prompt" not in stored
    assert "steps" not in stored
    assert parse_stored(stored) == request
    assert np.isclose(request.factor((10, 10)), 2.0)  # type: ignore[attr-defined]
