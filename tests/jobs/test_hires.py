"""A second pass from its request to its file and back: names, prompts, records, restarts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modules.app import App
from modules.engine.messages import Message
from modules.errors import RequestError
from modules.images.infotext import parse, request_fields
from modules.images.recipe import read_recipe
from modules.jobs.views import JobView, changed_settings
from modules.jobs.worker import engine_configuration
from modules.prompts.library import Library
from modules.request import Hires, Txt2Img, parse_request
from modules.settings import Settings
from tests.local import LocalLink
from tests.tiny import tiny_checkpoint

SECOND: dict[str, Any] = {"width": 96, "height": 96, "steps": 2, "denoising_strength": 0.5}
SMALL: dict[str, Any] = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    (tmp_path / "models").mkdir()
    tiny_checkpoint(tmp_path / "models" / "tiny.safetensors")
    settings = Settings(data_dir=tmp_path / "data", models_dirs=(tmp_path / "models",), outputs_dir=tmp_path / "outputs")
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    yield app
    app.close()


def finish(app: App, view: JobView) -> JobView:
    *_, last = app.events(view.id, "me")
    assert last.state == "done", last.error
    return last


def pixels(view: JobView) -> np.ndarray:
    with Image.open(view.pictures[0].path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_recipe_paints_the_same_pixels_again(app: App) -> None:
    """From our record and from A1111's text alike."""
    hires = {**SECOND, "sampler": "k_euler_a", "schedule": "karras", "prompt": "a {dog|fox|owl}", "cfg_scale": 3.0, "steps": 3}
    first = finish(app, app.submit({**SMALL, "hires": hires}, "me"))
    shown, own = first.pictures[0], first.request.hires
    assert own is not None
    assert (own.sampler, own.schedule, own.prompt) == ("Euler a", "Karras", "a {dog|fox|owl}")
    assert (shown.width, shown.height, first.steps) == (96, 96, 5)
    assert "{" not in shown.infotext
    for fields in (read_recipe(shown.path).fields, request_fields(parse(shown.infotext))):
        fields.pop("checkpoint")
        assert np.abs(pixels(finish(app, app.submit(fields, "me"))) - pixels(first)).max() <= 1
    assert not np.array_equal(pixels(finish(app, app.submit({**SMALL, "hires": SECOND}, "me"))), pixels(first))


def test_progress_knows_the_pass_and_its_step(app: App) -> None:
    """From the engine's reports: every step of both passes is one of the whole image, and one of its pass."""
    app.pause("me", True)
    waiting = app.submit({**SMALL, "steps": 3, "hires": SECOND}, "me")
    assert (waiting.stage, waiting.stages, waiting.stage_steps, waiting.steps) == (1, 2, 3, 5)
    [link] = [worker.link for worker in app.service.workers.all]
    assert isinstance(link, LocalLink)
    assert link.engine is not None
    seen: list[tuple[int, ...]] = []
    emit = link.engine.emit

    def look(message: Message) -> None:
        emit(message)
        if message.kind == "progress" and (view := app.job(waiting.id, "me")) is not None:
            seen.append((view.step, view.steps, view.stage, view.stages, view.stage_step, view.stage_steps))

    link.engine.emit = look
    app.pause("me", False)
    finish(app, waiting)
    assert seen == [(1, 5, 1, 2, 1, 3), (2, 5, 1, 2, 2, 3), (3, 5, 1, 2, 3, 3), (4, 5, 2, 2, 1, 2), (5, 5, 2, 2, 2, 2)]


def test_a_two_stage_job_is_taken_up_after_a_restart(app: App) -> None:
    app.pause("me", True)
    view = app.submit({**SMALL, "hires": SECOND}, "me")
    app.close()
    again = App(replace(app.settings), LocalLink(engine_configuration(app.settings)))
    again.start()
    again.pause("me", False)
    known = again.job(view.id, "me")
    assert known is not None
    assert known.request.hires == Hires(**SECOND)
    assert finish(again, known).pictures[0].width == 96
    again.close()


@pytest.mark.parametrize(
    ("hires", "said"),
    [
        ({**SECOND, "sampler": "Gone"}, "'Gone'"),
        ({**SECOND, "schedule": "Gone"}, "'Gone'"),
        ({"width": 96}, "hires.height: must be a multiple of 8 from 64 to 8192, none was given"),
        ({**SECOND, "width": 4096}, "hires.width: must be 2048 at most without tiled diffusion, 4096 was given"),
        ({**SECOND, "upscaler": "ESRGAN"}, "hires.upscaler: upscaler 'ESRGAN' is not here. Known: Lanczos, Latent"),
        ({**SECOND, "colour": "red"}, "hires.colour: there is no such field"),
        ("twice", "hires: must be an object with the fields of a second pass"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(app: App, hires: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said.replace(".", r"\.")):
        app.submit({**SMALL, "hires": hires}, "me")


def test_a_picture_from_a_picture_has_none() -> None:
    with pytest.raises(RequestError, match="a picture from a picture has no second pass"):
        parse_request({"source": "0" * 64, "hires": SECOND})


def test_the_larger_pass_counts_for_how_much_a_request_may_be() -> None:
    with pytest.raises(RequestError, match="100 pictures of 2048x2048 are too much"):
        parse_request({"count": 100, "hires": {"width": 2048, "height": 2048}})


def test_its_own_prompts_have_styles_comments_and_wildcards(tmp_path: Path) -> None:
    (tmp_path / "styles.csv").write_text('name,prompt,negative_prompt\nred,"{prompt}, red",grey\n')
    request = Txt2Img(
        seed=1, prompt="a cat", styles=("red",), hires=Hires(**SECOND, prompt="a {dog|dog} # no cat\n", negative_prompt="")
    )
    final = Library(tmp_path).finish(request).request
    assert final.hires is not None
    assert (final.prompt, final.hires.prompt.split(), final.hires.negative_prompt) == (
        "a cat, red",
        ["a", "dog", ",", "red"],
        "",
    )
    assert Library(tmp_path).finish(final).request == final


def test_a_request_that_is_shown_says_its_second_pass() -> None:
    request = Txt2Img(hires=Hires(**SECOND, sampler="DDIM"))
    assert changed_settings(request) == [("Hires", "96x96, Latent, denoising strength 0.5, steps 2, sampler DDIM")]


def test_an_option_of_either_pass_s_sampler_counts(app: App) -> None:
    """And one that makes no difference in both is put back."""
    eta = {**SMALL, "sampler": "Euler", "eta": 0.3}
    assert app.complete({**eta, "hires": SECOND}).eta is None
    assert app.complete({**eta, "hires": {**SECOND, "sampler": "Euler a"}}).eta == 0.3
