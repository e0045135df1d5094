"""SD 3 and Flux in the engine: users share forwards, pictures are what they are alone, and what makes no sense is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from modules.catalogue import Catalogue
from modules.checkpoints.files import scan
from modules.checkpoints.files_beside import t5_tokenizer_for
from modules.checkpoints.footprint import footprint_of
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.errors import CheckpointError, RequestError
from modules.prompts.library import Library
from tests import joint
from tests.engine.conftest import Bench
from tests.tiny import tiny_checkpoint, write

BASICS = {"sampler": "Euler", "schedule": "Simple", "steps": 2, "prompt": "a red cat"}
NO_BLUR = {"mask_blur_x": 0, "mask_blur_y": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, config in (
        ("sd3", joint.SD3),
        ("sd35", joint.SD35_MEDIUM),
        ("flux", joint.FLUX),
        ("schnell", joint.SCHNELL),
        ("fill", joint.FILL),
    ):
        joint.checkpoint(folder / f"{name}.safetensors", config)
    (folder / "Lora").mkdir()
    return folder


@pytest.fixture
def manager(folder: Path, tmp_path: Path) -> ModelManager:
    return ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json", keep=2)


@pytest.fixture
def bench(manager: ModelManager) -> Bench:
    return Bench(manager)


def picture() -> Image.Image:
    """Noise, always the same."""
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def mask() -> Image.Image:
    white = Image.new("L", (64, 64), 0)
    white.paste(255, (16, 16, 56, 64))
    return white


def test_their_files_are_listed_with_what_suits_them(folder: Path) -> None:
    infos = {info.name: info for info in scan([folder])}
    assert {name: info.family for name, info in infos.items()} == {
        "sd3": "sd3",
        "sd35": "sd3.5",
        "flux": "flux",
        "schnell": "flux-schnell",
        "fill": "flux-fill",
    }
    assert not any(info.problem for info in infos.values())
    assert (infos["flux"].defaults.cfg_scale, infos["flux"].defaults.schedule) == (1.0, "Simple")
    assert infos["fill"].defaults.distilled_cfg_scale == 30.0


@pytest.mark.parametrize("name", ["sd3", "sd35", "flux"])
def test_pictures_share_forwards_and_are_what_they_are_alone(name: str, bench: Bench) -> None:
    """From words, from a picture and in a part of one, with prompts of different lengths and weights."""
    long = " ".join(["one two the dog on the mat"] * 14)
    requests: dict[str, dict[str, Any]] = {
        "short": {"cfg_scale": 3.0},
        "long": {"prompt": long, "negative_prompt": "blue", "cfg_scale": 3.0, "seed": 2},
        "edited": {"prompt": "[a:the (blue:1.4) dog:1] AND red :0.5", "cfg_scale": 2.0, "seed": 3},
        "from a picture": {"source": picture(), "denoising_strength": 0.7, "cfg_scale": 1.0, "sampler": "DPM++ 2M"},
        "in a part": {
            "source": picture(),
            "mask": mask(),
            **NO_BLUR,
            "denoising_strength": 0.9,
            "cfg_scale": 1.0,
            "sampler": "Euler a",
        },
    }
    for task, fields in requests.items():
        bench.submit(task, user=task, **{**BASICS, "checkpoint": name, **fields})
    bench.run()
    assert not bench.of("failed"), [message.data["error"] for message in bench.of("failed").values()]
    for task, fields in requests.items():
        alone = bench.alone(**{**BASICS, "checkpoint": name, **fields})
        assert np.abs(bench.pixels(task) - alone).max() <= 1, task
    assert len({bench.pixels(task).tobytes() for task in requests}) == len(requests)
    kept = np.asarray(mask()) == 0
    assert np.array_equal(bench.pixels("in a part")[kept], np.asarray(picture()).astype(int)[kept])
    assert bench.engine.runner.rows > bench.engine.runner.forwards * 1.5
    assert bench.of("done")["short"].data["facts"]["prediction"] == "flow"


def test_the_guidance_scale_is_part_of_flux_s_row_and_nothing_for_schnell(bench: Bench) -> None:
    fields = {**BASICS, "cfg_scale": 1.0}
    for scale in (1.5, 3.5):
        for name in ("flux", "schnell"):
            bench.submit(f"{name} {scale}", user=str(scale), checkpoint=name, distilled_cfg_scale=scale, **fields)
    bench.run()
    assert not bench.of("failed")
    assert not np.array_equal(bench.pixels("flux 1.5"), bench.pixels("flux 3.5"))
    assert np.array_equal(bench.pixels("schnell 1.5"), bench.pixels("schnell 3.5"))
    shifts = {name: bench.of("done")[f"{name} 1.5"].data["facts"]["flow shift"] for name in ("flux", "schnell")}
    assert shifts["schnell"] == "1"
    assert float(shifts["flux"]) == pytest.approx(np.exp(0.5 + 0.65 / 3840 * (16 - 256)), rel=0.001)


def test_fill_is_shown_the_masked_picture(bench: Bench) -> None:
    """What lies under the mask has no part in it; what lies beside it has."""
    hidden = picture()
    hidden.paste((255, 0, 0), (20, 20, 50, 60))
    beside = picture()
    beside.paste((255, 0, 0), (0, 0, 64, 12))
    fields = {**BASICS, "checkpoint": "fill", "denoising_strength": 1.0, "cfg_scale": 1.0, "masked_content": "latent nothing"}
    for task, source in (("plain", picture()), ("hidden", hidden), ("beside", beside)):
        bench.submit(task, source=source, mask=mask(), **NO_BLUR, **fields)
    bench.run()
    assert not bench.of("failed"), [message.data["error"] for message in bench.of("failed").values()]
    inside = (slice(24, 60), slice(24, 52))
    assert np.abs(bench.pixels("plain")[inside] - bench.pixels("hidden")[inside]).max() <= 1
    assert np.abs(bench.pixels("plain")[inside] - bench.pixels("beside")[inside]).max() > 1


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_loras_with_fused_and_with_split_names_do_the_same(name: str, folder: Path, bench: Bench) -> None:
    generator = torch.Generator().manual_seed(4)
    q, k, v = ((torch.randn(4, 64, generator=generator), torch.randn(64, 4, generator=generator)) for _ in range(3))
    fused_layer = "joint_blocks_0_x_block_attn_qkv" if name == "sd3" else "double_blocks_0_img_attn_qkv"
    fused: dict[str, Tensor] = {
        f"lora_unet_{fused_layer}.lora_down.weight": torch.cat([q[0], k[0], v[0]]),
        f"lora_unet_{fused_layer}.lora_up.weight": torch.block_diag(q[1], k[1], v[1]),
        f"lora_unet_{fused_layer}.alpha": torch.tensor(12.0),
    }
    split: dict[str, Tensor] = {}
    for each, (down, up) in (("q", q), ("k", k), ("v", v)):
        stem = f"transformer.transformer_blocks.0.attn.to_{each}"
        split |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    write(folder / "Lora" / f"{name}-fused.safetensors", fused)
    write(folder / "Lora" / f"{name}-split.safetensors", split)
    if name == "flux":
        mlp = {"transformer.single_transformer_blocks.1.proj_mlp.lora_A.weight": q[0]}
        mlp["transformer.single_transformer_blocks.1.proj_mlp.lora_B.weight"] = torch.randn(256, 4, generator=generator)
        write(folder / "Lora" / "flux-mlp.safetensors", mlp)
    kinds = ["", *(f" <lora:{name}-{kind}:0.8>" for kind in ("fused", "split", *(["mlp"] if name == "flux" else [])))]
    for kind in kinds:
        bench.submit(kind or "none", user=kind, **{**BASICS, "checkpoint": name, "prompt": f"a cat{kind}", "cfg_scale": 1.0})
    bench.run()
    assert not bench.of("failed"), [message.data["error"] for message in bench.of("failed").values()]
    pixels = {kind: bench.pixels(kind or "none") for kind in kinds}
    assert np.abs(pixels[kinds[1]] - pixels[kinds[2]]).max() <= 1
    assert np.abs(pixels[kinds[1]] - pixels[""]).max() > 1
    assert name == "sd3" or np.abs(pixels[kinds[3]] - pixels[""]).max() > 1
    assert bench.engine.runner.rows > bench.engine.runner.forwards, "rows with different ones share a forward"


def test_samplers_and_schedules_that_make_no_sense_are_refused_with_the_reason(folder: Path, bench: Bench) -> None:
    catalogue = Catalogue([folder], Library(None), lambda: None)
    for name, fields, why in (
        ("flux", {"sampler": "DDIM"}, "noise levels of its own"),
        ("flux", {"sampler": "LCM"}, "noise levels of its own"),
        ("sd3", {"schedule": "Karras"}, "almost pure noise; choose Simple"),
        ("flux", {"sampler": "Euler CFG++"}, "steers by the answer to the negative prompt"),
        ("sd3", {"schedule": "Align Your Steps"}, "almost pure noise"),
    ):
        with pytest.raises(RequestError, match=why):
            catalogue.complete({"checkpoint": name, "prompt": "a cat", **fields})
    request = catalogue.complete({"checkpoint": "flux", "prompt": "a cat"})
    assert (request.sampler, request.schedule, request.cfg_scale) == ("Euler", "Simple", 1.0)
    assert catalogue.complete({"checkpoint": "fill", "prompt": "a cat"}).distilled_cfg_scale == 30.0
    assert catalogue.complete({"checkpoint": "sd3", "prompt": "a", "distilled_cfg_scale": 9}).distilled_cfg_scale == 3.5
    bench.submit("refused", checkpoint="sd3", **{**BASICS, "schedule": "Karras"})
    bench.submit("pag", checkpoint="sd3", pag_scale=1.0, **BASICS)
    bench.run()
    assert "would spend most steps" in bench.of("failed")["refused"].data["error"]
    assert "no attention in the middle" in bench.of("failed")["pag"].data["error"]


def test_the_token_counter_is_t5_s_where_t5_reads_the_prompt(folder: Path, tmp_path: Path) -> None:
    catalogue = Catalogue([folder], Library(None), lambda: None)
    tokenizer = t5_tokenizer_for(folder / "flux.safetensors", [folder])
    assert tokenizer is not None
    for name in ("flux", "sd3"):
        text = "a cat with (hats:1.3) " * 30
        checked = catalogue.prompts.check({"checkpoint": name, "prompt": text, "negative_prompt": "a dog"})
        assert (checked.tokens, checked.limit) == (len(tokenizer.encode(("a cat with hats " * 30).strip())), 511)
        assert (checked.negative_tokens, checked.negative_limit) == (len(tokenizer.encode("a dog")), 511)
        assert checked.notes == ()
        long = catalogue.prompts.check({"checkpoint": name, "prompt": "a cat " * 500})
        [note] = long.notes
        assert note == f"the prompt has {long.tokens} tokens, of which T5 reads the first 511"
    tiny_checkpoint(tmp_path / "plain.safetensors")
    plain = Catalogue([tmp_path], Library(None), lambda: None).prompts.check({"prompt": "a cat"})
    assert (plain.tokens, plain.limit) == (2, 75)


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    return tmp_path / "alone"


def test_what_is_not_in_a_file_is_taken_from_beside_it(alone: Path, manager: ModelManager, tmp_path: Path) -> None:
    """The same picture as that of the whole file; and each missing part is named with what to do."""
    joint.split(alone, joint.FLUX)
    apart = Bench(ModelManager([alone], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json"))
    fields = {**BASICS, "cfg_scale": 1.0}
    assert np.array_equal(apart.alone(checkpoint="alone", **fields), Bench(manager).alone(checkpoint="flux", **fields))
    assert len({str(component.key[0]) for component in apart.manager.loaded[0].components}) == 4, "each by its own file"

    def refused() -> str:
        with pytest.raises(CheckpointError) as error:
            ModelManager([alone], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json").load("alone")
        return str(error.value)

    (alone / "text_encoders" / "tokenizer.json").unlink()
    assert "needs T5: put T5's tokenizer.json or spiece.model" in refused()
    (alone / "text_encoders" / "t5xxl_fp16.safetensors").unlink()
    assert "needs T5: put a T5 v1.1 XXL text encoder (t5xxl_fp16.safetensors) into the text_encoder folder" in refused()
    joint.split(alone, joint.FLUX)
    (alone / "vae" / "ae.safetensors").rename(alone / "vae" / "sd3_vae.safetensors")
    assert "has no VAE: put that of Flux.1 dev (ae.safetensors) into the VAE folder" in refused()
    (alone / "vae" / "sd3_vae.safetensors").rename(alone / "vae" / "mine.safetensors")
    (alone / "text_encoders" / "clip_l.safetensors").unlink()
    bench = Bench(ModelManager([alone], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json"))
    bench.submit("without CLIP", checkpoint="alone", **fields)
    bench.run()
    assert bench.of("done")["without CLIP"].data["extras"]["Text encoders"] == "without CLIP ViT-L text encoder"


@pytest.mark.parametrize("without", [("text_3",), ("text", "text_3"), ("text_2", "text_3"), ("text", "text_2")])
def test_sd3_does_without_any_of_its_encoders(without: tuple[str, ...], tmp_path: Path) -> None:
    joint.checkpoint(tmp_path / "some.safetensors", joint.SD3, without=without)
    bench = Bench(ModelManager([tmp_path], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json"))
    for prompt in ("a cat", "a blue dog"):
        bench.submit(prompt, checkpoint="some", **{**BASICS, "prompt": prompt})
    bench.run()
    assert not bench.of("failed"), [message.data["error"] for message in bench.of("failed").values()]
    assert not np.array_equal(bench.pixels("a cat"), bench.pixels("a blue dog"))
    assert "T5" in bench.of("done")["a cat"].data["extras"]["Text encoders"] or "text_3" not in without


def test_sd3_with_none_of_them_is_refused(tmp_path: Path) -> None:
    joint.checkpoint(tmp_path / "none.safetensors", joint.SD3, without=("text", "text_2", "text_3"))
    manager = ModelManager([tmp_path], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")
    with pytest.raises(CheckpointError, match="has no text encoder, and there is none beside it"):
        manager.load("none")


@pytest.mark.parametrize("lacking", ["joint_blocks.1.x_block.mlp.fc2.bias", "pos_embed", "final_layer.linear.weight"])
def test_torn_files_are_listed_with_what_they_lack(lacking: str, tmp_path: Path) -> None:
    tensors = {name: each for part in joint.parts(joint.SD3).values() for name, each in part.items()}
    write(tmp_path / "torn.safetensors", {name: each for name, each in tensors.items() if not name.endswith(lacking)})
    (info,) = scan([tmp_path])
    assert "lacks the tensor" in info.problem or "table of positions" in info.problem
    assert info.family == ""


def test_their_weights_may_be_8_bits(tmp_path: Path) -> None:
    """Plain, and with scales as ComfyUI writes them: the same picture as with what they mean."""
    meant: dict[str, Tensor] = {}
    scaled: dict[str, Tensor] = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    plain: dict[str, Tensor] = {}
    for part, tensors in joint.parts(joint.FLUX).items():
        for name, tensor in tensors.items():
            scaled[name] = plain[name] = meant[name] = tensor
            if part in ("unet", "text_3") and tensor.dim() == 2 and "shared" not in name:
                plain[name] = tensor.to(torch.float8_e4m3fn)
                scaled[name] = (tensor / 0.01).to(torch.float8_e4m3fn)
                scaled[name.removesuffix("weight") + "scale_weight"] = torch.tensor(0.01)
                meant[name] = scaled[name].float() * 0.01
    for name, tensors in (("scaled", scaled), ("meant", meant), ("plain", plain)):
        write(tmp_path / f"{name}.safetensors", tensors)
    write(tmp_path / "widened.safetensors", {name: each.float() for name, each in plain.items()})
    joint.tokenizer(tmp_path / "tokenizer.json")
    bench = Bench(ModelManager([tmp_path], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json"))
    fields = {**BASICS, "cfg_scale": 1.0, "steps": 2}
    for one, other in (("scaled", "meant"), ("plain", "widened")):
        assert np.array_equal(bench.alone(checkpoint=one, **fields), bench.alone(checkpoint=other, **fields))


def test_what_they_take_of_memory_is_stated(folder: Path) -> None:
    for name in ("sd3", "flux"):
        found = footprint_of(folder / f"{name}.safetensors")
        assert found is not None
        assert found.denoiser > found.vae > 0
        assert found.text > 0
        assert found.row > 64
