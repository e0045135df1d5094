"""The values and axes of an X/Y/Z plot: A1111's syntax, and an axis for every field that is declared."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from modules.errors import RequestError, UnknownName
from modules.fields import About
from modules.request import Hires, Img2Img, Real, Txt2Img
from modules.scripts import axes as axes_module
from modules.scripts import values
from modules.scripts.axes import Names, axes, find_axis

NAMES = Names(
    checkpoints=lambda: ["tiny", "sub/other"],
    vaes=lambda: ["Automatic", "None"],
    styles=lambda: ["ink, wash", "oil"],
    upscalers=lambda: ["Latent", "Lanczos", "ink-2x"],
    checkpoint=lambda name: name if name in ("tiny", "sub/other") else _unknown(name),
    vae=lambda name: name,
    upscaler=lambda name: {"latent": "Latent", "ink-2x": "ink-2x"}.get(name.casefold()) or _unknown(name),
    enlargers=lambda: ["None", "Lanczos", "Nearest", "ink-2x"],
    enlarger=lambda name: {"lanczos": "Lanczos", "ink-2x": "ink-2x"}.get(name.casefold()) or _unknown(name),
)


def _unknown(name: str) -> str:
    raise UnknownName("checkpoint", name, ["tiny", "sub/other"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1-5", [1, 2, 3, 4, 5]),
        ("1-5 (+2), 9", [1, 3, 5, 9]),
        ("10-2 (-4)", [10, 6, 2]),
        ("3-1", [3, 2, 1]),
        ("1-10 [5]", [1, 3, 5, 7, 10]),  # as A1111 truncates 3.25, 5.5 and 7.75
        ("-3--1, -1", [-3, -2, -1, -1]),
        ("18446744073709551615", [2**64 - 1]),
    ],
)
def test_whole_numbers(text: str, expected: list[int]) -> None:
    assert values.integers(values.split(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1-2", [1, 2]),
        ("0-1 (+0.3)", [0, 0.3, 0.6, 0.9]),
        ("0.1-0.5 (+.1)", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("1-0 (-0.5)", [1, 0.5, 0]),
        ("0-1 [3], 7.5", [0, 0.5, 1, 7.5]),
        ("2-9 [1]", [2]),
    ],
)
def test_numbers(text: str, expected: list[float]) -> None:
    assert values.reals(values.split(text)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("four", "'four' is not a whole number and no range"),
        ("1.5", "not a whole number"),
        ("1-5 (-1)", "goes the other way"),
        ("1-5 (+0)", "step must not be 0"),
        ("1-9 [0]", "at least 1"),
        ("1-99999999", "at most 1,000"),
        ("1-9 [5000]", "at most 1,000"),
        ("1-" + " " * 50_000 + "x", "not a whole number"),
    ],
)
def test_what_is_no_number_is_said(text: str, words: str) -> None:
    with pytest.raises(RequestError) as error:
        values.integers(values.split(text))
    assert words in str(error.value)


def test_csv_keeps_quoted_commas_both_ways() -> None:
    texts = ["cat", "dog, red", 'a "b"', "two\nlines", ""]
    assert values.split(values.joined(texts)) == texts
    assert values.split(' a , "b, c",d') == ["a", "b, c", "d"]


def test_every_declared_field_has_an_axis_and_its_label_is_its_own() -> None:
    for image, model in ((False, Txt2Img), (True, Img2Img)):
        listed = axes(image)
        keys = {axis.key for axis in listed if not axis.missing}
        wanted = set(model.model_fields) - {"count", "pictures", "box", "hires", "extensions", "kept_extensions"}
        assert wanted <= keys
        labels = [axis.label.casefold() for axis in listed]
        assert len(labels) == len(set(labels))
    assert {f"hires.{name}" for name in Hires.model_fields} <= {axis.key for axis in axes(False)}


def test_a_new_field_gets_an_axis_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(Txt2Img):
        glow: Annotated[Real, Field(ge=0, le=1), About("Glow", "light", group="Guidance")] = 0.0

    monkeypatch.setattr(axes_module, "Txt2Img", Later)
    axis = find_axis("Glow", False)
    assert (axis.key, axis.kind) == ("glow", "float")
    assert axis.apply({"prompt": "a"}, 0.5, [0.5]) == {"prompt": "a", "glow": 0.5}


def test_an_extensions_option_is_an_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    class Options(BaseModel):
        glow: Annotated[Real, Field(ge=0, le=1), About("Glow", "light")] = 0.0

    class Extension:
        options = Options

    monkeypatch.setattr(axes_module, "EXTENSIONS", {"lamp": Extension})
    axis = find_axis("Glow", False)
    given = {"extensions": {"lamp": {"bright": True}, "other": {"a": 1}}}
    assert axis.apply(given, 0.5, [0.5]) == {"extensions": {"lamp": {"bright": True, "glow": 0.5}, "other": {"a": 1}}}


def test_places_are_those_of_a1111() -> None:
    """Of v1.10.1's two lists, which its `script_args` count."""
    words, pictures = ([axis.label for axis in axes(image)] for image in (False, True))
    assert [words.index(label) for label in ("Nothing", "Steps", "Hires steps", "CFG Scale", "Sampler")] == [0, 4, 5, 6, 9]
    assert [words.index(label) for label in ("Checkpoint name", "Denoising", "VAE", "Styles", "Size")] == [11, 25, 29, 30, 41]
    assert [pictures.index(label) for label in ("CFG Scale", "Image CFG Scale", "Sampler", "Denoising", "Size")] == [
        5,
        6,
        9,
        24,
        40,
    ]
    assert find_axis(4, False).key == find_axis("steps", False).key == find_axis("4", False).key == "steps"


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        ("Face restore", "no such setting"),
        ("Extra noise", "picture"),
        ("Colour of mind", "is not here"),
        (999, "counted from 0"),
    ],
)
def test_an_axis_that_is_not_here_says_why(axis: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        find_axis(axis, False)


@pytest.mark.parametrize(
    ("label", "text", "expected"),
    [
        ("Sampler", "euler A, DPM++ 2M Karras", ["Euler a", ["DPM++ 2M", "Karras"]]),
        ("Schedule type", "karras", ["Karras"]),
        ("RNG source", "cpu, NV", ["CPU", "NV"]),
        ("Always discard next-to-last sigma", "True, no", [True, False]),
        ("Size", "64x128, 512 x 768", [[64, 128], [512, 768]]),
        ("Refiner checkpoint", "None, tiny", ["", "tiny"]),
        ("Styles", 'oil, """ink, wash"", oil"', [["oil"], ["ink, wash", "oil"]]),
        ("Prompt order", "a, b", [["a", "b"], ["b", "a"]]),
        ("Nothing", "whatever", [None]),
    ],
)
def test_values_of_each_kind(label: str, text: str, expected: list[Any]) -> None:
    assert find_axis(label, False).parse(values.split(text), NAMES) == expected


@pytest.mark.parametrize(
    ("label", "text", "words"),
    [
        ("Sampler", "Euler z", "Euler z"),
        ("Checkpoint name", "nowhere", "nowhere"),
        ("Styles", "chalk", "chalk"),
        ("RNG source", "TPU", "TPU"),
        ("Size", "64", "512x768"),
        ("SGM noise multiplier", "maybe", "neither True nor False"),
        ("Prompt order", ", ".join("abcdefgh"), "40,320"),
    ],
)
def test_values_that_make_no_sense_are_named(label: str, text: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        find_axis(label, False).parse(values.split(text), NAMES)


def test_search_and_replace_reaches_all_prompts_and_refuses_what_is_in_none() -> None:
    axis = find_axis("Prompt S/R", False)
    fields = {"prompt": "a cat, cat", "negative_prompt": "no cat", "hires": {"prompt": "cat!"}}
    assert axis.apply(fields, "dog", ["cat", "dog"]) == {
        "prompt": "a dog, dog",
        "negative_prompt": "no dog",
        "hires": {"prompt": "dog!"},
    }
    with pytest.raises(RequestError, match="'bird' is in neither prompt"):
        axis.apply(fields, "dog", ["bird", "dog"])


def test_prompt_order_puts_each_at_a_place_of_one_of_them() -> None:
    axis = find_axis("Prompt order", False)
    order = axis.apply({"prompt": "a red cat, in a hat!"}, ["in a hat", "red cat"], [])
    assert order["prompt"] == "a in a hat, red cat!"
    with pytest.raises(RequestError, match="'dog' is not in the prompt"):
        axis.apply({"prompt": "a red cat"}, ["dog", "red"], [])


def test_a_second_passes_axis_needs_a_second_pass() -> None:
    axis = find_axis("Hires steps", False)
    assert axis.apply({"hires": {"width": 64, "height": 64}}, 3, [3])["hires"]["steps"] == 3
    with pytest.raises(RequestError, match="second pass"):
        axis.apply({"prompt": "a"}, 3, [3])


def test_a_second_passes_checkpoint_may_be_none() -> None:
    axis = find_axis("Hires checkpoint", False)
    assert axis.choices(NAMES) == ["None", "tiny", "sub/other"]
    assert axis.parse(["None", "sub/other"], NAMES) == ["", "sub/other"]
    assert [axis.shown(value) for value in ("", "sub/other")] == ["Hires checkpoint: None", "Hires checkpoint: other"]
    assert axis.cost == find_axis("Checkpoint name", False).cost


def test_choices_are_those_that_are_here() -> None:
    assert find_axis("Checkpoint name", False).choices(NAMES) == ["tiny", "sub/other"]
    assert "Euler a" in (find_axis("Hires sampler", False).choices(NAMES) or ())
    assert find_axis("Steps", False).choices(NAMES) is None


def test_legends_name_the_axis_and_no_folder() -> None:
    assert find_axis("Steps", False).shown(20) == "Steps: 20"
    assert find_axis("CFG Scale", False).shown(7.0) == "CFG Scale: 7"
    assert find_axis("Checkpoint name", False).shown("sub/other") == "other"
    assert find_axis("Prompt S/R", False).shown("a dog") == "a dog"
    assert find_axis("Sampler", False).shown(["DPM++ 2M", "Karras"]) == "Sampler: DPM++ 2M Karras"


def test_a_second_pass_s_upscaler_is_chosen_from_those_that_are_here() -> None:
    axis = find_axis("Hires upscaler", image=False)
    assert axis.choices(NAMES) == ["Latent", "Lanczos", "ink-2x"]
    assert axis.parse(["latent", "ink-2x"], NAMES) == ["Latent", "ink-2x"]
    with pytest.raises(UnknownName):
        axis.parse(["nowhere"], NAMES)
