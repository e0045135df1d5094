"""Files that people have instead of a checkpoint, and files that were made to do harm."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from modules.checkpoints import keys
from tests.tiny import raw_safetensors

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

Maker = Callable[[Path, Path], object]
"""Writes the file (first path), perhaps from a good tiny checkpoint (second path)."""


def _entry(**changes: object) -> Maker:
    """One tensor of 8 bytes whose entry is wrong in one way."""
    return lambda path, tiny: raw_safetensors(path, {"a": {**F32, **changes}}, bytes(8))


def _bytes(content: bytes) -> Maker:
    return lambda path, tiny: path.write_bytes(content)


def _header(header: object, data: bytes = bytes(8)) -> Maker:
    return lambda path, tiny: raw_safetensors(path, header, data)


def _cut(share: float) -> Maker:
    def cut(path: Path, tiny: Path) -> object:
        whole = tiny.read_bytes()
        return path.write_bytes(whole[: int(len(whole) * share)])

    return cut


def _tensors(*names: str) -> Maker:
    return lambda path, tiny: save_file({name: torch.zeros(2, 2) for name in names}, path)


def _tiny(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Maker:
    return lambda path, tiny: save_file(change(load_file(tiny)), path)


def _without(mark: str) -> Maker:
    return _tiny(lambda state: {name: tensor for name, tensor in state.items() if mark not in name})


def _with(*names: str) -> Maker:
    return _tiny(lambda state: {**state, **{name: torch.zeros(2, 2) for name in names}})


def _with_more_layers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A text encoder of four layers from one of two."""
    more = {k.replace(".layers.1.", f".layers.{n}."): v.clone() for k, v in state.items() for n in (2, 3) if ".layers.1." in k}
    return {**state, **more}


def _zip(path: Path, tiny: Path) -> object:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")


def _torch(legacy: bool) -> Maker:
    def write(path: Path, tiny: Path) -> object:
        file = io.BytesIO()
        torch.save({"state_dict": {"a": torch.zeros(2)}}, file, _use_new_zipfile_serialization=not legacy)
        return path.write_bytes(file.getvalue())

    return write


def _vae(path: Path, tiny: Path) -> object:
    state = load_file(tiny)
    return save_file({k.removeprefix(keys.VAE): v for k, v in state.items() if k.startswith(keys.VAE)}, path)


def _unet(path: Path, tiny: Path) -> object:
    state = load_file(tiny)
    return save_file({k.removeprefix(keys.UNET): v for k, v in state.items() if k.startswith(keys.UNET)}, path)


NOT_SAFETENSORS: dict[str, tuple[Maker, str]] = {
    "zero bytes": (_bytes(b""), "is empty (0 bytes); download it again"),
    "three bytes": (_bytes(b"abc"), "ends after 3 bytes"),
    "HTML": (_bytes(b"\n<!DOCTYPE html>\n<html><head><title>Log in</title>"), "is an HTML page"),
    "HTML without doctype": (_bytes(b"<HTML><body>404</body></HTML>"), "is an HTML page"),
    "text": (_bytes(b"Lies mich: das Modell liegt woanders.\n" * 30), "is a text file; download the model"),
    "long text": (_bytes("äöü€ ".encode() * 400), "is a text file"),
    "LFS pointer": (_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4\n"), "is a Git LFS pointer"),
    "new pickle": (_torch(legacy=False), "is a PyTorch pickle (.ckpt) or a zip archive: only safetensors are read; convert it"),
    "old pickle": (_torch(legacy=True), "is a PyTorch pickle (.ckpt): only safetensors are read; convert it"),
    "plain pickle": (_bytes(pickle.dumps({"a": 1}, protocol=2)), "is a PyTorch pickle"),
    "newest pickle": (_bytes(pickle.dumps({"a": [1] * 300}, protocol=5)), "is a PyTorch pickle"),
    "zip": (_zip, "zip archive"),
    "gzip": (_bytes(b"\x1f\x8b\x08" + bytes(50)), "is a packed archive; unpack it first"),
    "GGUF": (_bytes(b"GGUF\x03\0\0\0" + bytes(50)), "is a GGUF file"),
    "PNG": (_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50)), "is a picture"),
    "random bytes": (_bytes(bytes(range(255, 0, -1)) * 9), "is not a safetensors file: its first bytes announce a header of"),
    "huge header length": (_bytes(struct.pack("<Q", 2**63) + b"{}" + bytes(50)), "at most 16,777,216 are read"),
    "header longer than the file": (
        _bytes(struct.pack("<Q", 5000) + b"{}" + bytes(50)),
        "ends after 60 of at least 5,008 bytes",
    ),
}
"""What it is called -> how it is made, and what the message must say behind the file's name."""

