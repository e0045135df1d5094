"""SD 3, SD 3.5 and Flux.1 as they are published, without their numbers: detection and the strict check, as folder and file.

Networks are diffusers' and transformers', built on the meta device by the published configurations; the names of single files
are held to diffusers' own converters of them.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel, SD3Transformer2DModel
from diffusers.loaders.single_file_utils import (
    convert_flux_transformer_checkpoint_to_diffusers,
    convert_sd3_transformer_checkpoint_to_diffusers,
)
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from modules.checkpoints import keys, text_files, transformer_sizes
from modules.checkpoints.completeness import part_shapes
from modules.checkpoints.diffusers_folder import Entries, joint, metadata_of
from modules.checkpoints.families import recognise
from modules.checkpoints.families.transformer import SIZES, TransformerFamily
from modules.checkpoints.header import Header, TensorEntry, part_of_rows, rows_of
from modules.checkpoints.transformer_names import single_file
from modules.errors import CheckpointError
from tests.checkpoints.test_published_layouts import BIG_G, CLIP_L, entries, text_state

SD3 = {
    "sample_size": 128,
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "out_channels": 16,
    "pos_embed_max_size": 192,
}
LARGE = {**SD3, "num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "qk_norm": "rms_norm"}
MEDIUM = {**SD3, "qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13)), "pos_embed_max_size": 384}
FLUX = {"guidance_embeds": True}


@dataclass(frozen=True)
class Published:
    """`config` is that of diffusers' transformer, `numbers` how many it has; 0 where that is not published."""

    family: str
    config: Mapping[str, Any]
    numbers: int = 0
    wanted: Mapping[str, Any] = field(default_factory=dict)


PUBLISHED = {
    "SD 3 medium": Published("sd3", SD3, wanted={"depth": 24, "heads": 24, "positions": 192, "normalised": False, "dual": 0}),
    "SD 3.5 large": Published(
        "sd3.5", LARGE, wanted={"depth": 38, "heads": 38, "positions": 192, "normalised": True, "dual": 0}
    ),
    "SD 3.5 medium": Published("sd3.5", MEDIUM, wanted={"depth": 24, "heads": 24, "positions": 384, "dual": 13}),
    "Flux.1 dev": Published("flux", FLUX, 11_901_408_320, {"doubles": 19, "singles": 38, "heads": 24, "axes": (16, 56, 56)}),
    "Flux.1 schnell": Published("flux-schnell", {}, 11_891_178_560, {"guided": False}),
    "Flux.1 Fill": Published("flux-fill", {**FLUX, "in_channels": 384, "out_channels": 64}, 0, {"in_channels": 96}),
}


