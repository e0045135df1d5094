"""LoRAs named in prompts: they paint what a checkpoint with their changes in its weights paints, and share forwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from modules.checkpoints import keys, lora_names
from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.forward import adaptable_layers
from modules.diffusion.text import TextEncoder
from modules.diffusion.unet import UNet
from tests.engine.conftest import Bench
from tests.sdxl import sdxl_checkpoint
from tests.tiny import TINY_METADATA, TINY_TEXT, TINY_UNET, tiny_checkpoint, write

LEVELS, RES_BLOCKS = len(TINY_UNET.channels), TINY_UNET.res_blocks


def changes(seed: int, rank: int = 4) -> dict[str, dict[str, tuple[Tensor, Tensor]]]:
    """(down, up) for every layer of the tiny networks that adapters reach, by part and place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        networks = {"unet": UNet(TINY_UNET), "text": TextEncoder(TINY_TEXT).networks}
    found: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
    for part, network in networks.items():
        for place, layer in adaptable_layers(network).items():
            out, *rest = layer.weight.shape
            down = torch.randn(rank, *rest, generator=generator) * 0.2
            up = torch.randn(out, rank, *[1] * (len(rest) - 1), generator=generator) * 0.2
            found.setdefault(part, {})[place] = down, up
    return found


def kohya(part: str, place: str) -> str:
    if part == "text":
        return "lora_te_text_model_" + place.replace(".", "_")
    return "lora_unet_" + lora_names.diffusers_name(place, LEVELS, RES_BLOCKS).replace(".", "_")


def peft(part: str, place: str) -> str:
    if part == "text":
        return "text_encoder.text_model." + place
    return "unet." + lora_names.diffusers_name(place, LEVELS, RES_BLOCKS)


def ldm(part: str, place: str) -> str:
    return ("text_encoders.clip_l.transformer.text_model." if part == "text" else "diffusion_model.") + place


SPELLINGS = {
    "kohya": (kohya, ".lora_down.weight", ".lora_up.weight"),
    "peft": (peft, ".lora_A.weight", ".lora_B.weight"),
    "ldm": (ldm, ".lora.down.weight", ".lora.up.weight"),
}


def lora_file(
    path: Path, made: dict[str, dict[str, tuple[Tensor, Tensor]]], spelling: str = "kohya", alpha: float = 2.0
) -> Path:
    name, down, up = SPELLINGS[spelling]
    tensors = {}
    for part, layers in made.items():
        for place, (low, high) in layers.items():
            stem = name(part, place)
            tensors |= {stem + down: low, stem + up: high, stem + ".alpha": torch.tensor(alpha)}
    path.parent.mkdir(exist_ok=True)
    save_file(tensors, path)
    return path


def merged(source: Path, target: Path, made: dict[str, dict[str, tuple[Tensor, Tensor]]], strengths: dict[str, float]) -> None:
    """The checkpoint with the changes added to its weights, as formula (3) of Hu et al. (2021) says."""
    state = load_file(source)
    prefixes = {"unet": keys.UNET, "text": keys.TEXT + "text_model."}
    for part, layers in made.items():
        for place, (low, high) in layers.items():
            name = f"{prefixes[part]}{place}.weight"
            change = strengths[part] * (2.0 / 4) * (high.flatten(1) @ low.flatten(1))
            state[name] = state[name] + change.reshape(state[name].shape)
    write(target, state, TINY_METADATA)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    return tmp_path


def bench(models: Path, keep: int = 2) -> Bench:
    manager = ModelManager([models], torch.device("cpu"), torch.float32, sdpa, models / "hashes.json", keep)
    return Bench(manager)


def apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a - b).max())


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_lora_paints_what_its_changes_in_the_weights_paint(models: Path, spelling: str) -> None:
    made = changes(1)
    lora_file(models / "loras" / "ink.safetensors", made, spelling)
    merged(models / "tiny.safetensors", models / "merged.safetensors", made, {"text": 0.5, "unet": 0.8})
    both = bench(models)
    both.submit("lora", prompt="a cat <lora:Ink:0.5:0.8>")
    both.submit("merged", prompt="a cat ", checkpoint="merged")
    both.submit("plain", prompt="a cat ")
    both.run()
    assert apart(both.pixels("lora"), both.pixels("merged")) <= 1
    assert apart(both.pixels("lora"), both.pixels("plain")) > 20, "the test can fail"
    done = both.of("done")["lora"].data
    assert done["extras"]["Lora hashes"].startswith("ink: ")
    assert "notes" not in done["facts"]


def test_pictures_with_different_loras_painted_together_equal_those_alone(models: Path) -> None:
    lora_file(models / "loras" / "ink.safetensors", changes(1))
    lora_file(models / "lora" / "oil.safetensors", changes(2), "peft")
    prompts = {
        "ink": "a cat <lora:ink:1>",
        "oil": "a cat <lora:oil:0.7:0.9>",
        "both": "<lora:ink:0.3><lora:oil:0.3>",
        "none": "a cat",
    }
    together = bench(models)
    for name, prompt in prompts.items():
        together.submit(name, user=name, prompt=prompt)
    together.run()
    for name, prompt in prompts.items():
        assert apart(together.pixels(name), together.alone(prompt=prompt)) <= 1, name


def test_strengths_of_nothing_and_of_two_halves(models: Path) -> None:
    lora_file(models / "loras" / "ink.safetensors", changes(1))
    on = bench(models)
    for name, prompt in {
        "off": "a cat <lora:ink:0>",
        "plain": "a cat ",
        "halves": "a cat <lora:ink:0.5><lora:ink:0.5>",
        "whole": "a cat <lora:ink:1>",
    }.items():
        on.submit(name, prompt=prompt)
    on.run()
    assert apart(on.pixels("off"), on.pixels("plain")) <= 1
    assert apart(on.pixels("halves"), on.pixels("whole")) <= 1
    assert "Lora hashes" not in on.of("done")["off"].data["extras"]


def test_the_name_that_a_trainer_gave_is_known_too(models: Path) -> None:
    path = lora_file(models / "loras" / "v2-final.safetensors", changes(1))
    save_file(load_file(path), path, {"ss_output_name": "Ink wash", "sshs_model_hash": "0123456789abcdef" * 4})
    on = bench(models)
    model = on.manager.load("tiny")
    assert model.adapter("ink WASH") is model.adapter("v2-final")
    on.submit("a", prompt="a cat <lora:Ink wash:1>")
    on.run()
    assert on.of("done")["a"].data["extras"]["Lora hashes"] == "v2-final: 0123456789ab"


def test_a_file_that_changes_is_read_again_and_one_that_does_not_is_kept(models: Path) -> None:
    path = lora_file(models / "loras" / "ink.safetensors", changes(1))
    on = bench(models)
    model = on.manager.load("tiny")
    first = model.adapter("ink")
    assert model.adapter("INK") is first
    path.unlink()
    lora_file(path, changes(2))
    assert model.adapter("ink") is not first


