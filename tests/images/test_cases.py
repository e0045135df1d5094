"""Small recipes as other programs and their extensions write them, each with what it means (`cases/`)."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.images.containers import read_container
from modules.images.readers import Network, names
from modules.images.reading import Found, read_picture, read_text
from tests.images import foreign

CASES = Path(__file__).parent / "cases"


def read(name: str) -> Found:
    data = (CASES / name).read_bytes()
    return read_picture(data) if name.endswith(".png") else read_text(data.decode())


def fields(found: Found, *names: str) -> tuple[Any, ...]:
    return tuple(found.fields.get(name) for name in names)


@pytest.mark.parametrize(
    ("name", "program", "seed"),
    [("seeds64-comfyui.png", "ComfyUI", 584918518232653), ("seeds64-fooocus.png", "Fooocus", 4052391264835142378)],
)
def test_a_seed_of_64_bits_is_kept(name: str, program: str, seed: int) -> None:
    found = read(name)
    assert (found.program, *fields(found, "seed", "rng")) == (program, seed, "CPU")
    assert not any("seed" in note for note in found.notes)


def test_a_loader_that_encodes_both_prompts() -> None:
    found = read("comfyui-efficient-loader.png")
    assert (found.prompt, found.negative_prompt) == ("a red apple", "blurry")
    assert fields(found, "width", "height", "clip_skip", "sampler", "schedule") == (128, 192, 2, "Euler a", "Karras")
    assert found.checkpoints == ("atelier-starter",)


@pytest.mark.parametrize("name", ["template-lines.png", "template-lines.txt"])
def test_templates_behind_the_settings(name: str) -> None:
    found = read(name)
    assert (found.prompt, found.negative_prompt) == ("a red apple", "blurry")
    assert fields(found, "steps", "sampler", "cfg_scale", "seed", "width") == (4, "Euler a", 3.0, 5, 128)
    assert (found.items["Template"], found.items["Negative Template"]) == ("a {red|green} apple", "blurry")
    assert found.version == "v1.6.0"


def test_a_line_break_in_a_value() -> None:
    found = read("newline-in-item.txt")
    assert (found.prompt, found.negative_prompt) == ("a red apple", "blurry")
    assert fields(found, "steps", "seed", "width") == (4, 5, 128)
    assert found.items["Wildcard prompt"].split() == ["a", "{red|green}", "apple", "in", "the", "rain"]
    assert found.version == "v1.5.1"


@pytest.mark.parametrize("name", ["utf8-text.png", "utf8-ztxt.png"])
def test_utf_8_where_the_format_says_latin_1(name: str) -> None:
    found = read(name)
    assert (found.prompt, found.negative_prompt) == ("テスト, 一只红苹果, café", "低质量")


def test_latin_1_stays_latin_1() -> None:
    info = PngInfo()
    info.add(b"tEXt", b"parameters\0caf\xe9 cr\xe8me\nSteps: 4, Sampler: Euler, Seed: 5")
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    assert read_picture(file.getvalue()).prompt == "café crème"


def test_comfyui_s_a1111_text_draws_on_the_cpu_and_starts_as_comfyui_does() -> None:
    found = read("comfyui-a1111-text.txt")
    assert found.program == "ComfyUI"
    assert fields(found, "rng", "sgm_noise_multiplier", "seed") == ("CPU", True, 5)


@pytest.mark.parametrize(
    ("change", "sgm"),
    [({}, True), ({"scheduler": "ddim_uniform"}, None), ({"start_at_step": 5}, None), ({"denoise": 0.5}, None)],
)
def test_comfyui_s_uni_pc_bh2_and_its_starting_noise(change: dict[str, Any], sgm: bool | None) -> None:
    graph = json.loads(json.dumps(foreign.COMFY))
    graph["3"]["inputs"] |= {"sampler_name": "uni_pc_bh2"} | change
    found = read_picture(foreign.comfyui(graph))
    assert fields(found, "sampler", "sgm_noise_multiplier") == ("UniPC bh2", sgm)
    assert names.sampler("uni_pc") == ("UniPC", "")


LONG = "x" * 1_300_000


def big_png() -> bytes:
    info = PngInfo()
    info.add_text("workflow", LONG)
    info.add_text("prompt", json.dumps(foreign.COMFY))
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG", pnginfo=info)
    return file.getvalue()


def test_a_long_workflow_beside_a_short_prompt() -> None:
    found = read_picture(big_png())
    assert (found.program, found.fields["seed"]) == ("ComfyUI", 156680208)
    assert any("too long to be read: workflow" in note for note in found.notes)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("what", ["icc_profile", "xmp"])
def test_long_profiles_and_xmp_are_cut_away(kind: str, what: str) -> None:
    block = os.urandom(1_300_000) if what == "icc_profile" else LONG.encode()
    file = io.BytesIO()
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", LONG)
    extra: dict[str, Any] = {"pnginfo": info} if (kind, what) == ("PNG", "xmp") else {what: block}
    Image.new("RGB", (64, 64), "red").save(file, kind, **extra)
    assert len(file.getvalue()) > 1_200_000
    container = read_container(file.getvalue())
    assert (container.width, len(container.essence) < 10_000) == (64, True)
    notes = read_picture(file.getvalue()).notes
    assert bool(notes) == (what == "xmp")


def graph_text(**nodes: Any) -> Found:
    """What is found in a PNG with this graph of ComfyUI's; SaveImage and a sampler are added."""
    sampler = {"seed": 5, "steps": 8, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"model": ["m", 0], "positive": ["p", 0], "negative": ["n", 0], "latent_image": ["l", 0]}
    graph = {
        "k": {"class_type": "KSampler", "inputs": {**sampler, **links}},
        "m": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "base.safetensors"}},
        "p": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["m", 1]}},
        "n": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["m", 1]}},
        "l": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 64}},
        "d": {"class_type": "VAEDecode", "inputs": {"samples": ["k", 0], "vae": ["m", 2]}},
        "s": {"class_type": "SaveImage", "inputs": {"images": ["d", 0]}},
        **nodes,
    }
    file = io.BytesIO()
    info = PngInfo()
    info.add_text("prompt", json.dumps(graph))
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    return read_picture(file.getvalue())


