"""From a picture back to its request."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules.errors import RequestError
from modules.images import png
from modules.images.infotext import render, render_record
from modules.images.recipe import read_recipe
from modules.request import parse_request
from tests.images.conftest import make_info

AMBIGUOUS = "  a\nNegative prompt: not really\n"


def picture(**texts: str) -> bytes:
    return png.encode(bytes(3), 1, 1, texts)


def test_our_record_is_complete_and_preferred() -> None:
    info = make_info(prompt=AMBIGUOUS, negative_prompt="b", seed=4_000_000_000)
    recipe = read_recipe(picture(parameters=render(info), atelier=render_record(info)))
    assert parse_request(recipe.fields) == info.request
    assert recipe.checkpoints == ("0123456789", "model")
    assert recipe.program == "Atelier 0.1.0"


@pytest.mark.parametrize("record", ["{}", '{"format":2}', "garbage"])
def test_a_record_that_cannot_be_read_gives_way_to_the_text(record: str) -> None:
    info = make_info(prompt="a dog", cfg_scale=4.5)
    recipe = read_recipe(picture(parameters=render(info), atelier=record))
    assert recipe.fields["prompt"] == "a dog"
    assert recipe.fields["cfg_scale"] == 4.5
    assert recipe.fields["schedule"] == "Karras"


def test_a_picture_of_another_program_has_only_the_text() -> None:
    items = "Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.0, Seed: 5, Size: 512x768, Version: v1.6.0"
    text = f"a cat\nNegative prompt: dog\n{items}"
    recipe = read_recipe(picture(parameters=text))
    request = parse_request(recipe.fields)
    assert (request.sampler, request.schedule, request.width, request.height) == ("DPM++ 2M", "Karras", 512, 768)
    assert recipe.program == "v1.6.0"
    assert recipe.checkpoints == ()


@pytest.mark.parametrize("texts", [{}, {"parameters": "just some words"}, {"comment": "hello"}])
def test_a_picture_that_says_nothing_is_refused(texts: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(picture(**texts))
    with pytest.raises(RequestError, match=r"photo\.png does not say how it was made"):
        read_recipe(path)
