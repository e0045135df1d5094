"""What SwarmUI's, InvokeAI's and NovelAI's objects mean, and what of them is not taken over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modules.images.readers import ExtraNetwork
from modules.images.reading import Found, read_picture
from tests.images import foreign


def fields(found: Found, *names: str) -> tuple[Any, ...]:
    return tuple(found.fields.get(name) for name in names)


def swarm(extra: dict[str, Any] | None = None, models: list[dict[str, str]] | None = None, **params: Any) -> Found:
    """What is found in a picture of SwarmUI's with these parameters beside the usual ones."""
    usual = {"prompt": "a cat", "model": "base", "seed": 7, "steps": 20, "cfgscale": 7.0, "width": 512, "height": 512}
    data = {
        "sui_image_params": usual | params | {"swarm_version": "0.9.8.1"},
        "sui_extra_data": {"date": "2025-11-02"} | (extra or {}),
    }
    return read_picture(foreign.png(parameters=json.dumps(data | ({"sui_models": models} if models else {}))))


def test_swarm_starts_as_comfyui_does_and_says_nothing_of_its_defaults() -> None:
    found = swarm()
    assert fields(found, "sampler", "schedule", "rng", "sgm_noise_multiplier") == ("Euler", "Normal", "CPU", True)
    assert found.notes == ()
    assert fields(swarm(sampler="ddim", scheduler="ddim_uniform"), "sampler", "schedule", "sgm_noise_multiplier") == (
        *("Euler", "DDIM"),
        None,
    )
    assert fields(swarm(sampler="dpmpp_2m", scheduler="beta"), "sampler", "schedule") == ("DPM++ 2M", "Beta timesteps")


def test_swarm_s_variations_ends_and_guidance() -> None:
    found = swarm(
        sampler="dpmpp_2m",
        scheduler="karras",
        samplersigmamin=0.05,
        samplersigmamax=12.5,
        samplerrho=5.0,
        variationseed=9,
        variationseedstrength=0.25,
        rescalecfgmultiplier=0.7,
        perturbedattentionguidancescale=3.0,
        clipstopatlayer=-2,
    )
    assert fields(found, "sigma_min", "sigma_max", "rho", "sgm_noise_multiplier") == (0.05, 12.5, 5.0, None)
    assert fields(found, "variation_seed", "variation_strength", "cfg_rescale", "pag_scale") == (9, 0.25, 0.7, 3.0)
    assert found.fields["clip_skip"] == 2
    assert fields(swarm(scheduler="karras", samplersigmamin=0.05), "sigma_min", "sgm_noise_multiplier") == (0.0, True)


def test_swarm_s_pictures_from_pictures_are_known_by_their_creativity() -> None:
    """The source itself is not in the metadata, and "initimage" never is."""
    found = swarm(initimagecreativity=0.4, extra={"initimage_filename": "raw/x.png"})
    assert fields(found, "denoising_strength", "sgm_noise_multiplier") == (0.4, None)
    assert swarm(extra={"initimage_filename": "raw/x.png"}).fields["denoising_strength"] == 0.6


