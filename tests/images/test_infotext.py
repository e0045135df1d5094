"""A1111's text, written and read; the record beside it.  The property that matters: what was rendered is read back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modules.errors import RequestError
from modules.images.infotext import (
    GenerationInfo,
    checkpoint_names,
    parse,
    parse_record,
    render,
    render_record,
    request_fields,
)
from modules.request import GuidanceOptions, NoiseOptions, SolverOptions, Txt2Img, clean_text, parse_request
from tests.images.conftest import make_info

# Text with everything that the format itself uses, next to any character at all, lone surrogates included.
_PIECES = st.one_of(
    st.sampled_from(
        ["Negative prompt:", "Steps: 20, Sampler: x, Seed: 1", "\n", "\n\n", " ", ",", ":", '"', "\\", "\\n", '\\"']
    ),
    st.sampled_from(
        ["👩🏽‍🎨", "שלום", "\u202eabc", "e\u0301", "\u2028", "\x85", "\u3000", "日本", "<lora:x:1>", "1x2", "\t", "\r\n"]
    ),
    st.text(max_size=8),
    st.characters(categories=["Cs", "Cc"]),
)
TEXTS = st.lists(_PIECES, max_size=8).map("".join)
KEYS = st.from_regex(r"[A-Za-z0-9_é][A-Za-z0-9_ /-]{0,12}[A-Za-z0-9_]", fullmatch=True).filter(lambda key: "  " not in key)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "rng": st.sampled_from(["CPU", "GPU", "NV"]),
        "ensd": st.integers(0, 2**32 - 1),
        "eta": st.floats(0, 1),
        "s_churn": st.floats(0, 100),
        "s_noise": st.floats(0, 2),
        "sigma_max": st.floats(0, 100),
        "rho": st.floats(0, 100),
        "beta_alpha": st.floats(0.01, 10),
        "discard_penultimate": st.booleans(),
        "zero_snr": st.booleans(),
        "skip_early_cfg": st.floats(0, 1),
        "ngms": st.floats(0, 15),
        "ngms_all_steps": st.booleans(),
        "cfg_rescale": st.floats(0, 1),
        "apg": st.booleans(),
        "apg_momentum": st.floats(-1, 1),
    },
)


@st.composite
def infos(draw: st.DrawFn) -> GenerationInfo:
    request = Txt2Img(
        prompt=draw(TEXTS),
        negative_prompt=draw(TEXTS),
        seed=draw(st.integers(0, 2**32 - 1)),
        steps=draw(st.integers(1, 150)),
        cfg_scale=draw(st.floats(0, 50)),
        sampler=draw(st.sampled_from(["Euler a", "DPM++ 2M SDE", "DDIM"])),
        schedule="Automatic",
        width=draw(st.integers(8, 256)) * 8,
        height=draw(st.integers(8, 256)) * 8,
        clip_skip=draw(st.integers(1, 12)),
        **draw(OPTIONS),
    )
    extras = draw(st.dictionaries(KEYS, TEXTS, max_size=4))
    return GenerationInfo(
        request=request,
        model_name=draw(TEXTS),
        model_hash=draw(st.from_regex(r"[0-9a-f]{10}", fullmatch=True)),
        schedule_label=draw(st.sampled_from(["Karras", "SGM Uniform", "Automatic"])),
        version="Atelier 0.1.0",
        extras=extras,
        facts=draw(st.dictionaries(st.text(), st.text(), max_size=2)),
    )


SAID = {"prompt", "negative_prompt", "steps", "sampler", "cfg_scale", "seed", "width", "height", "clip_skip"}
"""What the text says of a request by itself; everything else that is not usual comes as extra items, or is in the record."""


def unambiguous(prompt: str) -> bool:
    """Whether A1111's layout can tell where this prompt begins and ends."""
    return prompt == prompt.lstrip() and not any(line.lstrip().startswith("Negative prompt:") for line in prompt.split("\n"))