def transformer_state(model: Published) -> dict[str, Tensor]:
    kind = SD3Transformer2DModel if model.family.startswith("sd3") else FluxTransformer2DModel
    with torch.device("meta"):
        return kind(**model.config).state_dict()  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def vae_state() -> dict[str, Tensor]:
    with torch.device("meta"):
        network = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=16,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    return network.state_dict()  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def t5_state() -> dict[str, Tensor]:
    shape = {"d_model": 4096, "d_ff": 10_240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"}
    with torch.device("meta"):
        return T5EncoderModel(T5Config(vocab_size=32_128, **shape)).state_dict()


def folder(model: Published, state: Mapping[str, Tensor]) -> Header:
    sd3 = model.family.startswith("sd3")
    first = {**CLIP_L, "projection_dim": 768} if sd3 else CLIP_L
    networks = {
        "transformer": sized(state),
        "vae": entries(vae_state(), {"scaling_factor": 1.5305 if sd3 else 0.3611}),
        "text_encoder": entries(text_state(first), first),
        "text_encoder_2": entries(text_state(BIG_G), BIG_G) if sd3 else entries(t5_state()),
    }
    if sd3:
        networks["text_encoder_3"] = entries(t5_state())
    return Header(metadata_of(networks, {}), joint(networks, {}), 0)


def sized(state: Mapping[str, Tensor]) -> Entries:
    """With places, as tensors of ours are put together of pieces of them."""
    found, end = {}, 0
    for name, tensor in state.items():
        size = tensor.numel() * 2
        found[name] = TensorEntry("F16", tuple(tensor.shape), end, end + size)
        end += size
    return Entries(found, {})


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_are_known_and_whole(name: str) -> None:
    """Every tensor of diffusers' transformer has a place, and no other is wanted; its single file has the names that diffusers
    converts."""
    model = PUBLISHED[name]
    state = transformer_state(model)
    total = sum(prod(tensor.shape) for tensor in state.values())
    assert model.numbers in (0, total)
    whole = folder(model, state)
    family = recognise(whole.shapes)
    assert isinstance(family, TransformerFamily)
    assert family.name == model.family
    family.check(whole)
    layout = keys.layout(whole.tensors)
    assert layout.unexpected == []
    shapes = part_shapes(whole, layout.unet)
    measure, tensors = SIZES[family.kind]
    sizes = measure(shapes)
    assert {field: getattr(sizes, field) for field in model.wanted} == dict(model.wanted)
    assert shapes == dict(tensors(sizes))
    assert sum(map(prod, shapes.values())) == total
    assert len(layout.text_3) == 24 * 9 + 3

    meta = {ours: torch.empty(shape, device="meta") for ours, shape in shapes.items()}
    convert = (
        convert_sd3_transformer_checkpoint_to_diffusers
        if family.kind == "sd3"
        else convert_flux_transformer_checkpoint_to_diffusers
    )
    theirs = convert(dict(meta))
    assert {their: tuple(each.shape) for their, each in theirs.items()} == {
        their: tuple(each.shape) for their, each in state.items()
    }

    bare = Header({}, {ours: TensorEntry("F16", shape, 0, 0) for ours, shape in shapes.items()}, 0)
    assert recognise(bare.shapes) is family, "a transformer alone, without a prefix"
    family.check(bare)
    torn = {ours: entry for ours, entry in bare.tensors.items() if not ours.endswith("linear.bias")}
    with pytest.raises(CheckpointError, match="lacks the tensor"):
        recognise(bare.shapes).check(Header({}, torn, 0))


def test_a_file_of_a_transformer_with_diffusers_names_is_read_as_one_with_its_own() -> None:
    state = transformer_state(PUBLISHED["Flux.1 schnell"])
    renamed = single_file({f"transformer.{name}": entry for name, entry in sized(state).tensors.items()})
    assert all(name.startswith(keys.UNET) for name in renamed)
    assert recognise({name: entry.shape for name, entry in renamed.items()}).name == "flux-schnell"


@pytest.mark.parametrize(
    ("without", "more", "says"),
    [
        ((), {"distilled_guidance_layer.norms.0.scale": (5120,)}, "is a Chroma checkpoint"),
        ((), {"double_stream_modulation_img.lin.weight": (18432, 3072)}, "is a Flux.2 checkpoint"),
        ((), {"controlnet_blocks.0.weight": (3072, 3072)}, "is a ControlNet"),
    ],
)
def test_relatives_are_told_from_flux(without: tuple[str, ...], more: dict[str, tuple[int, ...]], says: str) -> None:
    sizes = transformer_sizes.FluxSizes(16, 16, 3072, 24, 1, 1, 4096, 768, 4, (16, 56, 56), True)
    shapes = {name: shape for name, shape in transformer_sizes.flux_tensors(sizes) if name not in without} | more
    with pytest.raises(CheckpointError, match=says):
        recognise(shapes)


def test_flux_for_depth_or_edges_is_refused_by_its_channels() -> None:
    sizes = transformer_sizes.FluxSizes(32, 16, 3072, 24, 1, 1, 4096, 768, 4, (16, 56, 56), True)
    header = Header({}, {name: TensorEntry("F16", shape, 0, 0) for name, shape in transformer_sizes.flux_tensors(sizes)}, 0)
    with pytest.raises(CheckpointError, match="32 input and 16 output channels"):
        recognise(header.shapes).check(header)


@pytest.mark.parametrize(
    ("names", "file", "part"),
    [
        ({"text_model.embeddings.token_embedding.weight": (49408, 768)}, "x.safetensors", ("text", "text_model.")),
        ({"text_model.embeddings.token_embedding.weight": (49408, 1280)}, "x.safetensors", ("text_2", "text_model.")),
        ({"token_embedding.weight": (49408, 1280)}, "open_clip.safetensors", ("text_2", "")),
        ({"encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)}, "x.safetensors", ("text_3", "")),
        ({"transformer.encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)}, "x", ("text_3", "transformer.")),
        ({"encoder.conv_in.weight": (128, 3, 3, 3)}, "vae.safetensors", None),
    ],
)
def test_text_encoders_are_told_by_their_tensors(names: dict[str, Any], file: str, part: Any) -> None:
    assert text_files.kind_of(names, file) == part


SKELETONS = Path(__file__).parents[1] / "cases" / "skeletons"
SKELETON_FILES = {"sd3_medium_incl_clips_t5xxlfp8": "sd3", "flux1-dev-fp8": "flux", "flux1-schnell": "flux-schnell"}
"""Names, formats and shapes of single files, a tensor a line, put together after the layouts of Stability AI's sd3.5, Black
Forest Labs' flux and ComfyUI's packages of them; the test above holds the transformers' to diffusers' converters."""


@pytest.mark.parametrize("name", SKELETON_FILES)
def test_the_headers_of_published_single_files_are_known_and_whole(name: str) -> None:
    tensors = {}
    for line in gzip.decompress((SKELETONS / f"{name}.txt.gz").read_bytes()).decode().splitlines():
        tensor, dtype, size = line.split()
        tensors[tensor] = TensorEntry(dtype, tuple(map(int, size.split("x"))) if size != "()" else (), 0, 0)
    header = Header({}, tensors, 0)
    family = recognise(header.shapes)
    assert family.name == SKELETON_FILES[name]
    family.check(header)
    assert keys.layout(tensors).unexpected == []


def test_pieces_that_do_not_fit_are_refused() -> None:
    entry = TensorEntry("F16", (4, 8), 0, 64)
    assert rows_of([entry, entry]).shape == (8, 8)
    assert part_of_rows(entry, 1, 2)[1:4] == ((2, 8), 32, 64)
    for other in (TensorEntry("F16", (4, 7), 0, 56), TensorEntry("F32", (4, 8), 0, 128), TensorEntry("F16", (), 0, 2)):
        with pytest.raises(CheckpointError, match="do not fit"):
            rows_of([entry, other])
    for torn in (TensorEntry("F16", (), 0, 2), TensorEntry("F16", (3, 8), 0, 48)):
        with pytest.raises(CheckpointError, match="no 2 equal parts"):
            part_of_rows(torn, 0, 2)
