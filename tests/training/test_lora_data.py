"""The LoRA trainer's data: folders of captioned pictures, buckets, epochs, and the built-in styles' filters."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modules.errors import RequestError
from modules.training.lora.data import buckets, epoch, load, nearest, read_folder, tag_frequency
from modules.training.lora.styles import CELLS, PALETTE, STYLES


def picture(path: Path, size: tuple[int, int] = (40, 30), colour: tuple[int, ...] = (200, 30, 30), caption: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(path)
    if caption:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def test_a_folder_is_pictures_with_captions_and_repeated_sub_folders(tmp_path: Path) -> None:
    picture(tmp_path / "b.png", caption="a fox,\n  ink")
    picture(tmp_path / "a.webp", caption="an owl, ink")
    picture(tmp_path / "10_cats" / "c.jpg", caption="a cat")
    picture(tmp_path / "notes" / "d.png", caption="not read")
    (tmp_path / "readme.md").write_text("not a picture")
    examples = read_folder(tmp_path, repeats=2)
    assert [(example.path.name, example.caption, example.repeats) for example in examples] == [
        ("a.webp", "an owl, ink", 2),
        ("b.png", "a fox, ink", 2),
        ("c.jpg", "a cat", 20),
    ]
    assert tag_frequency(examples) == {tmp_path.name: {"ink": 2, "an owl": 1, "a fox": 1}, "10_cats": {"a cat": 1}}


def test_pictures_without_captions_are_named_and_may_get_one_for_all(tmp_path: Path) -> None:
    for number in range(7):
        picture(tmp_path / f"{number}.png", caption="a fox" if number == 3 else "")
    with pytest.raises(
        RequestError, match=r"6 of 7 pictures have no caption: 0\.png, 1\.png, 2\.png, 4\.png, 5\.png, \.\.\.; .*0\.txt"
    ):
        read_folder(tmp_path)
    assert [example.caption for example in read_folder(tmp_path, "ink")] == ["ink"] * 3 + ["a fox"] + ["ink"] * 3


def test_what_is_no_folder_of_pictures_is_said(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is no folder"):
        read_folder(tmp_path / "gone")
    with pytest.raises(RequestError, match="holds no pictures"):
        read_folder(tmp_path)
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(RequestError, match=r"caption a\.txt cannot be read as UTF-8"):
        read_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "torn.png"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=r"torn\.png cannot be read as a picture .*; repair it or take it out"):
        load(path, [(64, 64)])


def test_a_picture_with_too_many_pixels_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(RequestError, match=r"bomb\.png cannot be read as a picture"):
        load(path, [(64, 64)])


def test_pictures_fill_the_nearest_bucket_upright_and_on_white(tmp_path: Path) -> None:
    choices = buckets(64, 64, 16)
    wide = picture(tmp_path / "wide.png", (100, 50))
    assert load(wide, choices).shape == (48, 80, 3)
    assert load(wide, [(64, 64)]).shape == (64, 64, 3)
    clear = picture(tmp_path / "clear.png", colour=(9, 9, 9, 0))
    assert (load(clear, choices) == 255).all()
    turned = Image.new("RGB", (50, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown lying
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert load(tmp_path / "turned.jpg", choices).shape == (48, 80, 3)


def test_buckets_have_at_most_the_area_and_the_first_is_the_models_own() -> None:
    sizes = buckets(512, 512, 64)
    assert sizes[0] == (512, 512)
    assert all(width * height <= 512 * 512 and width % 64 == height % 64 == 0 for width, height in sizes)
    assert all((height, width) in sizes for width, height in sizes)
    assert nearest((640, 480), sizes) == (576, 448)
    assert nearest((10, 1000), sizes) == (256, 1024)


def test_an_epoch_has_everything_once_and_no_batch_of_two_sizes() -> None:
    groups = [[0, 1, 2, 3, 4], [5, 6, 6]]
    batches = epoch(groups, 2, random.Random(1))
    assert sorted(index for batch in batches for index in batch) == [0, 1, 2, 3, 4, 5, 6, 6]
    assert all(len(batch) <= 2 and len({index > 4 for index in batch}) == 1 for batch in batches)
    assert batches == epoch(groups, 2, random.Random(1)) != epoch(groups, 2, random.Random(2))


def disc(size: int = 128) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - size / 2
    inside = np.hypot(rows, columns)[..., None] < size / 3
    return np.where(inside, np.array([220, 60, 20]), np.array([240, 230, 90])).astype(np.uint8)


def test_outline_is_ink_on_paper_along_the_edges() -> None:
    drawn = STYLES["outline"].apply(disc())
    assert drawn.shape == (128, 128, 3)
    assert (np.ptp(drawn, axis=2) == 0).all(), "no colour is left"
    assert drawn[64, 64, 0] == drawn[2, 2, 0] == 255
    assert drawn[64, 64 + 128 // 3, 0] < 60
    assert 0.02 < (drawn[..., 0] < 128).mean() < 0.15


def test_neon_is_bright_lines_on_the_dark() -> None:
    drawn = STYLES["neon"].apply(disc())
    assert drawn[64, 64].max() < 50
    assert drawn[64, 64 + 128 // 3].max() > 200


def test_pixel_art_is_flat_blocks_of_few_colours() -> None:
    noisy = np.random.default_rng(1).integers(0, 255, (128, 128, 3), np.uint8)
    drawn = STYLES["pixel"].apply(noisy)
    edge = 128 // CELLS
    blocks = drawn.reshape(CELLS, edge, CELLS, edge, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) <= PALETTE