@given(infos())
@example(make_info(prompt="", negative_prompt=""))
@example(make_info(prompt="", negative_prompt="Negative prompt: a\n\n Steps: 1, Sampler: b, Seed: 2\n"))
@example(make_info(prompt='a, "b": c\n\nSteps: 1, Sampler: b, Seed: 2\n', negative_prompt=" \n"))
def test_what_is_rendered_is_read_back(info: GenerationInfo) -> None:
    fields = request_fields(parse(render(info)))

    expected = info.request.model_dump(include=SAID) | {"schedule": info.schedule_label}
    if info.request.clip_skip == 1:
        del expected["clip_skip"]  # said only above one
    if not unambiguous(info.request.prompt):
        for name in ("prompt", "negative_prompt"):  # what the text form cannot tell; the record can
            del expected[name]
    assert {name: fields[name] for name in expected} == expected
    read = parse_request({**fields, "checkpoint": None})
    assert read.seed == info.request.seed
    options = {*NoiseOptions.model_fields, *SolverOptions.model_fields, *GuidanceOptions.model_fields}
    assert read.model_dump(include=options) == info.request.model_dump(include=options)


def test_options_stand_under_a1111_s_names_in_its_order() -> None:
    info = make_info(
        sampler="DDIM",
        variation_seed=5,
        variation_strength=0.25,
        seed_resize_width=384,
        seed_resize_height=512,
        clip_skip=2,
        ensd=31337,
        rng="NV",
        discard_penultimate=True,
        sigma_min=0.1,
        eta=0.5,
        skip_early_cfg=0.2,
        ngms=1.5,
        ngms_all_steps=True,
    )
    assert (
        "Variation seed: 5, Variation seed strength: 0.25, Seed resize from: 384x512, Clip skip: 2, ENSD: 31337, RNG: NV, "
        "Discard penultimate sigma: True, Schedule min sigma: 0.1, Eta DDIM: 0.5, Skip Early CFG: 0.2, NGMS: 1.5, "
        "NGMS all steps: True, Version"
    ) in render(info)
    read = parse_request({**request_fields(parse(render(info))), "checkpoint": None})
    assert read.model_copy(update={"checkpoint": info.request.checkpoint, "schedule": info.request.schedule}) == info.request


@pytest.mark.parametrize(
    ("text", "rng"), [("Steps: 20, Seed: 1, Size: 8x8", "GPU"), ("Steps: 20, Seed: 1, RNG: NV", "NV"), ("a cat", None)]
)
def test_a_text_that_names_no_source_of_noise_means_a1111_s(text: str, rng: str | None) -> None:
    assert request_fields(parse(text)).get("rng") == rng


@given(infos())
@example(replace(make_info(), model_name='"quoted"', extras={"Foo": "1x2", "Foo-1": "its own", "Blank": " x ", "Same": "Same"}))
@example(replace(make_info(), model_name="Model", extras={"Empty": "", "Quotes": '""', "Path": "C:\\a\\", "End": '"'}))
def test_items_are_read_back(info: GenerationInfo) -> None:
    parsed = parse(render(info))
    core = set(parse(render(replace(info, extras={}, model_name="m")))) | {"Clip skip"}
    for key, value in info.extras.items():
        if key not in core:
            assert parsed[key] == clean_text(value)
    assert parsed.get("Model", "") == clean_text(info.model_name)
    assert parsed["Model hash"] == info.model_hash
    assert parsed["Version"] == "Atelier 0.1.0"
    assert list(parsed)[:3] == ["Prompt", "Negative prompt", "Steps"]


@given(infos(), st.text(), st.integers(0, 99))
def test_the_record_loses_nothing(info: GenerationInfo, job: str, index: int) -> None:
    record = parse_record(render_record(info, job, index))
    assert record.info.request == info.request
    assert (record.job, record.index) == (clean_text(job), index)
    assert record.info.facts == {clean_text(key): clean_text(value) for key, value in info.facts.items()}


