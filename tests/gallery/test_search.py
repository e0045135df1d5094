"""The search language: what each word of it finds, and what is said of a search that makes no sense."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from modules.errors import RequestError
from modules.gallery.edits import Change
from modules.gallery.gallery import Gallery
from modules.gallery.search import parse_search
from tests.gallery.conftest import SECONDS, names, painted

DAY = 86_400


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    folder = tmp_path_factory.mktemp("gallery")
    outputs = folder / "outputs"
    painted(outputs / "fox.png", "a red fox, <lora:ink_style:0.8>", seed=5, age=0, negative="bad hands", Model="dreamshaper_8")
    painted(outputs / "foxes.png", "two foxes, red", seed=18446744073709551615, size=(64, 32), age=DAY, Sampler="DPM++ 2M")
    painted(outputs / "dog.png", "a red dog", seed=7, size=(32, 96), age=40 * DAY, Model="other")
    painted(outputs / "cat.png", "猫耳 Café", seed=8, age=400 * DAY)
    (outputs / "torn.png").write_bytes((outputs / "fox.png").read_bytes()[:70])
    made = Gallery(folder / "data", outputs)
    made.rescan(SECONDS)
    [fox], [dog] = (made.ids(f'name:"{name}"', None) for name in ("fox", "dog"))
    made.edit([fox], None, Change(favourite=True, rating=5, add_tags=("Best of",), add_albums=("Zoo",)))
    made.edit([dog], None, Change(rating=3, add_tags=("zoo animals",)))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("red", {"fox", "foxes", "dog"}),
        ("red fox", {"fox", "foxes"}),  # the beginning of a word is enough
        ('"red fox"', {"fox"}),
        ('"fox"', {"fox"}),  # in quotation marks it is the whole word
        ("RED -fox", {"dog"}),
        ("-red -torn", {"cat"}),
        ('-"red fox" red', {"foxes", "dog"}),
        ("hands", set()),  # plain words are not looked for in negative prompts
        ("negative:hands", {"fox"}),
        ("prompt:fox", {"fox", "foxes"}),
        ("model:dream", {"fox"}),
        ('model:"dreamshaper_8"', {"fox"}),
        ("-model:other red", {"fox", "foxes"}),
        ("lora:ink", {"fox"}),
        ("ink_style", {"fox"}),
        ("sampler:dpm", {"foxes"}),
        ("name:dog", {"dog"}),
        ("seed:5", {"fox"}),
        ("seed:18446744073709551615", {"foxes"}),
        ("-seed:5 red", {"foxes", "dog"}),
        ("猫", {"cat"}),
        ("耳", {"cat"}),
        ("cafe", {"cat"}),
        ("size:32x96", {"dog"}),
        ("size:>32", {"foxes", "dog"}),
        ("size:>=64 size:<96", {"foxes"}),
        ("size:64", {"foxes"}),
        ("size:33..95", {"foxes"}),
        ("rating:5", {"fox"}),
        ("rating:>=3", {"fox", "dog"}),
        ("rating:1..4", {"dog"}),
        ("-rating:0", {"fox", "dog"}),
        ("tag:zoo", set()),  # a tag is meant as a whole
        ('tag:"ZOO animals"', {"dog"}),
        ("zoo", {"dog"}),  # as a word it is found in tags too
        ("album:zoo", {"fox"}),
        ("is:favourite", {"fox"}),
        ("is:broken", {"torn"}),
        ("-is:broken -red", {"cat"}),
        ("date:2026-08-14", {"fox"}),
        ("date:2026-08 -torn", {"fox", "foxes"}),
        ("date:2026-08-13..2026-08-14", {"fox", "foxes"}),
        ("date:2025", {"cat"}),
        ("date:2025..2026-07 red", {"dog"}),
        ("is:trash", set()),
        ("   ", {"fox", "foxes", "dog", "cat", "torn"}),
    ],
)
def test_a_search_finds(gallery: Gallery, text: str, found: set[str]) -> None:
    assert {name.removesuffix(".png") for name in names(gallery, text)} == found
    assert gallery.count(text, None) == len(found) == len(gallery.ids(text, None))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('a "b', "quotation mark without its partner"),
        ('a"b"', "in the middle of a word"),
        ("colour:red", "no search word 'colour:'"),
        ("seed:x", "must be a whole number"),
        ("seed:", "what to look for is missing"),
        ('tag:""', "what to look for is missing"),
        ("-", "asks for nothing"),
        ("!!!", "no letter or digit"),
        ("rating:many", "write 5, >=3 or 2..4"),
        ("size:big", "write 1024x768, >1024"),
        ("date:2026-13-01", "is no day, month or year"),
        ("date:yesterday", "is no day, month or year"),
        ("date:2026..2025", "ends before it begins"),
        ("-date:2026", "cannot stand behind a minus"),
        ("is:pretty", "is not known"),
        ("a " * 40, "more than 32 parts"),
        ("a" * 401, "at most 400"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_search(text, list)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["NEAR(a b)", "a OR b", "facts : live", "a*", "^a", "(a", "a AND", "x'); DROP TABLE pictures", "{prompt}"]
)
def test_words_are_never_taken_for_the_languages_below(gallery: Gallery, text: str) -> None:
    with suppress(RequestError):  # a colon or a bare sign
        names(gallery, text)
    assert gallery.count("", None) == 5
