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
from modules.images.readers import names
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
