"""A1111's text, written and read; the record beside it.  The property that matters: what was rendered is read back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modules.diffusion.samplers.relevance import relevant
from modules.errors import RequestError
from modules.images import infotext_keys as keys
from modules.images.infotext import GenerationInfo, parse, parse_record, render, render_record, request_fields
from modules.request import (
    GuidanceOptions,
    Img2Img,
    NoiseOptions,
    SamplerOptions,
    TileOptions,
    Txt2Img,
    clean_text,
    parse_request,
)
from modules.roles import ROLE_FIELDS
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
        "exact_steps": st.booleans(),
        "ignore_zero_snr": st.booleans(),
        "prediction": st.sampled_from(["Automatic", "eps", "v"]),
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
    if not unambiguous(info.request.prompt):
        for name in ("prompt", "negative_prompt"):  # what the text form cannot tell; the record can
            del expected[name]
    assert {name: fields[name] for name in expected} == expected
    read = parse_request({**fields, "checkpoint": None})
    assert read.seed == info.request.seed
    options = {*NoiseOptions.model_fields, *SamplerOptions.model_fields, *GuidanceOptions.model_fields}
    assert read.model_dump(include=options) == info.request.model_dump(include=options)


MASKS = st.fixed_dictionaries(
    {"mask": st.from_regex("[0-9a-f]{64}", fullmatch=True)},
    optional={
        "mask_mode": st.sampled_from(["Inpaint masked", "Inpaint not masked"]),
        "mask_blur_x": st.integers(0, 64),
        "mask_blur_y": st.integers(0, 64),
        "mask_round": st.booleans(),
        "masked_content": st.sampled_from(["fill", "original", "latent noise", "latent nothing", "blurred", "tile", "patches"]),
        "box": st.tuples(*[st.integers(1, 8192)] * 4),
        "conditioning_mask_strength": st.floats(0, 1),
        "differential": st.booleans(),
        "outpaint_left": st.integers(0, 1024),
        "outpaint_down": st.integers(0, 1024),
    },
)
AREAS = st.one_of(
    st.just({}),
    st.builds(
        lambda area, padding: {"inpaint_area": area, "masked_padding": padding},
        st.sampled_from(["Only masked", "Crop and stitch"]),
        st.integers(0, 256),
    ),
)
SOFT = st.one_of(
    st.just({}),
    st.builds(
        lambda bias, boost, contrast: {
            "soft_inpainting": True,
            "soft_bias": bias,
            "soft_contrast_boost": boost,
            "soft_difference_contrast": contrast,
        },
        st.floats(0, 8),
        st.floats(1, 32),
        st.floats(0, 8),
    ),
)


@given(
    infos(),
    st.from_regex("[0-9a-f]{64}", fullmatch=True),
    st.floats(0, 1),
    st.sampled_from(["Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)"]),
    st.fixed_dictionaries(
        {},
        optional={
            "fix_steps": st.booleans(),
            "color_correction": st.booleans(),
            "noise_multiplier": st.floats(0, 1.5),
            "extra_noise": st.floats(0, 1),
            "image_cfg_scale": st.floats(0, 10),
            "upscaler_noise_level": st.integers(0, 350),
        },
    ),
    st.one_of(st.just({}), st.builds(lambda mask, area, soft: mask | area | soft, MASKS, AREAS, SOFT)),
)
def test_a_picture_from_a_picture_is_read_back(
    info: GenerationInfo, source: str, strength: float, mode: str, options: dict[str, Any], mask: dict[str, Any]
) -> None:
    """The whole request, but for the prompts that the text form cannot tell apart and what is said in other words."""
    given = info.request.model_dump() | {"source": source, "denoising_strength": strength, "resize_mode": mode}
    request = Img2Img(**(given | options | mask))
    fields = request_fields(parse(render(replace(info, request=request))))
    read = parse_request({**fields, "checkpoint": None})
    elsewhere = {"prompt", "negative_prompt", "checkpoint", "schedule", "comments"}
    elsewhere |= {"variation_seed"} if request.variation_strength == 0 else set()
    assert read.model_dump(exclude=elsewhere) == request.model_dump(exclude=elsewhere)


def test_an_inpaint_stands_under_a1111_s_names_in_its_order() -> None:
    source, mask = "5" * 64, "a" * 64
    info = make_info(sampler="Euler a", clip_skip=2, ensd=31337, eta=0.5)
    request = Img2Img(
        **info.request.model_dump(),
        source=source,
        mask=mask,
        denoising_strength=0.5,
        conditioning_mask_strength=0.75,
        mask_mode="Inpaint not masked",
        mask_blur_x=8,
        mask_blur_y=8,
        inpaint_area="Only masked",
        masked_padding=16,
        masked_content="latent noise",
        noise_multiplier=0.9,
        extra_noise=0.25,
        soft_inpainting=True,
        image_cfg_scale=2,
        outpaint_up=64,
    )
    extras = {"Template": "x", "Lora hashes": "a: 0, b: 1", "Emphasis": "No norm", "Init image hash": "0123"}
    assert render(replace(info, request=request, extras=extras)) == (
        "a cat\nSteps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Image CFG scale: 2, Seed: 7, Size: 64x64, "
        "Model hash: 0123456789, Model: model, Denoising strength: 0.5, Conditional mask weight: 0.75, Clip skip: 2, "
        f"ENSD: 31337, Init image hash: 0123, Source hash: {source}, Mask hash: {mask}, RNG: CPU, "
        "Mask mode: Inpaint not masked, Mask blur: 8, Inpaint area: Only masked, Masked area padding: 16, "
        'Masked content: latent noise, Lora hashes: "a: 0, b: 1", Emphasis: No norm, Noise multiplier: 0.9, Extra noise: 0.25, '
        "Eta: 0.5, Soft inpainting enabled: True, Soft inpainting schedule bias: 1, Soft inpainting preservation strength: "
        "0.5, Soft inpainting transition contrast boost: 4, Soft inpainting mask influence: 0, "
        "Soft inpainting difference threshold: 0.5, Soft inpainting difference contrast: 2, Outpaint up: 64, Template: x, "
        "Version: Atelier 0.1.0"
    )


def test_what_is_not_repainted_says_nothing_of_masks() -> None:
    request = Img2Img(**make_info().request.model_dump(), source="5" * 64, mask_blur_x=9)
    text = render(replace(make_info(), request=request))
    assert f"Denoising strength: 0.75, Source hash: {'5' * 64}, RNG: CPU, Version" in text


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


def test_every_field_of_a_request_is_told_or_named_here() -> None:
    """A new field of a request needs a key, or a reason to have none."""
    core = {"prompt", "negative_prompt", "seed", "steps", "cfg_scale", "sampler", "schedule", "width", "height", "clip_skip"}
    core |= {
        "checkpoint",
        "vae",
        "rng",
        "ensd",
        "variation_seed",
        "variation_strength",
        "seed_resize_width",
        "seed_resize_height",
    }
    core |= {"denoising_strength", "conditioning_mask_strength", "image_cfg_scale"}
    tables = {
        name for table in (keys.OPTIONS, keys.SOFT_INPAINTING, keys.SOURCE, keys.OURS, keys.MASK) for name in table.values()
    }
    by_extras = {
        "emphasis",
        "old_prompt_editing",
    }  # said by the code that finished the prompts, only where they make a difference
    without = {"count", "styles", "comments", "private"}  # of the job, gone when prompts are finished, or nobody's business
    assert ROLE_FIELDS.keys() <= tables, "the pictures by role"
    fields = (set(Img2Img.model_fields) - {"pictures"}) | ROLE_FIELDS.keys()
    own = {"hires", "extensions", "kept_extensions", *TileOptions.model_fields}
    assert fields == core | tables | by_extras | without | own, "the last ones have tests of their own"


def test_records_of_earlier_versions_keep_their_steps_and_their_texts() -> None:
    """UniPC ran the steps that were asked for until the version whose records have `raw_text`; since then it runs A1111's."""
    request = Txt2Img(prompt="a", seed=1, sampler="UniPC", steps=30, checkpoint="m")
    record = json.loads(render_record(GenerationInfo(request, "m", "0" * 10, "Automatic", "Atelier 0.1.0")))

    def read(without: set[str]) -> tuple[bool, bool]:
        kept = {name: value for name, value in record["request"].items() if name not in without}
        found = parse_record(json.dumps({**record, "request": kept})).info.request
        return found.exact_steps, found.raw_text

    assert read({"raw_text", "exact_steps", "ignore_zero_snr"}) == (True, True)
    assert read({"exact_steps", "ignore_zero_snr"}) == (False, False)
    assert read(set()) == (False, False)
    record["request"]["exact_steps"] = True
    assert read(set()) == (True, False)