def test_comfyui_s_nodes_on_the_model_s_way_are_taken_over() -> None:
    found = graph_text(
        m={"class_type": "RescaleCFG", "inputs": {"model": ["v", 0], "multiplier": 0.7}},
        v={"class_type": "ModelSamplingDiscrete", "inputs": {"model": ["g", 0], "sampling": "v_prediction", "zsnr": True}},
        g={"class_type": "PerturbedAttentionGuidance", "inputs": {"model": ["c", 0], "scale": 2.5}},
        c={"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "vpred.safetensors"}},
    )
    fields = found.fields
    assert (fields["prediction"], fields["zero_snr"], fields["cfg_rescale"], fields["pag_scale"]) == ("v", True, 0.7, 2.5)
    assert found.checkpoints == ("vpred",)
    assert not found.notes


def test_comfyui_s_nodes_that_are_not_taken_over_are_said() -> None:
    found = graph_text(
        m={"class_type": "FreeU_V2", "inputs": {"model": ["c", 0], "b1": 1.3}},
        c={"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "base.safetensors"}},
        p={"class_type": "ControlNetApplyAdvanced", "inputs": {"positive": ["t", 0], "negative": ["n", 0], "strength": 1.0}},
        t={"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["c", 1]}},
    )
    assert found.prompt == "a cat"
    assert found.notes == ("its graph also has a ControlNet, FreeU, which is not taken over",)


def comfy_text(settings: str, prompt: str = "a cat") -> Found:
    return read_text(f"{prompt}\nNegative prompt: blurry\nSteps: 20, {settings}, CFG scale: 7, Seed: 5, Version: ComfyUI")


@pytest.mark.parametrize(
    ("settings", "sampler", "schedule", "sgm"),
    [
        ("Sampler: DPM++ 2M", "DPM++ 2M", "Normal", True),
        ("Sampler: DPM++ 2M Karras", "DPM++ 2M", "Karras", True),
        ("Sampler: dpmpp_2m_sde_gpu_karras", "DPM++ 2M SDE", "Karras", True),
        ("Sampler: res_multistep_beta", "RES multistep", "Beta timesteps", True),
        ("Sampler: Euler kl optimal", "Euler", "KL Optimal to zero", True),
        ("Sampler: uni_pc_bh2_simple", "UniPC bh2", "Simple", True),
        ("Sampler: DDIM", "Euler", "Normal", True),
        ("Sampler: euler, Scheduler: sgm_uniform", "Euler", "SGM Uniform", True),
        ("Sampler: Euler, Schedule type: DDIM", "Euler", "DDIM", None),
        ("Sampler: Euler_ddim_uniform", "Euler", "DDIM", None),
        ("Sampler: Euler, Schedule type: Karras, Denoising strength: 0.5", "Euler", "Karras", None),
    ],
)
def test_texts_of_comfyui_s_nodes_for_saving(settings: str, sampler: str, schedule: str, sgm: bool | None) -> None:
    found = comfy_text(settings)
    assert fields(found, "sampler", "schedule", "sgm_noise_multiplier") == (sampler, schedule, sgm)
    assert any("does not say the schedule" in note for note in found.notes) == (schedule == "Normal")


def test_texts_of_comfyui_s_nodes_have_comfyui_s_prompts() -> None:
    found = comfy_text("Sampler: Euler Karras", "a (cat:1.2) [dog], embedding:easy AND 16:9")
    assert found.prompt == "a (cat:1.2) \\[dog\\], easy and 16:9:1"
    assert found.fields["emphasis"] == "No norm"
    assert found.networks == (Network("embedding", "easy"),)


def test_the_graph_beside_a_text_of_comfyui_s_says_the_schedule() -> None:
    text = "a glass\nSteps: 20, Sampler: DPM++ 2M SDE, Seed: {}, Model hash: 0123456789, Model: dream, Version: ComfyUI"
    graph = json.loads(json.dumps(foreign.COMFY))
    graph["3"]["inputs"]["scheduler"] = "beta"
    found = read_picture(foreign.png(parameters=text.format(156680208), prompt=json.dumps(graph)))
    assert (found.prompt, found.checkpoints) == ("a glass", ("0123456789", "dream"))
    assert fields(found, "sampler", "schedule", "cfg_scale", "clip_skip") == ("DPM++ 2M SDE", "Beta timesteps", 8.0, 2)
    other = read_picture(foreign.png(parameters=text.format(6), prompt=json.dumps(graph)))
    assert fields(other, "seed", "schedule") == (6, "Normal")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"scheduler": "beta"}, ("DPM++ 2M SDE", "Beta timesteps", None, None)),
        ({"scheduler": "kl_optimal"}, ("DPM++ 2M SDE", "KL Optimal to zero", None, None)),
        ({"sampler_name": "euler", "scheduler": "ays"}, ("Euler", "Align Your Steps", True, None)),
        ({"sampler_name": "dpm_fast", "scheduler": "normal"}, ("DPM fast", "Normal", None, 0.0)),
    ],
)
def test_comfyui_s_schedules_that_a1111_spaces_otherwise(change: dict[str, Any], expected: tuple[Any, ...]) -> None:
    graph = json.loads(json.dumps(foreign.COMFY))
    graph["3"]["inputs"] |= change
    found = read_picture(foreign.comfyui(graph))
    assert fields(found, "sampler", "schedule", "discard_penultimate", "eta") == expected


