"""GGUF files: their numbers are those of a slow twin, their models paint, and what is torn or unknown is refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from modules.checkpoints import keys, text_files
from modules.checkpoints.files import scan
from modules.checkpoints.footprint import footprint_of
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.residence import Storage, part_of
from modules.checkpoints.sources import open_source, read_source
from modules.checkpoints.weights import Weights
from modules.diffusion.attention import sdpa
from modules.diffusion.block_formats import BLOCK_FORMATS
from modules.diffusion.block_numbers import dequantised, write_numbers
from modules.errors import CheckpointError
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import Txt2Img
from tests import joint, k_quants
from tests.gguf_files import BLOCK_BYTES, quantised, twin, write_gguf
from tests.tiny import tiny_checkpoint, write

T5_LAYERS = {
    "layer.0.SelfAttention.q": "attn_q",
    "layer.0.SelfAttention.k": "attn_k",
    "layer.0.SelfAttention.v": "attn_v",
    "layer.0.SelfAttention.o": "attn_o",
    "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b",
    "layer.0.layer_norm": "attn_norm",
    "layer.1.DenseReluDense.wi_0": "ffn_gate",
    "layer.1.DenseReluDense.wi_1": "ffn_up",
    "layer.1.DenseReluDense.wo": "ffn_down",
    "layer.1.layer_norm": "ffn_norm",
}


@pytest.mark.parametrize("dtype", BLOCK_BYTES)
def test_blocks_are_what_the_format_s_description_says(dtype: str) -> None:
    """Of any bytes, their scales finite; and values come back near what they were."""
    generator = np.random.default_rng(1)
    data = generator.integers(0, 256, (50, BLOCK_BYTES[dtype]), dtype=np.uint8)
    heads = 2 if dtype[3] == "1" else 1
    data[:, : 2 * heads] = generator.normal(size=(50, heads)).astype("<f2").view(np.uint8).reshape(50, -1)
    ours = dequantised(torch.tensor(data).flatten(), dtype).numpy()
    assert np.array_equal(ours, twin(data.tobytes(), dtype))
    values = generator.normal(size=320).astype(np.float32)
    back = twin(quantised(values, dtype), dtype)
    assert np.abs(back - values).max() < {"8": 0.02, "5": 0.15, "4": 0.3}[dtype[1]]


@pytest.mark.parametrize("dtype", k_quants.BLOCK_BYTES)
def test_blocks_of_256_numbers_are_what_the_format_s_description_says(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, of any bytes; also where a matrix is made in parts."""
    data = k_quants.random_blocks(np.random.default_rng(2), 12, dtype, size=1.0)
    rows = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    wanted = k_quants.k_twin(data, dtype)
    assert BLOCK_FORMATS[dtype] == (256, k_quants.BLOCK_BYTES[dtype])
    assert np.array_equal(dequantised(rows, dtype).numpy(), wanted)
    monkeypatch.setattr("modules.diffusion.block_numbers.AT_ONCE_CPU", 1024)
    into = torch.empty(6, 512)
    write_numbers(rows.view(6, -1), dtype, into)
    assert np.array_equal(into.numpy(), wanted.reshape(6, 512))


def formats(name: str, tensor: Tensor, dtype: str) -> str:
    """As such files have it: matrices quantised, vectors and tables of positions as they are."""
    return dtype if tensor.dim() == 2 and tensor.shape[-1] % 32 == 0 else "F32"


def arrays(tensors: dict[str, Tensor], dtype: str) -> dict[str, tuple[np.ndarray, str]]:
    return {name: (tensor.numpy(), formats(name, tensor, dtype)) for name, tensor in tensors.items()}


