"""A field of a request is declared once: everything else that knows it reads the declaration."""

from __future__ import annotations

from typing import Annotated, Literal, get_origin

import pytest
from pydantic import BaseModel, Field

from modules.api.a1111.option_table import PICTURE
from modules.api.a1111.requests import PictureBody, TextBody
from modules.fields import About, Bounds, about, bounds_of, idle_fields, infotext_keys, kind_of
from modules.images.infotext import GenerationInfo, parse, render, request_fields
from modules.options import FROM_PICTURES, OPTIONS, SOURCES, declared_by, declared_in, grouped
from modules.options import PICTURE as OF_PICTURES
from modules.request import Hires, Img2Img, Integer, Real, Txt2Img

SOURCE = '''
Mood = Literal["calm", "wild"]

class Wider(Img2Img):
    """A comment, a method and a field without a declaration are passed over."""

    plain: int = 3
    glow: Annotated[
        Real, Field(ge=0, le=1), About("Glow", "how much " "light", group="Guidance", infotext="Glow", needs=("apg",))
    ] = 0.0
    mood: Annotated[Mood, About("Mood", "which of them", group="New", position=-1, infotext="Mood")] = "calm"
    shine: Annotated[bool, About("Shine", "or not", group="New")] = False

    def method(self) -> None: ...
'''


class Wider(Img2Img):
    glow: Annotated[
        Real, Field(ge=0, le=1), About("Glow", "how much light", group="Guidance", infotext="Glow", needs=("apg",))
    ] = 0.0
    mood: Annotated[Literal["calm", "wild"], About("Mood", "which of them", group="New", position=-1, infotext="Mood")] = "calm"
    shine: Annotated[bool, About("Shine", "or not", group="New")] = False


def wider(**fields: object) -> Wider:
    return Wider.model_validate({"prompt": "a fox", "seed": 5, "checkpoint": "m", "source": "a" * 64, **fields})


def test_the_command_line_reads_from_the_source_what_the_class_declares() -> None:
    from_source = {one.name: one for one in declared_in(*(source.read_text("utf-8") for source in SOURCES))}
    from_class = {one.name: one for one in declared_by(Img2Img)}
    assert from_source == from_class
    groups = grouped(from_class.values())
    assert {name: options for name, options in groups.items() if name != OF_PICTURES} == OPTIONS
    assert groups[OF_PICTURES] == FROM_PICTURES
    assert list(OPTIONS) == ["Checkpoint", "Noise", "Sampler", "Schedule", "Guidance", "Large pictures", "Prompt", "File"]


def test_a_source_and_a_class_of_the_same_text_declare_the_same() -> None:
    ours = set(about(Img2Img))
    assert declared_in(SOURCE) == [one for one in declared_by(Wider) if one.name not in ours]


def test_another_field_is_offered_by_the_page_and_the_command_line() -> None:
    groups = grouped(declared_in(SOURCE))
    (glow,) = groups["Guidance"]
    assert (glow.flag, glow.label, glow.help, glow.switch, glow.choices) == ("--glow", "Glow", "how much light", False, ())
    mood, shine = groups["New"]
    assert (mood.name, mood.choices, shine.switch) == ("mood", ("calm", "wild"), True)


def test_another_field_is_written_into_the_infotext_and_read_back() -> None:
    text = render(GenerationInfo(wider(glow=0.25, mood="wild"), "m", "0" * 10, "Karras", "Atelier"))
    assert "Glow: 0.25, Mood: wild" in text
    fields = request_fields(parse(text), Wider)
    assert (fields["glow"], fields["mood"]) == (0.25, "wild")
    assert "glow" not in request_fields(parse(text))
    assert "Glow" not in render(GenerationInfo(wider(), "m", "0" * 10, "Karras", "Atelier"))


def test_another_field_is_described_in_the_schema_of_the_api() -> None:
    glow = Wider.model_json_schema()["properties"]["glow"]
    assert (glow["description"], glow["type"], glow["default"]) == ("How much light.", "number", 0.0)


def test_another_field_is_idle_without_what_it_needs() -> None:
    assert "glow" in idle_fields(wider())
    assert "glow" not in idle_fields(wider(apg=True))
    assert "mimic_scale" in idle_fields(wider(apg=True))
    assert "masked_padding" in idle_fields(wider(box=(1, 2, 3, 4)))
    assert "masked_padding" not in idle_fields(wider())


def test_kind_and_bounds_are_those_of_the_annotation() -> None:
    class Kinds(BaseModel):
        plain: int = 0
        share: Annotated[Real, Field(ge=0.0, le=1.0), About("Share")] = 0.0
        maybe: Annotated[Annotated[Integer, Field(ge=2)] | None, About("Maybe")] = None
        word: Literal["a", "b"] = "a"

    assert [kind_of(Kinds, name) for name in ("plain", "share", "maybe")] == [int, float, int]
    assert get_origin(kind_of(Kinds, "word")) is Literal
    bounds = [bounds_of(Kinds, name) for name in ("plain", "share", "maybe", "word")]
    assert bounds == [Bounds(), Bounds(0, 1), Bounds(2), Bounds()]
    assert bounds_of(Img2Img, "width") == Bounds(64, 8192, 8)


@pytest.mark.parametrize("model", [Txt2Img, Img2Img, Hires])
def test_no_key_or_name_is_declared_twice(model: type[BaseModel]) -> None:
    declared = about(model)
    keys = [key for one in declared.values() for key in one.keys]
    names = [one.a1111 for one in declared.values() if one.a1111]
    options = [one.a1111_option for one in declared.values() if one.a1111_option]
    for each in (keys, names, options):
        assert len(set(each)) == len(each)
    others = {other for one in declared.values() for other in (*one.needs, *one.unless)}
    assert others <= set(model.model_fields)


def test_a1111_s_names_are_those_of_its_calls_and_options() -> None:
    for model, body in ((Txt2Img, TextBody), (Img2Img, PictureBody), (Hires, TextBody)):
        assert {one.a1111 for one in about(model).values() if one.a1111} <= set(body.model_fields)
    for name, one in about(Img2Img).items():
        if one.a1111_option:
            assert PICTURE[one.a1111_option].field == name


def test_the_infotext_s_sections_are_in_a1111_s_order() -> None:
    assert list(infotext_keys(Img2Img, "options"))[:4] == [
        "Noise Schedule", "Ignore zero terminal SNR", "Prediction", "Noise multiplier",
    ]  # fmt: skip
    assert list(infotext_keys(Txt2Img, "options"))[3] == "Discard penultimate sigma"
    assert list(infotext_keys(Img2Img, "options"))[-2:] == ["Raw text", "Exact steps"]
    assert list(infotext_keys(Hires, "texts")) == [
        "Hires checkpoint", "Hires sampler", "Hires prompt", "Hires negative prompt", "Hires schedule type",
    ]  # fmt: skip