@pytest.mark.parametrize(
    ("prompt", "text", "note"),
    [
        ("a cat<break>at night", "a catBREAKat night", ""),
        ("a cat <break> at night", "a cat BREAK at night", ""),
        ("a (cat:1.2) [dog] BREAK", "a (cat:1.2) \\[dog\\] break", ""),
        ("<embed:sub/easy> a cat", "easy a cat", ""),
        ("a [cat|dog] and [a:b:0.5]", "a [cat|dog] and [a:b:0.5]", "changes by the noise level"),
        ("a cat <segment:face,0.6,0.5//cid=11> a smile", "a cat", "parts that are painted again"),
        ("a cat <region:0,0,1,0.5,1//cid=11> sky <region:background//cid=12> sea", "a cat", "regions with words of their own"),
        ("a cat <refiner//cid=1> crisp <base//cid=5>, soft", "a cat , soft", "words for a second pass"),
        ("a cat <clear:background>", "a cat", "made transparent"),
    ],
)
def test_swarm_s_tags_in_prompts(prompt: str, text: str, note: str) -> None:
    found = swarm(prompt=prompt)
    assert found.prompt == text
    assert not found.notes if not note else any(note in said for said in found.notes)
    assert ("embed" in prompt) == (ExtraNetwork("embedding", "easy") in found.networks)
    assert ("(" in prompt) == (found.fields.get("emphasis") == "No norm")


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"refinercontrolpercentage": 0.2, "refinermethod": "PostApply", "refinerupscale": 1.5}, "a second pass or a refiner"),
        ({"controlnetmodel": "canny", "controlnetstrength": 1.0}, "a ControlNet"),
        ({"freeublockone": 1.1}, "FreeU"),
        ({"seamlesstileable": "true"}, "tiling"),
        ({"comfyuicustomworkflow": "mine"}, "a workflow of its own"),
        ({"zeronegative": True}, "its empty negative prompt was zeros"),
        ({"sampler": "euler_ancestral"}, "on the GPU"),
        ({"sampler": "uni_pc"}, "noise levels of its own"),
    ],
)
def test_what_swarm_did_and_is_not_taken_over_is_reported(params: dict[str, Any], what: str) -> None:
    assert any(what in note for note in swarm(**params).notes)


def test_the_autoencoder_of_a_recipe_is_taken_over_by_its_name() -> None:
    assert swarm(vae="sub/other").fields["vae"] == "other"
    assert invoke(vae={"name": "other"}).fields["vae"] == "other"


def test_swarm_s_other_sizes_and_the_hashes_of_its_loras() -> None:
    assert fields(swarm(rawresolution="640x768"), "width", "height") == (640, 768)
    assert fields(swarm(altresolutionheightmultiplier=1.5), "width", "height") == (512, 768)
    models = [{"name": "style/fur.safetensors", "param": "loras", "hash": "0x0123456789abcdef0123"}]
    assert swarm(loras=["style/fur"], loraweights=["0.7"], models=models).networks == (
        ExtraNetwork("lora", "fur", "0123456789ab"),
    )
    assert swarm(loras=["fur"], automaticvae=True, vae="None").notes == ()


def invoke(**more: Any) -> Found:
    return read_picture(foreign.png(invokeai_metadata=json.dumps(foreign.INVOKE | more)))


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a cat++ in (tall grass)0.8", "a (cat:1.21) in (tall grass:0.8)"),
        ("a (blue)- sky--, well-lit", "a (blue:0.9) (sky:0.81), well-lit"),
        ("(plain) [brackets] BREAK", "plain \\[brackets\\] break"),
        ("((a b)1.2 c)+", "((a b:1.2) c:1.1)"),
        ("open (", "open \\("),
        ("\\(kept\\)", "\\(kept\\)"),
        ("a cat.swap(dog)", "a cat.swap\\(dog\\)"),
    ],
)
def test_invokeai_s_weights_are_compel_s(prompt: str, text: str) -> None:
    found = invoke(positive_prompt=prompt)
    assert found.prompt == text
    assert (found.fields.get("emphasis") == "No norm") == (":" in text)
    assert any(".swap()" in note for note in found.notes) == ("swap" in prompt)


