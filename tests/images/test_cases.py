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
from modules.images.readers import ExtraNetwork, names
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


def test_comfyui_s_nodes_that_are_not_taken_over_are_reported() -> None:
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
    assert found.networks == (ExtraNetwork("embedding", "easy"),)


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


def test_what_comfyui_draws_on_the_gpu_is_reported() -> None:
    for name, said in (("euler_ancestral", True), ("dpmpp_2m_sde_gpu", True), ("dpmpp_2m_sde", False), ("dpmpp_2m", False)):
        graph = json.loads(json.dumps(foreign.COMFY))
        graph["3"]["inputs"]["sampler_name"] = name
        assert any("on the GPU" in note for note in read_picture(foreign.comfyui(graph)).notes) == said


def test_comfyui_s_prompts_are_text_but_for_round_brackets() -> None:
    found = graph_text(p={"class_type": "CLIPTextEncode", "inputs": {"text": "[a] {b|c} AND (embedding:d:1.1)"}})
    assert found.prompt == "\\[a\\] \\{b|c} and (d:1.1)"
    assert found.networks == (ExtraNetwork("embedding", "d"),)
    assert found.fields["emphasis"] == "No norm"
    parsed = {"class_type": "smZ CLIPTextEncode", "inputs": {"text": "[a:b:3]", "parser": "A1111", "clip": ["m", 1]}}
    assert graph_text(p=parsed).prompt == "[a:b:3]"


def test_what_comfyui_tells_sdxl_of_sizes_is_taken_over() -> None:
    told = {"width": 4096, "height": 2048, "crop_w": 8, "crop_h": 16, "target_width": 640, "target_height": 704}
    node = {"class_type": "CLIPTextEncodeSDXL", "inputs": {"text_g": "a cat", "text_l": "a cat", "clip": ["m", 1], **told}}
    found = graph_text(p=node)
    names = ("original_width", "original_height", "crop_left", "crop_top")
    assert fields(found, *names) == (4096, 2048, 8, 16)
    assert any("a target size of 640x704, which is left out" in note for note in found.notes)
    width, height = fields(found, "width", "height")
    node["inputs"] |= {
        "width": width,
        "height": height,
        "crop_w": 0,
        "crop_h": 0,
        "target_width": width,
        "target_height": height,
    }  # type: ignore[operator]
    own = graph_text(p=node)
    assert fields(own, *names) == (None, None, None, None)
    assert not any("target size" in note for note in own.notes)
    refiner = {
        side: {"class_type": "CLIPTextEncodeSDXLRefiner", "inputs": {"text": "a cat", "ascore": score, "clip": ["m", 1]}}
        for side, score in (("p", 7.5), ("n", 1.5))
    }
    assert fields(graph_text(**refiner), "aesthetic_score", "negative_aesthetic_score") == (7.5, 1.5)


def parts(sampler: dict[str, Any], sigmas: dict[str, Any]) -> Found:
    """What is found in a graph whose sampler is put together from these two nodes."""
    links = {
        "model": ["m", 0],
        "positive": ["p", 0],
        "negative": ["n", 0],
        "latent_image": ["l", 0],
        "noise_seed": 5,
        "cfg": 4.0,
    }
    custom = {"class_type": "SamplerCustom", "inputs": {**links, "sampler": ["a", 0], "sigmas": ["b", 0]}}
    return graph_text(k=custom, a=sampler, b=sigmas)


def test_comfyui_s_samplers_and_levels_from_parts() -> None:
    euler = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}}
    karras = {"class_type": "KarrasScheduler", "inputs": {"steps": 12, "sigma_max": 10.0, "sigma_min": 0.0291675, "rho": 5.0}}
    found = parts(euler, karras)
    assert fields(found, "sampler", "schedule", "steps", "sigma_max", "rho") == ("Euler", "Karras", 12, 10.0, 5.0)
    assert fields(found, "sigma_min", "sgm_noise_multiplier") == (0.0, None)
    sde = {
        "class_type": "SamplerDPMPP_2M_SDE",
        "inputs": {"solver_type": "heun", "eta": 0.5, "s_noise": 1.0, "noise_device": "cpu"},
    }
    found = parts(sde, {"class_type": "BetaSamplingScheduler", "inputs": {"steps": 9, "alpha": 0.5, "beta": 0.7}})
    assert fields(found, "sampler", "schedule", "eta") == ("DPM++ 2M SDE Heun", "Beta timesteps", 0.5)
    assert fields(found, "beta_alpha", "beta_beta", "sgm_noise_multiplier") == (0.5, 0.7, True)


def test_parts_that_are_not_known_are_reported() -> None:
    found = parts(
        {"class_type": "MySampler", "inputs": {}}, {"class_type": "LaplaceScheduler", "inputs": {"steps": 9, "sigma_max": 9.0}}
    )
    assert any("its sampler comes from the node MySampler" in note for note in found.notes)
    assert any("its noise levels come from the node LaplaceScheduler" in note for note in found.notes)