BAD_HEADERS: dict[str, tuple[Maker, str]] = {
    "cut in the header": (_cut(0.001), "bytes; the download is incomplete, download it again"),
    "cut in the middle": (_cut(0.5), "bytes; the download is incomplete, download it again"),
    "cut at the end": (_cut(0.999999), "bytes; the download is incomplete, download it again"),
    "no JSON": (_header(b"{nonsense"), "its header is not JSON"),
    "not UTF-8": (_header(b'{"\xff\xfe": 1}'), "its header is not JSON"),
    "a list": (_header([1, 2]), "its header is not a JSON object"),
    "nothing in it": (_header({}), "holds no tensors"),
    "metadata only": (_header({"__metadata__": {"a": "b"}}), "holds no tensors"),
    "metadata a list": (_header({"__metadata__": ["x"], "a": F32}), "has metadata that is not a JSON object"),
    "nested too deep": (_header(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "its header is not JSON"),
    "a number of a million digits": (_header(b'{"a":' + b"9" * 1_000_000 + b"}"), "its header is not JSON"),
    "duplicate tensor": (
        _header('{"a":%s,"a":%s}' % ((json.dumps(F32),) * 2)),
        "is not a safe file: the header names 'a' twice",
    ),
    "duplicate offsets": (
        _header('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"data_offsets":[0,8]}}'),
        "the header names 'data_offsets' twice",
    ),
    "entry no object": (_header({"a": 5}), "the entry of tensor 'a' is not an object"),
    "unknown dtype": (_entry(dtype="F33"), "tensor 'a' has the unknown number format 'F33'"),
    "dtype no text": (_entry(dtype=["F32"]), "has the unknown number format"),
    "negative shape": (_entry(shape=[-2]), "tensor 'a' has the impossible shape [-2]"),
    "shape of truth": (_entry(shape=[True, 2]), "impossible shape"),
    "fractional shape": (_entry(shape=[2.0]), "impossible shape"),
    "shape of 9 axes": (_entry(shape=[1] * 8 + [2]), "impossible shape"),
    "overflowing shape": (_entry(shape=[2**62, 2**62]), "does not fill 8 bytes"),
    "too few bytes": (_entry(shape=[3]), "tensor 'a' of shape [3] in F32 does not fill 8 bytes"),
    "backwards": (_entry(data_offsets=[8, 0]), "does not fill -8 bytes"),
    "negative place": (_entry(data_offsets=[-8, 0]), "tensor 'a' has the impossible place [-8, 0]"),
    "three places": (_entry(data_offsets=[0, 4, 8]), "impossible place"),
    "behind the end": (_entry(data_offsets=[1000, 1008]), "bytes; the download is incomplete"),
    "overlap": (
        _header({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, bytes(12)),
        "tensors 'a' and 'b' overlap",
    ),
    "the same bytes twice": (_header({"a": F32, "b": F32}), "tensors 'a' and 'b' overlap"),
    "too many tensors": (
        _header({f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(20_001)}),
        "has more than 20,000 tensors",
    ),
    "a million tiny lists": (_header(b'{"a":[' + b"[]," * 1_100_000 + b"[]]}"), "has a header of more than 1,000,000 parts"),
}

NOT_CHECKPOINTS: dict[str, tuple[Maker, str]] = {
    "kohya LoRA": (
        _tensors("lora_unet_mid_block.lora_down.weight", "lora_unet_mid_block.lora_up.weight"),
        "is a LoRA; put it in the Lora folder of your models",
    ),
    "diffusers LoRA": (_tensors("unet.down_blocks.0.attn.to_q.lora_A.weight", "unet.x.lora_B.weight"), "is a LoRA"),
    "LoHa": (_tensors("lora_te_text_model_encoder_layers_0_mlp_fc1.hada_w1_a"), "is a LoRA"),
    "ControlNet": (_tensors("control_model.input_blocks.0.0.weight"), "is a ControlNet; put it in the ControlNet folder"),
    "diffusers ControlNet": (_tensors("controlnet_cond_embedding.conv_in.weight", "down_blocks.0.x"), "is a ControlNet"),
    "embedding": (_tensors("emb_params"), "is a textual-inversion embedding; put it in the embeddings folder"),
    "upscaler": (_tensors("conv_first.weight", "body.0.rdb1.conv1.weight"), "is an upscaler; put it in the ESRGAN folder"),
    "VAE": (_vae, "is a VAE alone; put it in the VAE folder of your models"),
    "U-Net": (_unet, "is a U-Net alone, without text encoder and VAE; use a full checkpoint"),
    "text encoder": (_tensors("text_model.encoder.layers.0.mlp.fc1.weight"), "is a text encoder alone"),
    "diffusers part": (_tensors("down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"), "in diffusers' layout; download"),
    "something else": (_tensors("fc.weight"), "is not a model that this version knows (it holds tensors such as 'fc.weight')"),
    "no VAE": (_without(keys.VAE), "has no autoencoder (VAE)"),
    "no text encoder": (_without(keys.TEXT), "has no CLIP text encoder"),
    "SDXL with one text encoder": (_with(keys.UNET + "label_emb.0.0.weight"), "has no OpenCLIP text encoder"),
    "SD 2 depth": (
        _with("depth_model.model.pretrained.act_postprocess3.0.project.0.bias"),
        "is an SD 2.x depth checkpoint; it paints along a depth map, which this version does not make; choose another SD 2.x",
    ),
    "unCLIP": (
        _with("embedder.model.visual.proj", keys.UNET + "label_emb.0.0.weight"),
        "is an unCLIP checkpoint; it varies a picture by its CLIP embedding, which this version does not make; choose another",
    ),
    "SD 3": (_tensors("model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight"), "is an SD 3 checkpoint"),
    "Flux": (_tensors("double_blocks.0.img_attn.norm.key_norm.scale", "img_in.weight"), "is a Flux checkpoint"),
    "5 input channels": (
        _tiny(lambda s: {**s, keys.UNET + "input_blocks.0.0.weight": torch.zeros(32, 5, 3, 3)}),
        "has a U-Net with 5 input channels; this version knows 4 (sd1), 9 (sd1-inpaint), 8 (sd1-edit)",
    ),
}

BAD_CHECKPOINTS: dict[str, tuple[Maker, str]] = {
    "missing U-Net tensors": (
        _without(".middle_block.0."),
        "lacks 10 tensors ('middle_block.0.in_layers.0.weight', 'middle_block.0.in_layers.0.bias', "
        "'middle_block.0.in_layers.2.weight', ...) of its U-Net",
    ),
    "missing VAE tensor": (_without("decoder.conv_out.bias"), "lacks the tensor 'decoder.conv_out.bias' of its VAE"),
    "missing text tensor": (
        _without("final_layer_norm.bias"),
        "lacks the tensor 'final_layer_norm.bias' of its CLIP text encoder",
    ),
    "no encoder": (_without("first_stage_model.encoder."), "has an autoencoder without an encoder"),
    "wrong size": (
        _tiny(lambda s: {**s, keys.UNET + "out.2.bias": torch.zeros(7)}),
        "has the tensor 'model.diffusion_model.out.2.bias' of size 7, expected 4",
    ),
    "whole numbers": (
        _tiny(lambda s: {**s, keys.UNET + "out.2.bias": torch.zeros(4, dtype=torch.int32)}),
        "stores the tensor 'model.diffusion_model.out.2.bias' as I32, not as floating-point numbers",
    ),
    "another vocabulary": (
        _tiny(lambda s: {**s, keys.TEXT + "text_model.embeddings.token_embedding.weight": torch.zeros(100, 32)}),
        "has a text encoder with another vocabulary than CLIP's",
    ),
    "text and U-Net of two models": (
        _tiny(lambda s: {k: torch.zeros(64, 48) if k.endswith("attn2.to_k.weight") else v for k, v in s.items()}),
        "has a text encoder 32 wide and a U-Net that expects 48",
    ),
    "an odd width": (
        _tiny(lambda s: {**s, keys.UNET + "input_blocks.1.0.out_layers.3.weight": torch.zeros(33, 33, 3, 3)}),
        "has a U-Net 33 channels wide, which group normalisation cannot divide by 32",
    ),
    "an uneven U-Net": (
        _tiny(lambda s: {**s, keys.UNET + "input_blocks.4.0.out_layers.3.weight": torch.zeros(32, 32, 3, 3)}),
        "has a U-Net of an unknown form",
    ),
    "no attention to text": (_without(".attn2."), "has a U-Net without attention to a text"),
    "no middle layer of the text encoder": (
        _tiny(lambda s: {k: v for k, v in _with_more_layers(s).items() if ".encoder.layers.2." not in k}),
        "lacks 16 tensors ('encoder.layers.2.self_attn.k_proj.weight', 'encoder.layers.2.self_attn.k_proj.bias', "
        "'encoder.layers.2.self_attn.v_proj.weight', ...) of its CLIP text encoder",
    ),
    "no first layer of the text encoder": (
        _without(".encoder.layers.0."),
        "lacks the tensor 'encoder.layers.0.mlp.fc1.weight'",
    ),
    "no input block": (_without(".input_blocks.1."), "lacks the tensor 'input_blocks.1.0.out_layers.3.weight'"),
    "no block of the VAE's decoder": (
        _without("decoder.up.2.block.1."),
        "lacks 8 tensors ('decoder.up.2.block.1.norm1.weight'",
    ),
    "no level of the VAE's encoder": (_without("encoder.down.1."), "lacks the tensor 'encoder.down.1.block.0.conv1.weight'"),
    "cut under another prefix": (
        _tiny(lambda s: {f"state_dict.{k}": v for k, v in s.items() if "decoder.conv_out.bias" not in k}),
        "lacks the tensor 'decoder.conv_out.bias' of its VAE",
    ),
}
"""Files whose parts are all there and not whole: listed with the reason, and refused for it when they are loaded."""