@given(TEXTS)
def test_reading_never_raises_and_keeps_every_word(text: str) -> None:
    parsed = parse(text)
    request_fields(parsed)
    if list(parsed) == ["Prompt", "Negative prompt"] and "Negative prompt:" not in text:
        assert parsed["Prompt"] == clean_text(text).strip()


@pytest.mark.parametrize(
    "text",
    [
        'Steps: "' * 50_000,
        'a: "\\' * 50_000,
        '"' * 500_000,
        "Steps" * 100_000,
        ": " * 300_000,
        "a b c - / " * 60_000,
        "\\" * 500_000,
        'aa: "\\",' * 60_000,
        "," * 500_000,
        "Negative prompt:\n" * 50_000,
        "Seed: " + "9" * 900_000 + ", Steps: 1, CFG scale: " + "9" * 90_000,
        "Size: " + "9" * 5000 + "x" + "9" * 5000 + ", Steps: 1, Seed: 2",
        'aa: "' + "[" * 400_000 + '", bb: 1, cc: 2',
    ],
)
def test_hostile_text_is_read_in_one_pass(text: str) -> None:
    """Quadratic reading of these would take minutes to hours."""
    request_fields(parse(text))


def test_the_layout_is_a1111s() -> None:
    info = make_info(prompt="a cat,\non a mat", negative_prompt="dog", steps=25, cfg_scale=4.5, clip_skip=2, width=640)
    info = replace(info, extras={"Lora hashes": "a: 012345678901, b: 1", "Tiling": "Tiling", "Hires upscale": "2"})
    assert render(info) == (
        "a cat,\non a mat\n"
        "Negative prompt: dog\n"
        "Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.5, Seed: 7, Size: 640x64, Model hash: 0123456789, "
        'Model: model, Clip skip: 2, RNG: CPU, Lora hashes: "a: 012345678901, b: 1", Tiling, Hires upscale: 2, '
        "Version: Atelier 0.1.0"
    )


def test_what_is_empty_or_default_is_left_out() -> None:
    info = replace(make_info(prompt=""), model_name="", model_hash="")
    assert render(info) == (
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 7, Size: 64x64, RNG: CPU, "
        "Version: Atelier 0.1.0"
    )


def test_extras_neither_break_the_line_nor_lie_about_the_core() -> None:
    extras = {"a:b, c\nd": "1", "Seed": "999", "é": "short", ":": "none", "Prompt": "other"}
    parsed = parse(render(replace(make_info(), extras=extras)))
    assert parsed["a b c d"] == "1"
    assert parsed["Seed"] == "7"
    assert parsed["Prompt"] == "a cat"
    assert "é" not in parsed


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Steps: 20, Sampler: Euler a, CFG scale: 7.0, Seed: 1", {"Steps": "20", "Sampler": "Euler a", "CFG scale": "7.0"}),
        ('Steps: 20, Hires prompt: "a, \\"b\\": c\\nd", Seed: 1', {"Hires prompt": 'a, "b": c\nd'}),
        ('Steps: 20, Model: "open, Seed: 1, Eta: 0', {"Model": '"open', "Seed": "1", "Eta": "0"}),
        ('Steps: 20, Model: "a" b, Seed: 1', {"Model": '"a" b', "Seed": "1"}),
        ("Steps: 20, Size: 512x768, Seed: 1", {"Size": "512x768", "Size-1": "512", "Size-2": "768"}),
        ("Steps: 20, (junk) Seed: 1, Eta:0", {"Seed": "1", "Eta": "0"}),
        ("Steps: 20, Model: , Seed: 1", {"Model": "", "Seed": "1"}),
        ("Steps: 20, Karras, Seed: 1, Eta: 2", {"Karras": "Karras"}),
        ("Steps: 20, Model: http://x, Seed: 1", {"Model": "http://x"}),
        ("Steps: 1, Steps: 2, Seed: 3", {"Steps": "2"}),
    ],
)
def test_items_of_other_programs(line: str, expected: dict[str, str]) -> None:
    parsed = parse("a prompt\n" + line)
    assert {key: parsed.get(key) for key in expected} == expected
    assert parsed["Prompt"] == "a prompt"


