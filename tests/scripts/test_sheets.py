"""The grid pictures, by their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from modules.scripts import fonts, sheets
from modules.scripts.sheets import Grid, cell_size, draw_grid, fitted

RED, BLUE = (200, 0, 0), (0, 0, 200)


def one(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> list[Image.Image]:
    return [Image.new("RGB", size, colour)]


def heading(*texts: str) -> tuple[tuple[str, bool], ...]:
    return tuple((text, True) for text in texts)


def test_cells_and_margins_are_where_they_belong() -> None:
    grid = Grid([(), ()], [(), ()], (64, 64), margin=8)
    image = draw_grid(grid, lambda number: one((number * 60, 0, 0)))
    assert image.size == (136, 136)
    assert [image.getpixel(at) for at in ((0, 0), (72, 0), (0, 72), (135, 135))] == [
        (0, 0, 0),
        (60, 0, 0),
        (120, 0, 0),
        (180, 0, 0),
    ]
    assert image.getpixel((66, 10)) == (255, 255, 255)


def test_a_legend_stands_above_and_beside_and_moves_no_cell() -> None:
    grid = Grid([heading("Steps: 1"), heading("Steps: 2")], [heading("a"), heading("b")], (64, 64))
    image = draw_grid(grid, lambda number: one(RED if number % 2 else BLUE))
    plain = draw_grid(Grid(grid.columns, grid.rows, grid.cell, legend=False), lambda number: one(RED if number % 2 else BLUE))
    beside, above = image.width - plain.width, image.height - plain.height
    assert beside == 48
    assert above > 0
    assert np.array_equal(np.asarray(image)[above:, beside:], np.asarray(plain))
    dark = np.asarray(image.convert("L"))[:above] < 128
    assert dark[:, beside : beside + 64].any()
    assert dark[:, beside + 64 :].any()


def test_long_labels_are_wrapped_and_stay_within_their_column() -> None:
    long = "a_word_that_is_far_longer_than_its_column " * 3
    grid = Grid([heading(long), ()], [()], (64, 64))
    image = draw_grid(grid, lambda number: one(RED))
    above = image.height - 64
    dark = np.asarray(image.convert("L"))[:above] < 200
    assert dark[:, :64].any()
    assert not dark[:, 66:].any()
    assert dark.any(axis=1).sum() > 40  # several lines


def test_a_heading_of_any_length_leaves_the_grid_a_grid() -> None:
    long = heading("word " * 4000)
    image = draw_grid(Grid([long, long], [long, long], (64, 64)), lambda number: one(RED))
    assert image.height < 1000
    wide = draw_grid(Grid([long], [()], (512, 512)), lambda number: one(RED, (512, 512)))
    assert wide.height <= 2 * 512 + 100


def test_what_does_not_hold_is_struck_out() -> None:
    shown = (draw_grid(Grid([(("red", holds),)], [()], (64, 64)), lambda number: one(BLUE)) for holds in (True, False))
    on, off = (np.asarray(image.convert("L"))[: image.height - 64] for image in shown)
    assert on.min() < 90
    assert off.min() >= 140
    assert (off < 200).sum(axis=1).max() > (on < 200).sum(axis=1).max()  # the line through it


def test_a_cell_without_a_picture_says_why() -> None:
    image = draw_grid(Grid([()], [()], (128, 128)), lambda number: "the engine died")
    assert (np.asarray(image.convert("L")) < 100).any()


def test_several_pictures_of_a_cell_lie_beside_one_another() -> None:
    assert cell_size([(64, 32)] * 4) == (128, 64)
    image = draw_grid(Grid([()], [()], (128, 64)), lambda number: [*one(RED, (64, 32)), *one(BLUE, (64, 32))] * 2)
    assert [image.getpixel(at) for at in ((0, 0), (64, 0), (0, 32), (127, 63))] == [RED, BLUE, RED, BLUE]


def test_a_grid_beyond_the_limit_is_drawn_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MAX_SHEET_PIXELS", 10_000)
    size = fitted(4, 4, (64, 64))
    assert 16 * size[0] * size[1] <= 10_000
    image = draw_grid(Grid([()] * 4, [()] * 4, size), lambda number: one(RED))
    assert image.width * image.height <= 10_000


def test_letters_that_pillow_s_font_lacks_take_a_font_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ImageFont.load_default(12)
    assert isinstance(own, ImageFont.FreeTypeFont)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "wqy-microhei.ttc").write_bytes(own.font_bytes)
    monkeypatch.setattr(fonts, "FOLDERS", (tmp_path,))
    assert fonts.font_for("a cat, 猫", 14).path == str(tmp_path / "deep" / "wqy-microhei.ttc")
    assert fonts.font_for("a cat", 14).path != fonts.font_for("猫", 14).path
    (tmp_path / "deep" / "wqy-microhei.ttc").write_bytes(b"damaged")
    assert fonts.font_for("猫", 14).getname() == own.getname()