def bare(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def t5_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    named = {}
    for name, tensor in bare(tensors, "text_encoders.t5xxl.transformer.").items():
        if name.startswith("encoder.block."):
            _, _, number, rest = name.split(".", 3)
            named[f"enc.blk.{number}.{T5_LAYERS[rest.removesuffix('.weight')]}.weight"] = tensor
        else:
            named[{"shared.weight": "token_embd.weight"}.get(name, "enc.output_norm.weight")] = tensor
    return named


@torch.inference_mode()
@pytest.mark.parametrize("dtype", ["Q8_0", "Q4_0"])
def test_a_model_in_gguf_paints_the_picture_of_its_numbers(dtype: str, tmp_path: Path) -> None:
    """Flux and T5 in files of their own, T5's tokenizer inside; beside a safetensors file with the same numbers."""
    found = joint.parts(joint.FLUX)
    models, plain = tmp_path / "models", tmp_path / "plain"
    for folder in (models, plain):
        joint.split(folder, joint.FLUX)
        for name in ("tokenizer.json", "t5xxl_fp16.safetensors"):
            (folder / "text_encoders" / name).unlink()
        (folder / "alone.safetensors").unlink()
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("\u2581", -3.0)]
    pieces += [(f"\u2581{word}", -1.0) for word in joint.WORDS] + [(chr(each), -6.0) for each in range(97, 123)]
    said = {
        "tokenizer.ggml.tokens": [text for text, _ in pieces],
        "tokenizer.ggml.scores": [score for _, score in pieces],
    }
    write_gguf(models / "flux.gguf", arrays(bare(found["unet"], keys.UNET), dtype))
    write_gguf(models / "text_encoders" / "t5.gguf", arrays(t5_names(found["text_3"]), dtype), said)
    for name in ("flux.gguf", "text_encoders/t5.gguf"):
        with open_source(models / name) as source:
            weights = Weights(source.files, source.header)
            state = {each: weights[each] for each in source.header.tensors}
            write(plain / name.replace(".gguf", ".safetensors"), state)
    joint.tokenizer(plain / "text_encoders" / "tokenizer.json")

    (info,) = scan([models])
    assert (info.name, info.family, info.problem) == ("flux", "flux", "")
    assert text_files.find_text_file([models], "text_3") is not None
    for folder in (models, plain):
        (folder / "Lora").mkdir()
        write(folder / "Lora" / "style.safetensors", lora())
    said = footprint_of(models / "flux.gguf", [models])
    assert said is not None
    kept, wide = said.denoiser_weights, 4 * said.denoiser
    assert kept.kept(4) < 0.5 * wide
    assert said.text_weights.quantised == said.of_t5.quantised > 0
    pictures = []
    storages: list[tuple[Path, Storage, int]] = [
        *((models, "auto", kept.kept(4)), (models, "fp8", kept.kept(4))),
        *((models, "full", wide), (plain, "auto", wide)),
    ]
    for folder, storage, size in storages:
        hashes = tmp_path / "hashes.json"
        manager = ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, hashes, storage=storage)
        basics = {"prompt": "a red cat", "seed": 1, "steps": 2, "width": 64, "height": 64, "cfg_scale": 1.0}
        for prompt in ("a red cat", "a red cat <lora:style:0.8>"):
            request = Txt2Img(**{**basics, "prompt": prompt}, checkpoint="flux", sampler="Euler", schedule="Simple")
            pictures.append(run_reference(generate(stages_of(request)), manager).pixels)
        (handle,) = manager.loaded
        sizes = {part_of(component): component.size for component in handle.components}
        assert sizes["unet"] == size, "what is stated before the click"
        assert sizes["text_3"] == said.of_t5.kept(4, storage != "full" and folder == models)
        assert not handle.in_eight_bits
        assert handle.notes == ()
    assert not torch.equal(*pictures[:2]), "the LoRA changes it"
    for number, each in enumerate(pictures):
        assert torch.equal(each, pictures[number % 2])