def test_a_last_line_with_few_items_is_prompt() -> None:
    assert parse("a cat\nStyle: oil, Mood: calm")["Prompt"] == "a cat\nStyle: oil, Mood: calm"


def test_windows_line_ends_and_blanks_around_the_marker() -> None:
    parsed = parse("a\r\n  Negative prompt: b\r\nc\r\nSteps: 1, Sampler: Euler, Seed: 2\r\n")
    assert (parsed["Prompt"], parsed["Negative prompt"], parsed["Seed"]) == ("a", "b\nc", "2")


@pytest.mark.parametrize(
    ("sampler", "schedule", "expected"),
    [
        ("DPM++ 2M Karras", "", ("DPM++ 2M", "Karras")),
        ("DPM++ 2M SDE Exponential", "", ("DPM++ 2M SDE", "Exponential")),
        ("Euler a", "", ("Euler a", "Automatic")),
        ("DPM++ 2M", "SGM Uniform", ("DPM++ 2M", "SGM Uniform")),
    ],
)
def test_the_schedule_of_old_texts_is_in_the_samplers_name(sampler: str, schedule: str, expected: tuple[str, str]) -> None:
    fields = request_fields({"Sampler": sampler, "Schedule type": schedule})
    assert (fields["sampler"], fields["schedule"]) == expected


def test_numbers_that_are_none_are_left_out() -> None:
    fields = request_fields({"Steps": "many", "Seed": "1_000", "CFG scale": "nan", "Size-1": "٣", "Clip skip": "2.5"})
    assert fields == {"prompt": "", "negative_prompt": "", "rng": "GPU"}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ({"Emphasis": "No norm"}, {"emphasis": "No norm"}),
        ({"Emphasis": "Ignore"}, {"emphasis": "Ignore"}),
        ({"Emphasis": "Strong"}, {}),
        ({"Old prompt editing timelines": "True"}, {"old_prompt_editing": True}),
        ({"Old prompt editing timelines": "False"}, {}),
    ],
)
def test_how_the_prompt_was_read(items: dict[str, str], expected: dict[str, Any]) -> None:
    assert request_fields(items) == {"prompt": "", "negative_prompt": "", **expected}
    assert parse_request(request_fields(items))


def test_the_hash_names_the_checkpoint_before_the_name() -> None:
    parsed = {"Model": "dream", "Model hash": "0123456789"}
    assert checkpoint_names(parsed) == ("0123456789", "dream")
    assert request_fields(parsed)["checkpoint"] == "dream"
    assert request_fields({"Model hash": "0123456789"})["checkpoint"] == "0123456789"
    assert "checkpoint" not in request_fields({})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        "null",
        "{" * 200_000,
        "[" * 200_000,
        json.dumps({"format": 99}),
        json.dumps({"format": 1, "request": 3}),
        render_record(make_info()).replace('"steps":20', '"steps":0'),
        render_record(make_info()).replace('"name":"model"', '"name":1'),
        render_record(make_info())[:-3],
        render_record(make_info()).replace('"index":0', '"index":' + "9" * 5000),
        render_record(make_info()).replace('"index":0', '"index":-1'),
        render_record(make_info()).replace('"index":0', '"index":"0"'),
    ],
)
def test_a_record_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="the picture's record"):
        parse_record(text)


def test_only_one_picture_with_a_seed_is_described() -> None:
    for request in (Txt2Img(seed=-1), Txt2Img(seed=1, count=2)):
        with pytest.raises(ValueError, match="one picture"):
            GenerationInfo(request, "m", "0", "Karras", "v")