def test_what_cannot_be_used_is_left_out_and_said(models: Path) -> None:
    (models / "loras").mkdir()
    stem = "lora_unet_joint_blocks_0_x_block_attn_qkv"
    foreign = {f"{stem}.lora_down.weight": torch.zeros(2, 64), f"{stem}.lora_up.weight": torch.zeros(64, 2)}
    save_file(foreign, models / "loras" / "sd3.safetensors")
    (models / "loras" / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    lora_file(models / "loras" / "ink.safetensors", changes(1))
    tags = "<lora:sd3:1><lora:torn:1><lora:none:1><lora:ink:much><hypernet:old:1>"
    on = bench(models)
    on.submit("a", prompt=f"a cat {tags}")
    on.submit("plain", prompt="a cat ")
    on.run()
    assert apart(on.pixels("a"), on.pixels("plain")) <= 1
    done = on.of("done")["a"].data
    assert done["extras"]["Networks left out"] == "<lora:sd3:1> <lora:torn:1> <lora:none:1> <lora:ink:much> <hypernet:old:1>"
    notes = done["facts"]["notes"]
    for words in (
        "<lora:sd3:1>: it fits no layer of this checkpoint, whose family it is not made for",
        "<lora:torn:1>: torn.safetensors",
        "<lora:none:1>: network 'none' is not here",
        "<lora:ink:much>: what stands behind the name must be numbers",
        "<hypernet:old:1>: hypernetwork 'old' is not here",
    ):
        assert words in notes


def test_more_than_a_picture_can_have_are_left_out_unread(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        lora_file(models / "loras" / f"n{number}.safetensors", changes(number, rank=1))
    on = bench(models)
    read: list[str] = []
    adapter = ModelHandle.adapter
    monkeypatch.setattr(ModelHandle, "adapter", lambda model, name: read.append(name) or adapter(model, name))
    on.submit("a", prompt="a cat " + "".join(f"<lora:n{number}:0.1>" for number in range(10)))
    on.run()
    done = on.of("done")["a"].data
    assert done["extras"]["Networks left out"] == "<lora:n8:0.1> <lora:n9:0.1>"
    assert done["extras"]["Lora hashes"].count(":") == 8
    assert read == [f"n{number}" for number in range(8)]


def test_tensors_that_belong_to_no_layer_are_counted_in_a_note(models: Path) -> None:
    path = lora_file(models / "loras" / "ink.safetensors", changes(1))
    save_file({**load_file(path), "lora_unet_elsewhere.lora_down.weight": torch.zeros(1, 2)}, path)
    on = bench(models)
    on.submit("a", prompt="a cat <lora:ink:1>")
    on.run()
    assert "1 of its tensors belong to no layer" in on.of("done")["a"].data["facts"]["notes"]


def test_sdxl_takes_them_on_both_text_encoders_and_under_ldm_names(tmp_path: Path) -> None:
    """The changes added to the loaded weights paint the same picture."""
    sdxl_checkpoint(tmp_path / "xl.safetensors")
    on = bench(tmp_path)
    model = on.manager.load("xl")
    generator, tensors, made = torch.Generator().manual_seed(3), {}, []
    starts = {"unet": "lora_unet_", "text": "lora_te1_text_model_", "text_2": "lora_te2_text_model_"}
    for part, network in model.adaptable.items():
        for place, layer in network.layers.items():
            out, *rest = layer.weight.shape
            linear = len(rest) == 1 or place.endswith(("proj_in", "proj_out"))  # SDXL's are linear, ours 1x1 convolutions
            down = torch.randn(2, *(rest[:1] if linear else rest), generator=generator) * 0.2
            up = torch.randn(out, 2, *([] if linear else [1, 1]), generator=generator) * 0.2
            stem = starts[part] + place.replace(".", "_")
            tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(1.0)}
            made.append((layer, 0.5 * (up.flatten(1) @ down.flatten(1)).reshape(layer.weight.shape)))
    (tmp_path / "loras").mkdir()
    save_file(tensors, tmp_path / "loras" / "ink.safetensors")
    assert model.adapter("ink").unmatched == ()
    on.submit("lora", prompt="a cat <lora:ink:0.6>", checkpoint="xl")
    on.submit("plain", prompt="a cat ", checkpoint="xl")
    on.run()
    with torch.no_grad():
        for layer, change in made:
            layer.weight += 0.6 * change
    on.submit("merged", prompt=" a cat", checkpoint="xl")  # other words in the encoder's cache, the same tokens
    on.engine.runner.forget(lambda model: False)
    on.run()
    assert apart(on.pixels("lora"), on.pixels("merged")) <= 1
    assert apart(on.pixels("lora"), on.pixels("plain")) > 20, "the test can fail"