def test_invokeai_s_modes_devices_and_single_step_solver() -> None:
    assert fields(invoke(), "rng", "denoising_strength") == ("CPU", None)
    assert fields(invoke(rand_device="cuda", strength=0.6), "rng", "denoising_strength") == ("GPU", None)
    assert fields(invoke(generation_mode="img2img", strength=0.6), "denoising_strength") == (0.6,)
    assert fields(invoke(scheduler="dpmpp_2s_k"), "sampler", "schedule", "eta") == ("DPM++ 2S a", "Karras", 0.0)
    assert fields(invoke(scheduler="euler"), "sampler", "schedule", "eta") == ("Euler", "Uniform", None)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"controlnets": [{"control_weight": 1}]}, "a ControlNet"),
        ({"controlnets": [], "seamless_x": False}, ""),
        ({"seamless_x": True}, "tiling"),
        ({"hrf_enabled": True, "hrf_strength": 0.5}, "a second pass"),
        ({"canvas_v2_metadata": {"controlLayers": [], "regionalGuidance": [{"id": "1"}]}}, "layers of its canvas"),
        ({"canvas_v2_metadata": {"controlLayers": [], "regionalGuidance": []}}, ""),
        ({"ref_images": [{"id": "1"}]}, "pictures as prompts"),
        ({"positive_style_prompt": "oil"}, "a prompt for the style"),
        ({"generation_mode": "inpaint", "strength": 0.5}, "through a mask"),
    ],
)
def test_what_invokeai_did_and_is_not_taken_over_is_reported(more: dict[str, Any], what: str) -> None:
    notes = invoke(**more).notes
    assert any(what in note for note in notes) if what else len(notes) == 1


def test_old_invokeai_s_schedules_and_what_it_did_besides() -> None:
    found = read_picture(
        foreign.png(Dream='"a castle [ugly]" -s 20 -S 5 -W 512 -H 512 -C 7.5 -A k_dpmpp_2 --perlin=0.1 -G 0.8')
    )
    assert fields(found, "schedule", "rng") == ("Uniform", "GPU")
    assert any("Perlin noise, face restoration" in note for note in found.notes)
    assert any("some versions took Karras below 29 steps" in note for note in found.notes)
    image = foreign.INVOKE_2["image"]
    assert isinstance(image, dict)
    blend = image | {"prompt": [{"prompt": "a", "weight": 0.5}, {"prompt": "b", "weight": 0.5}], "variations": [{"seed": 1}]}
    found = read_picture(foreign.png(sd_dash_metadata=json.dumps(foreign.INVOKE_2 | {"image": blend})))
    assert any("made with a blend of prompts, variations of its noise" in note for note in found.notes)


def novelai(**more: Any) -> Found:
    return read_picture(foreign.png(Software="NovelAI", Comment=json.dumps(foreign.NAI_COMMENT | more)))


def v4(base: str, *people: str) -> dict[str, Any]:
    return {"caption": {"base_caption": base, "char_captions": [{"char_caption": text, "centers": []} for text in people]}}


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("2::a cat::, {{tall}}, [small]", "(a cat:2), (tall:1.1025), (small:0.9524)"),
        ("0.5::{a} b:: c", "((a:1.05) b:0.5) c"),
        ("-1::hat, 1.2::girl", "(hat, :-1)(girl:1.2)"),
        ("a (b) AND c", "a \\(b\\) and c"),
    ],
)
def test_novelai_4_weighs_by_numbers(prompt: str, text: str) -> None:
    found = novelai(v4_prompt=v4(prompt), v4_negative_prompt=v4("1.1::bad::"))
    assert (found.prompt, found.negative_prompt) == (text, "(bad:1.1)")