def test_exact_steps_are_reported_where_they_make_a_difference() -> None:
    exact = Txt2Img(sampler="UniPC", steps=30, seed=1, exact_steps=True)
    assert relevant(exact).exact_steps
    assert not relevant(exact.model_copy(update={"sampler": "Euler"})).exact_steps
    assert request_fields(parse(render(replace(make_info(), request=exact))))["exact_steps"] is True


def test_the_autoencoder_s_file_stands_behind_the_checkpoint_as_a1111_writes_it() -> None:
    request = Txt2Img(prompt="a", seed=1, checkpoint="m")
    said = {"VAE": "nice.safetensors", "VAE hash": "0123456789"}
    text = render(GenerationInfo(request, "m", "0" * 10, "Karras", "Atelier", said))
    assert "Model: m, VAE hash: 0123456789, VAE: nice.safetensors" in text
    assert text.count("nice") == 1
    assert request_fields(parse(text))["vae"] == "nice.safetensors"
    assert "VAE" not in render(GenerationInfo(request, "m", "0" * 10, "Karras", "Atelier"))
    none = request.model_copy(update={"vae": "None"})
    assert request_fields(parse(render(GenerationInfo(none, "m", "0" * 10, "Karras", "Atelier"))))["vae"] == "None"


def test_a_whole_recipe_without_clip_skip_means_one() -> None:
    """Else what is preferred for a checkpoint would fill it, and the picture become another."""
    assert request_fields(parse("a cat\nSteps: 20, Sampler: Euler, Seed: 1"))["clip_skip"] == 1
    assert request_fields(parse("a cat\nSteps: 20, Sampler: Euler, Seed: 1, Clip skip: 2"))["clip_skip"] == 2
    assert "clip_skip" not in request_fields(parse("a cat"))