def test_what_comfyui_draws_on_the_gpu_is_said() -> None:
    for name, said in (("euler_ancestral", True), ("dpmpp_2m_sde_gpu", True), ("dpmpp_2m_sde", False), ("dpmpp_2m", False)):
        graph = json.loads(json.dumps(foreign.COMFY))
        graph["3"]["inputs"]["sampler_name"] = name
        assert any("on the GPU" in note for note in read_picture(foreign.comfyui(graph)).notes) == said


def test_comfyui_s_prompts_are_text_but_for_round_brackets() -> None:
    found = graph_text(p={"class_type": "CLIPTextEncode", "inputs": {"text": "[a] {b|c} AND (embedding:d:1.1)"}})
    assert found.prompt == "\\[a\\] \\{b|c} and (d:1.1)"
    assert found.networks == (Network("embedding", "d"),)
    assert found.fields["emphasis"] == "No norm"
    parsed = {"class_type": "smZ CLIPTextEncode", "inputs": {"text": "[a:b:3]", "parser": "A1111", "clip": ["m", 1]}}
    assert graph_text(p=parsed).prompt == "[a:b:3]"


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
    assert ("embed" in prompt) == (Network("embedding", "easy") in found.networks)
    assert ("(" in prompt) == (found.fields.get("emphasis") == "No norm")


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"refinercontrolpercentage": 0.2, "refinermethod": "PostApply", "refinerupscale": 1.5}, "a second pass or a refiner"),
        ({"controlnetmodel": "canny", "controlnetstrength": 1.0}, "a ControlNet"),
        ({"freeublockone": 1.1}, "FreeU"),
        ({"seamlesstileable": "true"}, "tiling"),
        ({"comfyuicustomworkflow": "mine"}, "a workflow of its own"),
        ({"vae": "sub/other"}, "a VAE of its own"),
        ({"zeronegative": True}, "its empty negative prompt was zeros"),
        ({"sampler": "euler_ancestral"}, "on the GPU"),
        ({"sampler": "uni_pc"}, "noise levels of its own"),
    ],
)
def test_what_swarm_did_and_is_not_taken_over_is_said(params: dict[str, Any], what: str) -> None:
    assert any(what in note for note in swarm(**params).notes)