def lora() -> dict[str, Tensor]:
    """Of layers under names of single files, and of a part of one under diffusers'; one replaces a weight."""
    generator = torch.Generator().manual_seed(4)
    tensors = {"diffusion_model.single_blocks.0.linear2.set_weight": torch.randn(64, 320, generator=generator) / 8}
    for name, out in (
        ("lora_unet_double_blocks_0_img_attn_qkv", 192),
        ("transformer.transformer_blocks.1.attn.to_k", 64),
        ("lora_unet_single_blocks_1_linear1", 448),
    ):
        down, up = ("lora_A", "lora_B") if name.startswith("transformer") else ("lora_down", "lora_up")
        tensors[f"{name}.{down}.weight"] = torch.randn(4, 64, generator=generator) / 8
        tensors[f"{name}.{up}.weight"] = torch.randn(out, 4, generator=generator)
    return tensors


@torch.inference_mode()
def test_a_u_net_and_clip_keep_their_blocks_too(tmp_path: Path) -> None:
    """In a whole checkpoint, as stable-diffusion.cpp writes them."""
    state = load_file(tiny_checkpoint(tmp_path / "tiny.safetensors"))
    write_gguf(tmp_path / "models.gguf", arrays({name: each.float() for name, each in state.items()}, "Q8_0"), drawn=True)
    (tmp_path / "models").mkdir()
    (tmp_path / "models.gguf").rename(tmp_path / "models" / "tiny.gguf")
    pictures, kept = [], []
    for storage in ("auto", "full"):
        hashes = tmp_path / "hashes.json"
        manager = ModelManager([tmp_path / "models"], torch.device("cpu"), torch.float32, sdpa, hashes, storage=storage)
        request = Txt2Img(prompt="a cat", seed=1, steps=1, width=64, height=64, checkpoint="tiny", sampler="Euler")
        pictures.append(run_reference(generate(stages_of(request)), manager).pixels)
        placed = {part_of(each): each.placement for each in manager.loaded[0].components}
        kept.append({part for part, placement in placed.items() if placement is not None and placement.quantised})
    assert torch.equal(*pictures)
    assert kept == [{"unet", "text"}, set()]


def test_what_cannot_be_read_is_refused_in_words(tmp_path: Path) -> None:
    array = np.ones((4, 64), np.float32)
    whole = {"a.weight": (array, "Q8_0"), "b.weight": (array, "F16"), "c.weight": (array, "BF16")}
    good = write_gguf(tmp_path / "good.gguf", whole)
    assert {name: (entry.dtype, entry.shape) for name, entry in read_source(good).tensors.items()} == {
        "a.weight": ("Q8_0", (4, 64)),
        "b.weight": ("F16", (4, 64)),
        "c.weight": ("BF16", (4, 64)),
    }
    shaped = write_gguf(tmp_path / "shaped.gguf", whole, {"comfy.gguf.orig_shape.a.weight": [4, 4, 4, 4]})
    assert read_source(shaped).tensors["a.weight"].shape == (4, 4, 4, 4)

    def refused(path: Path) -> str:
        with pytest.raises(CheckpointError) as error:
            read_source(path)
        return str(error.value)

    for form, instead in (("IQ4_XS", "Q4_K_S or Q4_0"), ("IQ3_XXS", "Q3_K_S"), ("TQ2_0", "Q2_K")):
        said = refused(write_gguf(tmp_path / "k.gguf", {"a": (array, form)}))
        assert f"format {form}, which is not read; use the same model in {instead}; read are F32, " in said
    assert "version 1" in refused(write_gguf(tmp_path / "old.gguf", whole, version=1))
    assert "the download is incomplete" in refused(write_gguf(tmp_path / "cut.gguf", whole, cut=200))
    data = good.read_bytes()
    for length in range(4, 260, 7):
        path = tmp_path / "torn.gguf"
        path.write_bytes(data[:length])
        assert "torn.gguf" in refused(path)
    path.write_bytes(data[:8] + b"\xff" * 8 + data[16:])
    assert "is a GGUF file that is damaged" in refused(path)
