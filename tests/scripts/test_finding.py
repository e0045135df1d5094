"""The detail pass behind painting: the picture first, then what a detector finds in it, and nothing for what is not there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modules.hooks import HOOKS
from modules.pixels.regions import Box
from modules.request import Img2Img
from modules.scripts.finding import NOTHING
from modules.scripts.plan import ScriptError
from tests.scripts.test_detail import Bright, masked, picture, upload
from tests.scripts.test_runs import FIELDS, ME, finish_all, look, states
from tests.ui.fake_app import FakeApp

SCRIPT = {"name": "detail", "detector": "Bright", "denoising_strength": 0.3, "growth": 2, "most": 3}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApp]:
    """What it paints of words is two white rectangles of its size; what it paints of a picture is that picture."""
    fake = FakeApp(tmp_path)
    real = fake._paint

    def paint(job: Any, index: int) -> Any:
        made = real(job, index)
        if isinstance(job.request, Img2Img):
            with Image.open(fake.uploads.path(job.request.source, ME)) as image:
                size = image.size
                image.convert("RGB").save(made.path)
        else:
            size = (128, 96)
            picture((8, 8, 24, 24), (60, 40, 40, 40)).save(made.path)
        return replace(made, width=size[0], height=size[1])

    monkeypatch.setattr(fake, "_paint", paint)
    with HOOKS.registered(Bright(), "bright"):
        yield fake


def requests_of(app: FakeApp, view: Any) -> list[Any]:
    return [app.records[cell.job][1].request for cell in view.cells]


def test_what_is_found_in_a_picture_of_words_is_painted_again_and_the_rest_costs_nothing(app: FakeApp) -> None:
    fields = {**FIELDS, "hires": {"width": 128, "height": 128}}
    run = app.scripts.start({**SCRIPT, "prompt": "a face of [PROMPT] [SEP] an eye"}, fields, ME).id
    assert states(look(app, run)) == ["queued", "waiting", "waiting", "waiting"], "it is not known yet what there is"
    view = finish_all(app, run)
    assert (view.state, states(view)) == ("done", ["done"] * 4)
    first, large, small, _ = requests_of(app, view)
    assert (first.seed, first.hires is not None, isinstance(first, Img2Img)) == (7, True, False)
    assert masked(app, large)[0] == Box(58, 38, 102, 82), "the largest first, grown by two pixels"
    assert masked(app, small)[0] == Box(6, 6, 34, 34)
    assert (large.denoising_strength, large.inpaint_area, large.hires) == (0.3, "Crop and stitch", None)
    assert (large.prompt, small.prompt) == ("a face of a cat", "an eye")
    assert (large.seed, small.seed) == (7, 8)
    passed = view.cells[3]
    assert (passed.error, passed.job, passed.pictures) == (NOTHING, view.cells[2].job, view.cells[2].pictures)
    assert len(app.records) == 3


def test_several_passes_and_pictures_look_into_what_the_ones_before_made(app: FakeApp) -> None:
    one = {**SCRIPT, "most": 1}
    script = {"name": "detail", "passes": [one, {**one, "own": {"steps": 9}, "smallest": 0.2, "whole": True}]}
    view = finish_all(app, app.scripts.start(script, {**FIELDS, "count": 2}, ME).id)
    assert [cell.error for cell in view.cells] == ["", "", NOTHING] * 2, "none covers a fifth of the picture"
    assert [request.seed for request in requests_of(app, view)] == [7, 7, 7, 8, 8, 8]
    script["passes"][1]["smallest"] = 0
    view = finish_all(app, app.scripts.start(script, FIELDS, ME).id)
    last = requests_of(app, view)[-1]
    assert (last.steps, last.inpaint_area) == (9, "Whole picture")


def test_a_picture_from_a_picture_is_painted_first_where_that_is_wanted(app: FakeApp) -> None:
    source, mask = upload(app, picture((8, 8, 24, 24))), upload(app, picture((0, 0, 9, 9)))
    fields = {**FIELDS, "source": source, "mask": mask, "denoising_strength": 0.7}
    view = finish_all(app, app.scripts.start({**SCRIPT, "after": True, "most": 1}, fields, ME).id)
    first, detail = requests_of(app, view)
    assert (first.source, first.mask, first.denoising_strength) == (source, mask, 0.7)
    assert (detail.denoising_strength, masked(app, detail)[0]) == (0.3, Box(6, 6, 34, 34)), "the form's mask is over"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"detector": ""}, "choose a detector"),
        ({"detector": "gone"}, "there is no detector 'gone' here"),
        ({"most": 99}, "most: must be from 1 to 32, 99 was given"),
        ({"growth": -500}, "growth: must be from -128 to 128"),
        ({"passes": []}, "there are 1 to 8 detail passes"),
        ({"passes": [{**SCRIPT, "own": {"hires": None}}]}, "hires: a detail pass has no such field"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(app: FakeApp, options: Any, words: str) -> None:
    with pytest.raises(ScriptError, match=words):
        app.scripts.start({**SCRIPT, **options}, FIELDS, ME)
