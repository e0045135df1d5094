"""What texts of A1111's versions, and of other programs, mean."""

from __future__ import annotations

from typing import Any

import pytest

from modules.images.infotext import checkpoint_names, completed, parse, request_fields
from modules.images.infotext_parsing import a1111_version
from modules.request import parse_request

A1111_INPAINT = (
    "a cat\nSteps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 5, Size: 512x512, "
    "Model hash: 0123456789, Model: dream-inpainting, Denoising strength: 0.6, Conditional mask weight: 0.5, "
    "Init image hash: 0123456789abcdef0123456789abcdef, Mask blur: 6, Version: v1.10.1"
)


def test_an_inpaint_of_a1111_is_read_with_its_defaults() -> None:
    fields = request_fields(parse(A1111_INPAINT))
    assert fields["denoising_strength"] == 0.6
    assert fields["conditioning_mask_strength"] == 0.5
    assert (fields["mask_blur_x"], fields["mask_blur_y"]) == (6, 6)
    assert (fields["mask_mode"], fields["inpaint_area"]) == ("Inpaint masked", "Whole picture")
    assert (fields["masked_content"], fields["masked_padding"]) == ("original", 32)
    assert "source" not in fields  # an MD5 names nothing here


def test_a_mask_without_a_blur_has_none() -> None:
    fields = request_fields(parse("a\nSteps: 20, Seed: 5, Denoising strength: 0.6, Masked content: fill, Version: v1.10.1"))
    assert (fields["mask_blur_x"], fields["mask_blur_y"], fields["masked_content"]) == (0, 0, "fill")
    assert "mask_blur_x" not in request_fields(parse("a\nSteps: 20, Seed: 5, Denoising strength: 0.6"))


@pytest.mark.parametrize("key", ["Hires upscale: 2", "Hires upscaler: Latent", "Hires resize: 1024x1024"])
def test_a_second_pass_is_no_picture_from_a_picture(key: str) -> None:
    fields = request_fields(parse(f"a\nSteps: 20, Seed: 1, Denoising strength: 0.7, {key}, Version: v1.10.1"))
    assert not {"denoising_strength", "mask_mode", "noise_multiplier"} & fields.keys()


def test_what_a_text_leaves_out_is_a1111_s_default() -> None:
    full = completed(parse("a (cat)\nSteps: 20, Sampler: Euler, Seed: 1"))
    assert {key: full[key] for key in ("Clip skip", "RNG", "Schedule type", "Mask mode", "Masked area padding")} == {
        "Clip skip": "1",
        "RNG": "GPU",
        "Schedule type": "Automatic",
        "Mask mode": "Inpaint masked",
        "Masked area padding": "32",
    }
    assert (full["Hires sampler"], full["Hires resize-1"], full["VAE Decoder"]) == ("Use same sampler", "0", "Full")
    assert (full["FP8 weight"], full["Refiner switch by sampling steps"]) == ("Disable", "False")
    assert full["Emphasis"] == "Original"
    assert "Emphasis" not in completed(parse("a cat\nSteps: 20, Sampler: Euler, Seed: 1"))
    assert completed(parse("only words")) == {"Prompt": "only words", "Negative prompt": ""}


@pytest.mark.parametrize(
    ("version", "sampler", "expected"),
    [
        ("v1.5.2", "DDIM", {"Old prompt editing timelines", "Pad conds v0", "Downcast alphas_cumprod"}),
        ("v1.5.2", "Euler", {"Old prompt editing timelines", "Downcast alphas_cumprod"}),
        ("v1.6.0-RC-28-gabcdef", "PLMS", {"Old prompt editing timelines", "Pad conds v0", "Downcast alphas_cumprod"}),
        ("v1.6.0", "DDIM", {"Downcast alphas_cumprod"}),
        ("v1.7.0-224-gabc", "DDIM", {"Downcast alphas_cumprod"}),
        ("v1.7.0-225-gabc", "DDIM", set()),
        ("1.8.0", "DDIM", set()),
        ("f2.0.1v1.10.1-previous-1", "DDIM", set()),
        ("Atelier 0.1.0", "DDIM", set()),
        ("", "DDIM", set()),
    ],
)
def test_what_old_versions_meant(version: str, sampler: str, expected: set[str]) -> None:
    text = f"[a:b:3]\nSteps: 20, Sampler: {sampler}, Seed: 1" + (f", Version: {version}" if version else "")
    keys = {"Old prompt editing timelines", "Pad conds v0", "Downcast alphas_cumprod", "Refiner switch by sampling steps"}
    full = completed(parse(text))
    assert {key for key in keys if full.get(key) == "True"} == expected
    assert request_fields(parse(text)).get("old_prompt_editing", False) is ("Old prompt editing timelines" in expected)


