"""Weights in bitsandbytes' NF4: they compute what their numbers compute, under single files' names and diffusers'."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modules.checkpoints import diffusers_folder, keys
from modules.checkpoints.footprint import weights_in
from modules.checkpoints.header import Header
from modules.checkpoints.sources import open_source, read_source
from modules.checkpoints.weights import Filler, Weights
from modules.diffusion.flux import Flux
from modules.diffusion.placement import Placement
from modules.diffusion.quantised import QuantisedLinear
from modules.errors import CheckpointError
from tests import joint
from tests.diffusion import test_joint_networks as networks

CPU = torch.device("cpu")
CODES = np.array(  # bitsandbytes' get_4bit_type("nf4")
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
        *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
        *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    np.float32,
)


def in_nf4(weight: Tensor, nested: bool) -> tuple[dict[str, Tensor], Tensor]:
    """What is stored for a weight, by the ends of names, and the numbers that it stands for, one by one: a slow twin."""
    flat = weight.numpy().reshape(-1)
    scales = np.abs(flat.reshape(-1, 64)).max(axis=1).astype(np.float32)
    said: dict[str, Any] = {"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": list(weight.shape)}
    stored = {"quant_map": torch.tensor(CODES)}
    if nested:
        offset, codes = np.float32(scales.mean()), np.linspace(-1, 1, 256, dtype=np.float32)
        padded = np.pad(scales - offset, (0, -len(scales) % 256))
        outer = np.abs(padded.reshape(-1, 256)).max(axis=1).astype(np.float32)
        eight = [int(np.abs(codes - (scale - offset) / outer[number // 256]).argmin()) for number, scale in enumerate(scales)]
        scales = np.array([codes[code] * outer[number // 256] + offset for number, code in enumerate(eight)], np.float32)
        said |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": float(offset)}
        stored |= {"absmax": torch.tensor(eight, dtype=torch.uint8), "nested_absmax": torch.tensor(outer)}
        stored["nested_quant_map"] = torch.tensor(codes)
    else:
        stored["absmax"] = torch.tensor(scales)
    four = np.abs(flat[:, None] / np.repeat(scales, 64)[:, None] - CODES).argmin(axis=1)
    packed = [int(four[place]) << 4 | int(four[place + 1]) for place in range(0, len(four), 2)]
    numbers = np.array([CODES[code] * scales[number // 64] for number, code in enumerate(four)], np.float32)
    state = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    found = {f".{name}": tensor for name, tensor in stored.items()} | {".quant_state.bitsandbytes__nf4": state}
    return found | {"": torch.tensor(packed, dtype=torch.uint8)[:, None]}, torch.tensor(numbers).view(weight.shape)


def written(path: Path, state: Mapping[str, Tensor], nested: bool) -> tuple[Path, Path]:
    """A file in NF4, as much of it as such files have so, and one with the same numbers in float32."""
    packed, plain = {}, {}
    for name, tensor in state.items():
        if tensor.dim() == 2 and tensor.numel() % 64 == 0:
            parts, plain[name] = in_nf4(tensor, nested)
            packed |= {name + end: part for end, part in parts.items()}
        else:
            packed[name] = plain[name] = tensor.contiguous()
    save_file(packed, path.with_suffix(".safetensors"))
    save_file(plain, path.with_suffix(".plain.safetensors"))
    return path.with_suffix(".safetensors"), path.with_suffix(".plain.safetensors")


def loaded(path: Path, network: nn.Module, keeps_blocks: bool) -> nn.Module:
    with open_source(path) as source:
        fill = Filler(Weights(source.files, source.header), CPU, path.name, keeps_blocks)
        fill(network, keys.layout(source.header.tensors).unet, torch.float32, "transformer")
        return network


@torch.inference_mode()
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("names", ["Black Forest Labs'", "diffusers'"])
def test_its_numbers_are_what_the_network_computes_with(names: str, nested: bool, tmp_path: Path) -> None:
    config = networks.FLUX
    theirs, ours = networks.flux(config)
    state = (theirs if names == "diffusers'" else ours).state_dict()
    packed, plain = written(tmp_path / "flux", state, nested)
    answers = []
    x, timesteps, context, pooled = networks.inputs()
    vector = torch.cat([pooled, torch.zeros(2, 256)], dim=1)
    for path, keeps_blocks in ((plain, True), (packed, True), (packed, False)):
        with torch.device("meta"):
            network: nn.Module = Flux(config)
        network = loaded(path, network, keeps_blocks)
        answers.append(network(x, timesteps, context, vector))
        held = sum(isinstance(layer, QuantisedLinear) for layer in network.modules())
        assert (held > 10) == (keeps_blocks and path == packed)
        if held:
            size = weights_in(read_source(path)).kept(4)
            assert Placement(network, CPU).size == size < 0.4 * weights_in(read_source(plain)).kept(4)
    assert torch.equal(answers[1], answers[0])
    assert torch.equal(answers[2], answers[0])


def test_a_file_of_a_folder_is_read_as_one_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    weight = torch.randn(4, 128, generator=torch.Generator().manual_seed(1))
    packed, plain = written(tmp_path / "transformer" / "m", {"a.weight": torch.zeros(3), "b.weight": weight}, True)
    tensors = diffusers_folder._header(tmp_path, packed, 0)
    assert (tensors["b.weight"].dtype, tensors["b.weight"].shape) == ("NF4", (4, 128))
    with packed.open("rb") as file:
        found = Weights(file, Header({}, tensors, 0))["b.weight"]
    assert torch.equal(found, load_file(plain)["b.weight"])


def test_what_does_not_go_together_is_refused_in_words(tmp_path: Path) -> None:
    state = joint.state_of(joint.transformer(joint.FLUX), "", 1)
    name = "double_blocks.0.img_mlp.0.weight"
    parts, _ = in_nf4(state[name], True)

    def refused(**changed: Tensor | None) -> str:
        ends = {end.rsplit(".", 1)[-1]: end for end in parts}
        tensors = {name + end: part for end, part in parts.items() if changed.get(end.rsplit(".", 1)[-1], part) is not None}
        tensors |= {name + ends.get(what, "." + what): part for what, part in changed.items() if part is not None}
        save_file(tensors, tmp_path / "bad.safetensors")
        with pytest.raises(CheckpointError) as error:
            read_source(tmp_path / "bad.safetensors")
        assert str(error.value).startswith("bad.safetensors has the weight")
        return str(error.value)

    def state_with(**said: Any) -> Tensor:
        whole = json.loads(bytes(parts[".quant_state.bitsandbytes__nf4"].tolist())) | said
        return torch.tensor(list(json.dumps(whole).encode()), dtype=torch.uint8)

    for changed in ({"absmax": None}, {"nested_absmax": None}, {"quant_map": torch.zeros(15)}, {"absmax": torch.zeros(3)}):
        assert "download it again" in refused(**changed)
    for said in ({"shape": [3, 64]}, {"shape": "64"}, {"nested_blocksize": 0}, {"nested_offset": "x"}):
        assert "download it again" in refused(bitsandbytes__nf4=state_with(**said))
    assert "download it again" in refused(bitsandbytes__nf4=torch.zeros(9, dtype=torch.uint8))
    assert "blocks of 128 numbers; blocks of 64 are read" in refused(bitsandbytes__nf4=state_with(blocksize=128))
    assert "stand for other numbers" in refused(quant_map=torch.zeros(16))
    fp4 = {"quant_state.bitsandbytes__fp4": parts[".quant_state.bitsandbytes__nf4"], "bitsandbytes__nf4": None}
    assert "bitsandbytes' FP4; use one in NF4" in refused(**fp4)
