"""The second pass and the refiner in texts and records."""

from __future__ import annotations

from typing import Any

import pytest

from modules.images.infotext import GenerationInfo, parse, parse_record, render, render_record, request_fields
from modules.request import parse_request

HIRES: list[dict[str, Any]] = [
    {"width": 128, "height": 128},
    {"width": 96, "height": 128, "upscaler": "Lanczos", "steps": 3},
    {"width": 128, "height": 128, "checkpoint": "sub/other, by me", "sampler": "DDIM"},
    {"width": 88, "height": 88, "denoising_strength": 0.35, "cfg_scale": 3.5, "sampler": "DDIM", "schedule": "Karras"},
    {"width": 64, "height": 64, "prompt": 'a "big" cat, 4k: yes', "negative_prompt": "blurry,\nbad", "cfg_scale": 0.0},
    {"width": 2048, "height": 2040, "upscaler": "Latent (bicubic antialiased)", "denoising_strength": 0.0},
]


@pytest.mark.parametrize("hires", HIRES, ids=str)
def test_a_second_pass_comes_back_from_the_text(hires: dict[str, Any]) -> None:
    request = parse_request({"prompt": "a cat", "seed": 1, "width": 64, "height": 64, "sampler": "Euler", "hires": hires})
    info = GenerationInfo(request, "tiny", "0" * 10, "Uniform", "Atelier 0.1.0", extras={"Hires upscale": "9"})
    fields = request_fields(parse(render(info)))
    assert parse_request({"hires": fields["hires"]}).hires == request.hires
    assert "denoising_strength" not in fields
    assert parse_record(render_record(info)).info.request == request


def test_a_second_pass_has_a1111_s_keys() -> None:
    hires = {"width": 128, "height": 128, "steps": 7, "sampler": "DDIM", "cfg_scale": 4.5, "prompt": "a dog"}
    request = parse_request({"prompt": "a cat", "seed": 1, "width": 64, "height": 64, "hires": hires})
    text = render(GenerationInfo(request, "", "", "Karras", "Atelier 0.1.0"))
    keys = (
        "Denoising strength: 0.7, RNG: CPU, Hires sampler: DDIM, Hires prompt: a dog, Hires CFG Scale: 4.5, Hires upscale: 2, "
    )
    assert keys + "Hires steps: 7, Hires upscaler: Latent, Version" in text


@pytest.mark.parametrize(
    ("items", "size"),
    [
        ("Size: 512x768, Hires upscale: 1.5", (768, 1152)),
        ("Size: 512x768, Hires upscaler: Latent", (1024, 1536)),
        ("Size: 512x768, Hires resize: 1024x0", (1024, 1536)),
        ("Size: 512x768, Hires resize: 0x1000", (664, 1000)),
        ("Size: 512x768, Hires resize: 1024x1024", (1024, 1024)),
        ("Size: 1024x1536, First pass size: 512x768", (1024, 1536)),
    ],
)
def test_the_size_of_a_second_pass_is_a1111_s(items: str, size: tuple[int, int]) -> None:
    hires = request_fields(parse(f"a\nSteps: 20, Seed: 1, Denoising strength: 0.7, {items}, Version: v1.10.1"))["hires"]
    assert (hires["width"], hires["height"]) == size


# ---- the refiner


REFINED = {"refiner": "sub/xl_refiner", "refiner_switch_at": 0.7, "refiner_by_steps": True, "refiner_pass": "both passes"}


def refined(extras: dict[str, str], **more: object) -> str:
    request = parse_request({"prompt": "a", "seed": 1, "checkpoint": "xl", **more})
    return render(GenerationInfo(request, "xl", "0" * 10, "Karras", "Atelier", extras))


def test_a_refiner_is_written_as_a1111_does_and_read_back() -> None:
    text = refined({"Refiner": "sub/xl_refiner [0123456789]"}, **REFINED, skip_early_cfg=0.2)
    assert (
        "Refiner: sub/xl_refiner [0123456789], Refiner switch at: 0.7, Hires refiner: both passes, "
        "Refiner switch by sampling steps: True, Skip Early CFG: 0.2" in text
    )
    assert text.count("Refiner: ") == 1
    fields = request_fields(parse(text))
    assert {name: fields[name] for name in REFINED} == {**REFINED, "refiner": "sub/xl_refiner [0123456789]"}
    usual = refined({}, refiner="xl_refiner")
    assert "Refiner: xl_refiner, Refiner switch at: 0.8, " in usual, "A1111 says it of every refiner"
    assert "Hires refiner" not in usual
    assert "switch by" not in usual


def test_a_text_without_a_refiner_names_no_field_of_one() -> None:
    for text in (refined({}), refined({}) + ", Refiner: None", refined({}, refiner_switch_at=0.5)):
        assert not [name for name in request_fields(parse(text)) if name.startswith("refiner")]


@pytest.mark.parametrize(("version", "by_steps"), [("v1.7.0", True), ("v1.8.0", False), ("v1.10.1", False)])
def test_before_1_8_a1111_s_refiner_took_over_by_steps(version: str, by_steps: bool) -> None:
    text = f"a\nSteps: 20, Sampler: Euler, Seed: 1, Refiner: x [0123456789], Refiner switch at: 0.6, Version: {version}"
    fields = request_fields(parse(text))
    assert (fields["refiner"], fields["refiner_switch_at"], fields["refiner_by_steps"]) == ("x [0123456789]", 0.6, by_steps)


def test_a_record_without_a_refiner_is_as_it_was_before_there_were_any() -> None:
    plain = parse_request({"prompt": "a", "seed": 1, "checkpoint": "xl"})
    assert not [name for name in plain.model_dump(mode="json") if name.startswith("refiner")]
    request = parse_request({"prompt": "a", "seed": 1, "checkpoint": "xl", **REFINED})
    record = render_record(GenerationInfo(request, "xl", "0" * 10, "Karras", "Atelier"))
    assert parse_record(record).info.request == request