def test_the_refiner_of_old_versions_switched_by_steps() -> None:
    text = "a\nSteps: 20, Sampler: Euler, Refiner: x, Version: {}"
    for version, meant in (("v1.7.0", "True"), ("v1.8.0", "False")):
        assert completed(parse(text.format(version)))["Refiner switch by sampling steps"] == meant


def test_versions_are_compared_as_a1111_does() -> None:
    names = ["v1.5.2", "v1.6.0-RC", "v1.6.0", "v1.6.0-2-g4afaaf8a", "v1.7.0-225-gf", "v1.10.1"]
    versions = [a1111_version(name) for name in names]
    assert None not in versions
    assert versions == sorted(versions, key=lambda version: version or ())
    assert a1111_version("neoforge") is None


@pytest.mark.parametrize(("first", "size"), [("512x768", ("512", "768")), ("0x0", ("448", "640"))])
def test_the_old_second_pass_is_translated(first: str, size: tuple[str, str]) -> None:
    full = completed(parse(f"a\nSteps: 20, Seed: 1, Size: 1024x1536, Denoising strength: 0.7, First pass size: {first}"))
    assert (full["Size-1"], full["Size-2"]) == size
    assert (full["Hires resize-1"], full["Hires resize-2"]) == ("1024", "1536")


def test_a_hypernetwork_of_old_texts_becomes_a_tag() -> None:
    full = completed(parse("a\nSteps: 20, Seed: 1, Hypernet: anime, Hypernet strength: 0.5"))
    assert full["Prompt"] == "a<hypernet:anime:0.5>"


def test_hashes_of_networks_are_kept_as_they_are() -> None:
    parsed = parse('a\nSteps: 20, Seed: 1, Lora hashes: "x: 012345678901, y: abcdef012345", TI hashes: "bad: 111111111111"')
    assert parsed["Lora hashes"] == "x: 012345678901, y: abcdef012345"
    assert parsed["TI hashes"] == "bad: 111111111111"


def test_a_hash_sign_in_a_finished_prompt_was_meant() -> None:
    assert request_fields(parse("colour #fff\nSteps: 20, Seed: 1, Eta: 0"))["comments"] is False
    assert "comments" not in request_fields(parse("colour\nSteps: 20, Seed: 1, Eta: 0"))


@pytest.mark.parametrize(
    ("text", "rng"), [("Steps: 20, Seed: 1, Size: 8x8", "GPU"), ("Steps: 20, Seed: 1, RNG: NV", "NV"), ("a cat", None)]
)
def test_a_text_that_names_no_source_of_noise_means_a1111_s(text: str, rng: str | None) -> None:
    assert request_fields(parse(text)).get("rng") == rng


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
    bounds = {"sigma_min": 0.0, "sigma_max": 0.0, "rho": 0.0}
    vae = {"vae": "Automatic", "vae_decoder": "Full", "vae_encoder": "Full"}
    assert fields == {"prompt": "", "negative_prompt": "", "rng": "GPU", "clip_skip": 1, **vae, **bounds}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ({"Emphasis": "No norm"}, {"emphasis": "No norm"}),
        ({"Emphasis": "Ignore"}, {"emphasis": "Ignore"}),
        ({"Emphasis": "Strong"}, {}),
        ({"Old prompt editing timelines": "True"}, {"old_prompt_editing": True}),
        ({"Old prompt editing timelines": "False"}, {"old_prompt_editing": False}),
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
