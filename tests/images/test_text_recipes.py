"""What the texts of SD.Next, Forge and Civitai mean, and Draw Things' object, and what of them is not taken over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modules.images.readers import ExtraNetwork
from modules.images.reading import Found, read_picture, read_text
from tests.images import foreign


def fields(found: Found, *names: str) -> tuple[Any, ...]:
    return tuple(found.fields.get(name) for name in names)


def sdnext(settings: str = "Sampler: DPM++ 2M", prompt: str = "a cat") -> Found:
    tail = "Seed: 5, CFG scale: 6, App: SD.Next, Version: 1a2b3c4, Pipeline: StableDiffusionPipeline, Operations: txt2img"
    return read_text(f"{prompt}\nNegative prompt: blurry\nSteps: 20, Size: 512x512, {settings}, {tail}")


@pytest.mark.parametrize(
    ("settings", "sampler", "schedule"),
    [
        ("Sampler: DPM++ 2M", "DPM++ 2M", "Uniform"),
        ("Sampler: DPM++ 2M, Sampler sigma: karras", "DPM++ 2M", "Karras"),
        ("Sampler: DPM++ 2M, Sampler sigma: betas", "DPM++ 2M", "Beta"),
        ("Sampler: Euler a, Sampler spacing: trailing", "Euler a", "SGM Uniform"),
        ("Sampler: Euler SGM", "Euler", "SGM Uniform"),
        ("Sampler: KDPM2 a", "DPM2 a", "Uniform"),
        ("Sampler: LMSD", "LMS", "Uniform"),
        ("Backend: Original, Sampler: DPM++ 2M Karras", "DPM++ 2M", "Karras"),
        ("Backend: Original, Sampler: Euler a", "Euler a", "Automatic"),
    ],
)
def test_sd_next_s_samplers_and_schedules(settings: str, sampler: str, schedule: str) -> None:
    found = sdnext(settings)
    assert (found.program, *fields(found, "sampler", "schedule")) == ("SD.Next", sampler, schedule)
    assert any("another library" in note for note in found.notes) == ("Original" not in settings)


def test_sd_next_s_own_keys_are_taken_over() -> None:
    found = sdnext(
        "Sampler: Euler a, Sampler type: v_prediction, Sampler rescale: True, Sampler eta delta: 31337, CFG true: 3.0, "
        'CFG rescale: 0.7, Variation seed: 9, Variation strength: 0.3, Embeddings: "easy, bad"'
    )
    assert fields(found, "prediction", "zero_snr", "ensd", "pag_scale", "cfg_rescale") == ("v", True, 31337, 3.0, 0.7)
    assert fields(found, "variation_seed", "variation_strength") == (9, 0.3)
    assert found.networks == (ExtraNetwork("embedding", "easy"), ExtraNetwork("embedding", "bad"))


def test_sd_next_s_parsers() -> None:
    assert sdnext("Sampler: Euler, Parser: fixed", "a (cat:1.2)").fields["emphasis"] == "None"
    assert sdnext("Sampler: Euler, Parser: compel", "a cat++").prompt == "a (cat:1.21)"
    assert sdnext("Sampler: Euler", "a (cat:1.2)").prompt == "a (cat:1.2)"


def test_what_sd_next_did_and_is_not_taken_over_is_reported() -> None:
    found = sdnext("Sampler: Euler, Refine: True, Hires scale: 2.0, Detailer: face, ToMe: 0.5, CFG end: 0.8, TE: clip-l")
    said = (
        "a second pass, details that are painted again, token merging, guidance for a part of the steps, another text encoder"
    )
    assert any(f"made with {said}, which" in note for note in found.notes)


def forge(settings: str, version: str = "f2.0.1v1.10.1-previous-659-gc055f2d4") -> Found:
    return read_text(
        f"a cat\nSteps: 20, Sampler: Euler, Schedule type: Simple, Seed: 5, Size: 512x512, {settings}, Version: {version}"
    )


def test_forge_s_guidance_is_taken_over() -> None:
    found = forge("pagi_enabled: True, pagi_scale: 3, pagi_attenuation: 0, pagi_start_step: 0.0, pagi_end_step: 1.0")
    assert (found.program, found.fields["pag_scale"], found.notes) == ("Forge", 3.0, ())
    assert "here it is whole" in forge("pagi_enabled: True, pagi_scale: 3, pagi_end_step: 0.5").notes[0]
    found = forge("sag_enabled: True, sag_scale: 0.75, sag_blur_sigma: 3, sag_threshold: 1")
    assert fields(found, "sag_scale", "sag_blur") == (0.75, 3.0)
    found = forge(
        "dynthres_enabled: True, dynthres_mimic_scale: 7, dynthres_threshold_percentile: 0.99, dynthres_mimic_mode: Cosine"
    )
    assert fields(found, "mimic_scale", "threshold_percentile") == (7.0, 0.99)
    assert any("changed over the steps" in note for note in found.notes)
    assert forge("pagi_enabled: False, pagi_scale: 3").fields.get("pag_scale") is None


def test_the_extension_for_dynamic_thresholding_counts_in_hundredths() -> None:
    settings = "Dynamic thresholding enabled: True, Mimic scale: 7, Threshold percentile: 99.5, Mimic mode: Constant"
    found = forge(settings, "v1.9.4")
    assert (found.program, *fields(found, "mimic_scale", "threshold_percentile")) == ("A1111", 7.0, 0.995)
    assert found.notes == ()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ("freeu_enabled: True, freeu_b1: 1.3", "FreeU"),
        ("kohya_hrfix_enabled: True", "Kohya's HR fix"),
        ("freeu_enabled: False", ""),
        ("Module 1: ae", "a VAE or text encoder of its own"),
        ("Diffusion in Low Bits: bnb-nf4", "weights of fewer bits"),
        ("Diffusion in Low Bits: Automatic", ""),
        ("Distilled CFG Scale: 3.5", "distilled guidance"),
        ("ADetailer model: face_yolov8n.pt, ADetailer confidence: 0.3", "details that are painted again"),
        ('ControlNet 0: "Module: canny, Model: control_v11p [d14c016b]"', "ControlNet"),
        ("RP Active: True, RP Divide mode: Matrix", "regions with words of their own"),
    ],
)
def test_what_forge_and_extensions_did_and_is_not_taken_over_is_reported(settings: str, what: str) -> None:
    assert any(what in note for note in forge(settings).notes) if what else forge(settings).notes == ()


def draw_things(**more: Any) -> Found:
    return read_picture(foreign.commented("JPEG", json.dumps(foreign.DRAW_THINGS | more)))


@pytest.mark.parametrize(
    ("name", "sampler", "schedule"),
    [
        ("DPM++ 2M Karras", "DPM++ 2M", "Karras"),
        ("Euler Ancestral", "Euler a", "Uniform"),
        ("Euler A AYS", "Euler a", "Align Your Steps"),
        ("DPM++ SDE Trailing", "DPM++ SDE", "SGM Uniform"),
        ("UniPC", "UniPC", "Uniform"),
    ],
)
def test_draw_things_samplers(name: str, sampler: str, schedule: str) -> None:
    assert fields(draw_things(sampler=name), "sampler", "schedule") == (sampler, schedule)


@pytest.mark.parametrize(
    ("mode", "rng", "own"),
    [("Torch CPU Compatible", "CPU", False), ("NVIDIA GPU Compatible", "NV", False), ("Scale Alike", "GPU", True)],
)
def test_draw_things_seed_modes(mode: str, rng: str, own: bool) -> None:
    found = draw_things(seed_mode=mode)
    assert found.fields["rng"] == rng
    assert any("draws its noise in its own way" in note for note in found.notes) == own


def test_draw_things_whole_configuration_is_read_too() -> None:
    more = {
        "clipSkip": 2,
        "seedMode": 3,
        "cfgZeroStar": True,
        "hiresFix": True,
        "controls": [{"file": "canny"}],
        "sharpness": 0,
    }
    found = draw_things(v2=more, model="real_v2_q6p_q8p.ckpt")
    assert fields(found, "clip_skip", "rng", "cfg_zero") == (2, "NV", True)
    assert found.checkpoints == ("real_v2",)
    assert any("made with a ControlNet or IP-Adapter, a second pass at a larger size, which" in note for note in found.notes)
    assert "divided" in " ".join(draw_things(sampler="Euler A Substep").notes)


CIVITAI = (
    "a cat\nNegative prompt: blurry\nSteps: 25, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 5, Size: 832x1216, Clip skip: 2, "
    "Created Date: 2024-10-02T1530:12.1Z, Civitai resources: "
    '[{"type":"checkpoint","modelVersionId":1,"modelName":"Dream: Seed: 9, XL","modelVersionName":"v1"},'
    '{"type":"lora","weight":0.8,"modelVersionId":2,"modelName":"Fur"}], Civitai metadata: {"a":1}'
)


def test_civitai_s_generator_is_read_as_comfyui() -> None:
    found = read_text(CIVITAI)
    assert (found.program, found.prompt) == ("Civitai", "a cat")
    assert fields(found, "seed", "sampler", "schedule", "clip_skip", "width") == (5, "DPM++ 2M", "Karras", 2, 832)
    assert fields(found, "rng", "sgm_noise_multiplier") == ("CPU", True)
    assert any("on the GPU" in note for note in read_text(CIVITAI.replace("DPM++ 2M Karras", "Euler a")).notes)
    assert (found.checkpoints, found.networks) == (("Dream: Seed: 9, XL",), (ExtraNetwork("lora", "Fur"),))
    assert "do not say what painted" in found.notes[0]
    assert json.loads(found.items["Civitai resources"])[1]["weight"] == 0.8


def test_hashes_of_civitai_s_extension() -> None:
    text = (
        'a cat\nSteps: 20, Sampler: Euler, Seed: 5, Hashes: {"model": "0123456789ab", "lora:fur": "abcdef012345", '
        '"embed:easy": "c74b4e810b03", "vae": "735e4c3a44"}, Version: v1.9.4'
    )
    found = read_text(text)
    assert (found.program, found.fields["rng"], found.checkpoints) == ("A1111", "GPU", ("0123456789",))
    assert found.networks == (ExtraNetwork("lora", "fur", "abcdef012345"), ExtraNetwork("embedding", "easy", "c74b4e810b03"))
    assert "lora" not in found.items


def test_values_that_only_begin_like_json_are_read_as_ever() -> None:
    found = read_text("a cat\nSteps: 20, Sampler: Euler, Note: [open, Seed: 5, Other: {a: 1}, Size: 64x64")
    assert (found.items["Note"], *fields(found, "seed", "width")) == ("[open", 5, 64)


EASY = {
    "prompt": "a cat",
    "negative_prompt": "blurry",
    "seed": 5,
    "use_stable_diffusion_model": "sub/dream",
    "clip_skip": True,
    "use_vae_model": None,
    "sampler_name": "euler_a",
    "width": 512,
    "height": 768,
    "num_inference_steps": 25,
    "guidance_scale": 7.5,
    "use_lora_model": "fur",
    "tiling": "none",
    "use_face_correction": "GFPGANv1.4",
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_easy_diffusion(kind: str) -> None:
    texts = {key: str(value) for key, value in EASY.items()}
    found = read_picture(foreign.png(**texts) if kind == "PNG" else foreign.commented("JPEG", json.dumps(EASY)))
    assert (found.program, found.prompt, found.negative_prompt) == ("Easy Diffusion", "a cat", "blurry")
    assert fields(found, "sampler", "schedule", "steps", "cfg_scale", "seed") == ("Euler a", "Uniform", 25, 7.5, 5)
    assert fields(found, "width", "height", "clip_skip", "denoising_strength") == (512, 768, 2, None)
    assert (found.checkpoints, found.networks) == (("dream",), (ExtraNetwork("lora", "fur"),))
    assert found.notes[0] == "made with face restoration, which is not taken over"


def test_sd_next_s_refiner_is_reported_and_not_taken_for_a1111_s() -> None:
    found = sdnext("Sampler: Euler, Refiner: xl_refiner, Refiner start: 0.8, Refiner steps: 10")
    assert "refiner" not in found.fields
    assert any("a refiner" in note for note in found.notes)
