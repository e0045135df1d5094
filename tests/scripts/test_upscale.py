"""SD upscale: its plan, its tiles as jobs, and the picture that they become."""

from __future__ import annotations

import io
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modules.images.infotext import parse
from modules.images.reading import read_picture
from modules.jobs.views import PictureView
from modules.pixels import resize
from modules.pixels.mosaic import Tile, mosaic
from modules.pixels.regions import Box
from modules.request import Upscaling
from modules.request.tiles import Tiles
from modules.request.upscaling import sizes
from modules.scripts import upscale
from modules.scripts.plan import ScriptError
from tests.scripts.test_runs import FIELDS, ME, finish_all, look, states
from tests.ui.fake_app import FakeApp

SCRIPT = {"name": "upscale", "overlap": 16, "upscaler": "Nearest", "scale_factor": 2}


@pytest.fixture
def app(tmp_path: Path) -> FakeApp:
    return FakeApp(tmp_path)


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def noisy(width: int, height: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)


def test_tiles_are_cut_from_the_enlarged_picture_and_put_together_seamlessly(
    app: FakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a network that changes nothing the result is the enlarged picture, byte for byte."""
    pixels = noisy(70, 52)
    source = app.keep_upload(png(pixels), ME).id
    large = resize.upscale(pixels, 136, 104, "Nearest")

    def repeated(job: Any, index: int) -> Any:
        upload = Image.open(app.uploads.path(job.request.source, ME)).convert("RGB")
        assert upload.size == (job.request.width, job.request.height) == (64, 64)
        made = real(job, index)
        upload.save(made.path)
        return made

    real = app._paint
    monkeypatch.setattr(app, "_paint", repeated)
    fields = {**FIELDS, "source": source, "denoising_strength": 0.3, "seed": 7}
    view = finish_all(app, app.scripts.start(SCRIPT, fields, ME).id)
    assert (view.state, view.error, len(view.cells), len(view.sheets)) == ("done", "", 6, 1)
    saved = app.settings.outputs_dir / view.sheets[0]["name"]
    assert np.array_equal(np.asarray(Image.open(saved).convert("RGB")), large)
    seeds = [app.records[cell.job][1].request.seed for cell in view.cells]
    assert seeds == [7, 8, 9, 10, 11, 12]
    said = parse(view.sheets[0]["infotext"])
    assert (said["SD upscale overlap"], said["SD upscale upscaler"], said["Size"]) == ("16", "Nearest", "64x64")
    assert said["Source hash"] == source, "the picture that was enlarged, and not a tile of it"
    assert read_picture(saved.read_bytes()).fields["seed"] == 7


def test_a_tile_that_is_missing_is_named_and_made_again(app: FakeApp) -> None:
    source = app.keep_upload(png(noisy(64, 40)), ME).id
    run = app.scripts.start(SCRIPT, {**FIELDS, "source": source}, ME).id
    view = look(app, run)
    app.fail(view.cells[1].job, "no memory")
    view = finish_all(app, run)
    assert states(view).count("failed") == 1
    assert "tile 2 of" in view.error
    assert "make the missing ones" in view.error
    assert not view.sheets
    assert app.scripts.again(run, ME)
    view = finish_all(app, run)
    assert (view.error, len(view.sheets)) == ("", 1)


def test_several_pictures_have_their_own_seeds(app: FakeApp) -> None:
    source = app.keep_upload(png(noisy(64, 40)), ME).id
    view = finish_all(app, app.scripts.start(SCRIPT, {**FIELDS, "source": source, "count": 2, "seed": 5}, ME).id)
    tiles = len(view.cells) // 2
    seeds = [app.records[cell.job][1].request.seed for cell in view.cells]
    assert seeds == [*range(5, 5 + tiles), *range(6, 6 + tiles)]
    assert [parse(sheet["infotext"])["Seed"] for sheet in view.sheets] == ["5", "6"]


@pytest.mark.parametrize(
    ("options", "fields", "words"),
    [
        ({"upscaler": "R-ESRGAN 4x+"}, {}, "upscaler 'R-ESRGAN 4x+' is not here. Known: Lanczos, Nearest, None."),
        ({"scale_factor": 9}, {}, "the scale factor is 1 to 8, not 9"),
        ({"overlap": 64}, {}, "the overlap is 0 to 63 pixels"),
        ({"overlap": -1}, {}, "the overlap is 0 to 63 pixels"),
        ({}, {"outpaint_left": 64}, "paints the whole picture"),
        ({}, {"source": None}, "starts from a picture"),
        ({"scale_factor": 8}, {"big": True}, "take a smaller scale factor"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(app: FakeApp, options: Any, fields: dict[str, Any], words: str) -> None:
    size = (2000, 2000) if fields.pop("big", False) else (70, 52)
    given = {**FIELDS, "source": app.keep_upload(png(np.zeros((size[1], size[0], 3), np.uint8)), ME).id, **fields}
    given = {name: value for name, value in given.items() if value is not None}
    with pytest.raises(ScriptError, match=words.replace("(", r"\(").replace("+", r"\+")):
        app.scripts.start({**SCRIPT, **options}, given, ME)


def test_a_preview_counts_the_tiles_of_the_size_that_the_page_knows(app: FakeApp) -> None:
    found = app.scripts.preview({**SCRIPT, "picture": [70, 52]}, {**FIELDS, "source": "0" * 64})
    assert (found.cells, found.columns, found.rows) == (6, 3, 2)
    assert found.notes == ("It becomes 136 x 104 pixels, in 6 tiles of 64 x 64.",)
    with pytest.raises(ScriptError, match="choose a picture"):
        app.scripts.preview(SCRIPT, {**FIELDS, "source": "0" * 64})


@pytest.fixture
def ink(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> FakeApp:
    """With the file of an upscaler, which is a nearest one here."""
    monkeypatch.setattr(app.catalogue, "upscaler", lambda name, field, others: name)

    def enlarged(job: Any, request: Any) -> Any:
        image = app.uploads.open(request.source, ME)
        (width, height) = sizes(image.size, request.upscale_by)[1]
        path = app.settings.outputs_dir / f"{job.id}-0.png"
        Image.fromarray(resize.upscale(np.asarray(image.convert("RGB")), width, height, "Nearest")).save(path)
        return PictureView(0, path.name, path, "", 0, width, height)

    monkeypatch.setattr(app, "_enlarge", enlarged)
    return app


def test_an_upscaler_in_a_file_enlarges_once_on_the_device_before_all_tiles(ink: FakeApp) -> None:
    pixels = noisy(70, 52)
    source = ink.keep_upload(png(pixels), ME).id
    run = ink.scripts.start({**SCRIPT, "upscaler": "ink-2x"}, {**FIELDS, "source": source, "count": 2}, ME).id
    view = look(ink, run)
    assert states(view) == ["waiting"] * 12 + ["queued"], "tiles wait for the enlarged picture"
    asked = ink.records[view.cells[12].job][1].request
    assert isinstance(asked, Upscaling)
    assert (asked.source, asked.upscaler_1, asked.upscale_by) == (source, "ink-2x", 2)
    view = finish_all(ink, run)
    assert (view.state, view.error, len(view.sheets)) == ("done", "", 2)
    assert sum(isinstance(job.request, Upscaling) for _, job in ink.records.values()) == 1
    first = Image.open(ink.uploads.path(ink.records[view.cells[0].job][1].request.source, ME)).convert("RGB")
    assert np.array_equal(np.asarray(first), resize.upscale(pixels, 136, 104, "Nearest")[:64, :64])
    assert parse(view.sheets[0]["infotext"])["SD upscale upscaler"] == "ink-2x"


def test_tiles_say_why_the_picture_was_not_enlarged_and_one_that_is_gone_is_enlarged_again(ink: FakeApp) -> None:
    source = ink.keep_upload(png(noisy(64, 40)), ME).id
    run = ink.scripts.start({**SCRIPT, "upscaler": "ink-2x"}, {**FIELDS, "source": source}, ME).id
    view = look(ink, run)
    ink.fail(view.cells[-1].job, "no memory")
    view = finish_all(ink, run)
    assert view.cells[0].error == "the one before it was not finished: no memory"
    assert ink.scripts.again(run, ME)
    view = finish_all(ink, run)
    assert (view.error, len(view.sheets)) == ("", 1)
    ink.records[view.cells[-1].job][1].pictures[0].path.unlink()
    assert ink.scripts.again(run, ME, [0])
    view = look(ink, run)
    assert states(view) == ["waiting", *["done"] * (len(view.cells) - 2), "queued"]
    assert finish_all(ink, run).error == ""


def test_without_an_upscaler_the_picture_keeps_its_size() -> None:
    assert upscale.enlarged_size((70, 333), "None", 4.0) == (70, 333)
    assert upscale.enlarged_size((70, 333), "Lanczos", 1.5) == (104, 496)


def test_a_mosaic_of_a_picture_is_the_picture_and_of_others_has_no_step() -> None:
    whole = noisy(150, 90)

    def rows(pixels: Any) -> Any:
        windows = Tiles(48, 40, 16).windows(150, 90, 1)
        boxes = [Box(one.left, one.top, one.left + one.width, one.top + one.height) for one in windows]
        return [[Tile(box, pixels(box)) for box in row] for _, row in groupby(boxes, key=lambda box: box.top)]

    assert np.array_equal(mosaic(rows(lambda box: whole[box.slices]), 150, 90), whole)
    levels = mosaic(rows(lambda box: np.full((box.height, box.width, 3), box.left // 2 % 2 * 100, np.uint8)), 150, 90)
    steps = np.abs(np.diff(levels.astype(int), axis=1)).max()
    assert steps <= 100 / 14 + 1, "over an overlap of 14 to 16 pixels it rises evenly"
    with pytest.raises(ValueError, match="is none of"):
        mosaic([[Tile(Box(0, 0, 10, 10), whole[:9, :10])]], 10, 10)