def test_swarm_s_other_sizes_and_the_hashes_of_its_loras() -> None:
    assert fields(swarm(rawresolution="640x768"), "width", "height") == (640, 768)
    assert fields(swarm(altresolutionheightmultiplier=1.5), "width", "height") == (512, 768)
    models = [{"name": "style/fur.safetensors", "param": "loras", "hash": "0x0123456789abcdef0123"}]
    assert swarm(loras=["style/fur"], loraweights=["0.7"], models=models).networks == (Network("lora", "fur", "0123456789ab"),)
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
        ({"vae": {"name": "other"}}, "a VAE of its own"),
        ({"generation_mode": "inpaint", "strength": 0.5}, "through a mask"),
    ],
)
def test_what_invokeai_did_and_is_not_taken_over_is_said(more: dict[str, Any], what: str) -> None:
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
def test_what_novelai_did_and_is_not_taken_over_is_said(more: dict[str, Any], what: str) -> None:
    found = novelai(**more)
    assert any(what in note for note in found.notes) if what else len(found.notes) == 1
    assert ("denoising_strength" in found.fields) == ("strength" in more)


def test_novelai_s_decrisper_is_dynamic_thresholding() -> None:
    found = novelai(dynamic_thresholding=True, dynamic_thresholding_mimic_scale=8.0, dynamic_thresholding_percentile=0.99)
    assert fields(found, "mimic_scale", "threshold_percentile") == (8.0, 0.99)
    assert fields(novelai(dynamic_thresholding=False), "mimic_scale") == (None,)


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
    assert found.networks == (Network("embedding", "easy"), Network("embedding", "bad"))


def test_sd_next_s_parsers() -> None:
    assert sdnext("Sampler: Euler, Parser: fixed", "a (cat:1.2)").fields["emphasis"] == "None"
    assert sdnext("Sampler: Euler, Parser: compel", "a cat++").prompt == "a (cat:1.21)"
    assert sdnext("Sampler: Euler", "a (cat:1.2)").prompt == "a (cat:1.2)"


def test_what_sd_next_did_and_is_not_taken_over_is_said() -> None:
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
def test_what_forge_and_extensions_did_and_is_not_taken_over_is_said(settings: str, what: str) -> None:
    assert any(what in note for note in forge(settings).notes) if what else forge(settings).notes == ()
