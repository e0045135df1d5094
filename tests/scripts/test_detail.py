"""The detail pass: boxes, what a detector of an extension finds, areas of a mask; each a cell that starts from the last."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from modules.hooks import HOOKS, hookimpl
from modules.pixels.regions import Box
from modules.scripts import detectors
from modules.scripts.detail import MAX_DETAILS, areas_of, boxes_said
from modules.scripts.detectors import DETECTORS, Detector, without_doubles
from modules.scripts.plan import ScriptError
from tests.scripts.test_runs import FIELDS, ME, finish_all
from tests.ui.fake_app import FakeApp

SCRIPT = {"name": "detail", "boxes": "10 20 30 30; 80,60,20,20", "prompt": "a face", "denoising_strength": 0.5}


class Bright:
    """An extension with a detector: what is white."""

    @hookimpl
    def detectors(self) -> list[Detector]:
        return [Detector("Bright", lambda image: areas_of((np.asarray(image.convert("L")) > 250).astype(np.uint8) * 255))]


@pytest.fixture
def app(tmp_path: Path) -> FakeApp:
    return FakeApp(tmp_path)


def upload(app: FakeApp, image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return app.keep_upload(buffer.getvalue(), ME).id


def picture(*white: tuple[int, int, int, int], size: tuple[int, int] = (128, 96)) -> Image.Image:
    image = Image.new("RGB", size, "black")
    for left, top, width, height in white:
        ImageDraw.Draw(image).rectangle((left, top, left + width - 1, top + height - 1), fill="white")
    return image


def begun(app: FakeApp, script: dict[str, Any], **fields: Any) -> list[Any]:
    """The requests of the cells, in order."""
    view = finish_all(app, app.scripts.start(script, {**FIELDS, **fields}, ME).id)
    assert {cell.state for cell in view.cells} == {"done"}
    return [app.records[cell.job][1].request for cell in view.cells]


def masked(app: FakeApp, request: Any) -> tuple[Box | None, tuple[int, int]]:
    with Image.open(app.uploads.path(request.mask, ME)) as image:
        (left, top, right, bottom), size = image.convert("L").getbbox() or (0, 0, 0, 0), image.size
    return Box(left, top, right, bottom), size


def test_each_box_is_painted_again_into_the_picture_of_the_one_before(app: FakeApp) -> None:
    source = upload(app, picture())
    first, second = begun(app, SCRIPT, source=source)
    assert masked(app, first) == (Box(10, 20, 40, 50), (128, 96)), "the largest first"
    assert first.source == source
    assert second.source != source
    # the fake's pictures are 64x64: a mask is of the size of the picture that it is for
    assert masked(app, second)[1] == (64, 64)
    for request in (first, second):
        assert (request.prompt, request.denoising_strength, request.inpaint_area) == ("a face", 0.5, "Crop and stitch")
        assert (request.masked_padding, request.mask_blur_x, request.count) == (32, 8, 1)
    assert (first.seed, second.seed) == (7, 8)


def test_a_detector_of_an_extension_finds_them(app: FakeApp) -> None:
    source = upload(app, picture((8, 8, 24, 24), (60, 40, 40, 40)))
    with HOOKS.registered(Bright(), "bright"):
        assert "Bright" in [one.name for one in DETECTORS]
        requests = begun(app, {"name": "detail", "detector": "Bright"}, source=source)
        assert masked(app, requests[0])[0] == Box(60, 40, 100, 80)
        assert len(requests) == 2
        assert requests[0].prompt == FIELDS["prompt"], "without words of their own the form's count"
        with pytest.raises(ScriptError, match="Bright found nothing"):
            app.scripts.start({"name": "detail", "detector": "Bright"}, {**FIELDS, "source": upload(app, picture())}, ME)
    with pytest.raises(ScriptError, match="there is no detector 'Bright' here"):
        app.scripts.start({"name": "detail", "detector": "Bright"}, {**FIELDS, "source": source}, ME)


def test_areas_of_the_mask_are_details(app: FakeApp) -> None:
    mask = upload(app, picture((8, 8, 24, 24), (60, 40, 40, 40)))
    requests = begun(app, {"name": "detail"}, source=upload(app, picture()), mask=mask)
    assert masked(app, requests[0])[0] == Box(60, 40, 100, 80)
    assert len(requests) == 2


def test_connected_areas_are_told_apart() -> None:
    mask = np.zeros((600, 900), np.uint8)
    mask[10:50, 20:80] = 255
    mask[50:90, 80:120] = 200  # joined at a corner
    mask[300:310, 500:899] = 1
    assert sorted(areas_of(mask)) == [Box(20, 10, 120, 90), Box(500, 300, 899, 310)]
    assert areas_of(np.zeros((5, 7), np.uint8)) == []
    many = np.zeros((2000, 2000), np.uint8)
    many[::40, ::40] = 255
    assert len(areas_of(many)) == MAX_DETAILS + 1, "it ends where there are too many"


@pytest.mark.parametrize(
    ("options", "fields", "words"),
    [
        ({"boxes": "1 2 3"}, {}, "four whole numbers each"),
        ({"boxes": "a b c d"}, {}, "four whole numbers each"),
        ({"boxes": [[-1, 2, 3, 4]]}, {}, "four whole numbers each"),
        ({"boxes": [[500, 500, 9, 9]]}, {}, "no box lies in the picture"),
        ({"boxes": ""}, {}, "choose a detector, give boxes, or draw a mask"),
        ({"denoising_strength": 2}, {}, "the denoising strength is 0 to 1, not 2"),
        ({"padding": 1000}, {}, "padding: 0 to 256 pixels"),
        ({"boxes": [[n, n, 3, 3] for n in range(0, 90, 2)]}, {}, "details, and 32 are the most"),
        ({}, {"outpaint_left": 8}, "does not extend"),
        ({}, {"source": None}, "choose a detector"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(app: FakeApp, options: Any, fields: dict[str, Any], words: str) -> None:
    given = {**FIELDS, "source": upload(app, picture()), **fields}
    with pytest.raises(ScriptError, match=words):
        app.scripts.start({**SCRIPT, **options}, {name: value for name, value in given.items() if value is not None}, ME)


def test_a_preview_counts_boxes_and_says_what_it_cannot_know(app: FakeApp) -> None:
    fields = {**FIELDS, "source": "0" * 64}
    assert app.scripts.preview(SCRIPT, fields).cells == 2
    with HOOKS.registered(Bright(), "bright"):
        (note,) = app.scripts.preview({"name": "detail", "detector": "Bright"}, fields).notes
    assert "found out when it begins" in note
    assert boxes_said("1 2 3 4\n5 6 7 8") == ((1, 2, 3, 4), (5, 6, 7, 8))


def test_doubles_are_one_detail() -> None:
    assert without_doubles([Box(0, 0, 4, 4), Box(0, 0, 9, 9), Box(5, 5, 20, 20)]) == [Box(5, 5, 20, 20), Box(0, 0, 9, 9)]


def test_without_opencv_there_is_no_detector_of_its(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert detectors.cascades() is None
    assert list(detectors._BuiltIn().detectors()) == []


def test_opencvs_cascades_look_into_a_picture() -> None:
    """Where it is installed: what a cascade finds is within the picture; a plain one has no faces."""
    pytest.importorskip("cv2")
    for one in detectors._BuiltIn().detectors():
        assert one.find(Image.new("RGB", (2000, 300), "white")) == [], one.name