def test_novelai_3_has_no_numbers_and_its_native_schedule_is_uniform() -> None:
    assert novelai(prompt="2::a::").prompt == "2::a::"
    assert fields(novelai(sampler="k_dpmpp_2m", noise_schedule="native"), "sampler", "schedule") == ("DPM++ 2M", "Uniform")
    old = {key: value for key, value in foreign.NAI_COMMENT.items() if key != "noise_schedule"}
    found = read_picture(foreign.png(Software="NovelAI", Comment=json.dumps(old | {"sampler": "k_dpmpp_2m"})))
    assert fields(found, "sampler", "schedule") == ("DPM++ 2M", "Uniform")


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"sm": True, "sm_dyn": True}, "made with SMEA, which"),
        ({"skip_cfg_above_sigma": 58}, "a part of the noise levels"),
        ({"reference_strength_multiple": [0.6]}, "pictures as prompts"),
        ({"uncond_scale": 0.7}, "counted 0.7 times"),
        ({"prompt": "a:1|b:0.5"}, "mixed several prompts"),
        ({"request_type": "NativeInfillingRequest", "strength": 0.7}, "through a mask"),
        ({"request_type": "Img2ImgRequest", "strength": 0.7, "noise": 0.2}, "noise on the source"),
        ({"v4_prompt": v4("two", "a girl", "a boy")}, "places of their own"),
        ({"deliberate_euler_ancestral_bug": True}, "an old mistake on purpose"),
        ({"sm": False, "controlnet_model": None, "noise": 0.2, "uncond_scale": 1.0}, ""),
    ],
)
def test_what_novelai_did_and_is_not_taken_over_is_reported(more: dict[str, Any], what: str) -> None:
    found = novelai(**more)
    assert any(what in note for note in found.notes) if what else len(found.notes) == 1
    assert ("denoising_strength" in found.fields) == ("strength" in more)


def test_novelai_s_decrisper_is_dynamic_thresholding() -> None:
    found = novelai(dynamic_thresholding=True, dynamic_thresholding_mimic_scale=8.0, dynamic_thresholding_percentile=0.99)
    assert fields(found, "mimic_scale", "threshold_percentile") == (8.0, 0.99)
    assert fields(novelai(dynamic_thresholding=False), "mimic_scale") == (None,)


# ---- refiners


SAME = {
    "refiner_model": {"name": "stable-diffusion-xl-refiner-1-0"},
    "refiner_start": 0.8,
    "refiner_steps": foreign.INVOKE["steps"],
    "refiner_cfg_scale": foreign.INVOKE["cfg_scale"],
    "refiner_scheduler": "euler",
    "scheduler": "euler",
    "refiner_positive_aesthetic_score": 6.0,
    "refiner_negative_aesthetic_score": 2.5,
}


def test_invokeai_s_refiner_is_taken_over_where_it_is_the_same() -> None:
    found = invoke(**SAME)
    assert fields(found, "refiner", "refiner_switch_at") == ("stable-diffusion-xl-refiner-1-0", 0.8)
    assert found.fields["refiner_by_steps"] is False
    assert not any("refiner" in note for note in found.notes)


@pytest.mark.parametrize(
    "more",
    [
        {"refiner_steps": 3},
        {"refiner_cfg_scale": 1.25},
        {"refiner_scheduler": "ddim"},
        {"scheduler": "dpmpp_2m", "refiner_scheduler": "dpmpp_2m"},
        {"refiner_positive_aesthetic_score": 7.0},
        {"refiner_start": None},
        {"refiner_start": 1},
    ],
)
def test_another_one_of_invokeai_s_is_reported(more: dict[str, Any]) -> None:
    found = invoke(**{**SAME, **more})
    assert "refiner" not in found.fields
    assert any("a refiner" in note for note in found.notes)


def test_fooocus_refines_from_a_share_of_the_steps_on() -> None:
    data = {**foreign.FOOOCUS, "refiner_model": "sub/xl_refiner.safetensors", "refiner_switch": 0.6}
    text = foreign.FOOOCUS_A1111.replace(", Version", ", Refiner: xl_refiner, Refiner Switch: 0.6, Version")
    for chunk, scheme in ((json.dumps(data), "fooocus"), (text, "a1111")):
        found = read_picture(foreign.png(parameters=chunk, fooocus_scheme=scheme))
        assert fields(found, "refiner", "refiner_switch_at", "refiner_by_steps") == ("xl_refiner", 0.6, True)
    none = {**data, "refiner_model": "None"}
    assert "refiner" not in read_picture(foreign.png(parameters=json.dumps(none), fooocus_scheme="fooocus")).fields
