"""The LoRA trainer on a narrow checkpoint: what it learns, leaves alone, resumes, and what others read of its files."""

from __future__ import annotations

import errno
import json
import os
import shutil
from argparse import Namespace
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers
from lycoris.modules import get_module, make_module
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modules.checkpoints import keys
from modules.checkpoints.companions import scan_loras
from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.forward import context_for
from modules.diffusion.prediction import DiscreteNoise, V
from modules.errors import AtelierError, CheckpointError, OutputError, RequestError
from modules.training.__main__ import parser
from modules.training.lora import command, export
from modules.training.lora.data import read_folder
from modules.training.lora.files import write_whole
from modules.training.lora.network import Shape, new_adapter
from modules.training.lora.objective import Objective
from modules.training.lora.text import text_encoder
from modules.training.lora.training import Recipe, Trainer, _narrow, encode
from tests.diffusion import reference
from tests.engine.conftest import Bench
from tests.sdxl import sdxl_checkpoint
from tests.tiny import TINY_TEXT, TINY_UNET, tiny_checkpoint

RANKS = Shape(rank=4, alpha=4, conv_rank=2, conv_alpha=2)
WITH_TEXT = Shape(rank=4, alpha=2, text=True)
CAPTIONS = ("a red square", "a blue square", "a green bar", "two bars")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    return folder


@pytest.fixture(scope="module")
def model(models: Path) -> ModelHandle:
    return ModelManager([models], torch.device("cpu"), torch.float32, sdpa, models / "hashes.json").load("tiny")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    random = np.random.default_rng(1)
    for number, caption in enumerate(CAPTIONS):
        pixels = np.kron(random.integers(0, 255, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        Image.fromarray(pixels if number < 3 else pixels[:32]).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption)
    return folder


def trainer(
    model: ModelHandle, pictures: Path, state: Path, shape: Shape = RANKS, facts: dict[str, str] | None = None, **recipe: Any
) -> Trainer:
    data = encode(model, read_folder(pictures), [(64, 64)], False, lambda line: None)
    how = Recipe(**{"steps": 6, "batch": 2, "rate": 3e-3, "text_rate": 3e-3, "warmup": 1, "seed": 3, **recipe})
    return Trainer(model, new_adapter(model, shape, 3), data, how, state, facts or {}, lambda line: None)


def test_the_loss_of_a_fixed_batch_falls(model: ModelHandle, pictures: Path, tmp_path: Path) -> None:
    one = trainer(model, pictures, tmp_path / "s", batch=4, dropout=0.0, steps=40, rate=1e-2)
    with torch.no_grad():
        before = one.loss(0).item()
    same = one.loss
    one.loss = lambda step: same(0)  # type: ignore[method-assign]
    one.run()
    with torch.no_grad():
        after = same(0).item()
    assert after < 0.75 * before


def test_gradients_reach_the_adapter_alone(model: ModelHandle, pictures: Path, tmp_path: Path) -> None:
    one = trainer(model, pictures, tmp_path / "s", WITH_TEXT)
    networks: list[nn.Module] = [one.unet, text_encoder(model), model.latent.vae]  # type: ignore[attr-defined]
    before = [parameter.clone() for network in networks for parameter in network.parameters()]
    one.loss(0).backward()
    ups = [path.delta.up.grad for path in one.adapter.paths]
    assert all(grad is not None and bool(grad.abs().max() > 0) for grad in ups), "both parts, every layer"
    one.run(stop_at=3)
    after = [parameter for network in networks for parameter in network.parameters()]
    assert all(parameter.grad is None for parameter in after)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_new_adapter_changes_nothing(model: ModelHandle, pictures: Path, tmp_path: Path) -> None:
    one = trainer(model, pictures, tmp_path / "s")
    x, t, context = torch.randn(2, 4, 8, 8), torch.tensor([9.0, 900.0]), torch.randn(2, 77, 32)
    with torch.no_grad():
        assert torch.equal(one.unet(x, t, context), one.unet(x, t, context, asked(one)))


def asked(one: Trainer, part: str = "unet", rows: int = 2) -> Any:
    return context_for([[(one.adapter.parts[part], 1.0)]] * rows, [()] * rows, None, torch.device("cpu"))


def test_a_stopped_run_goes_on_with_the_same_numbers(model: ModelHandle, pictures: Path, tmp_path: Path) -> None:
    whole = trainer(model, pictures, tmp_path / "whole", WITH_TEXT)
    losses = whole.run()
    first = trainer(model, pictures, tmp_path / "parts", WITH_TEXT)
    begun = first.run(stop_at=3)
    second = trainer(model, pictures, tmp_path / "parts", WITH_TEXT)
    assert second.resume()
    assert second.step == 3
    assert begun + second.run() == losses
    assert all(torch.equal(value, whole.adapter.state()[name]) for name, value in second.adapter.state().items())
    assert len(set(losses)) == len(losses) == 6


def test_a_run_that_is_killed_goes_on_from_its_last_save(model: ModelHandle, pictures: Path, tmp_path: Path) -> None:
    losses = trainer(model, pictures, tmp_path / "whole").run()
    killed = trainer(model, pictures, tmp_path / "state")
    step = killed.loss

    def dies(number: int) -> Tensor:
        if number == 4:
            raise KeyboardInterrupt
        return step(number)

    killed.loss = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        killed.run(save_every=0.0)
    again = trainer(model, pictures, tmp_path / "state")
    assert again.resume()
    assert again.step == 4
    assert again.run() == losses[4:]


def test_a_state_of_another_training_is_refused(model: ModelHandle, pictures: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    assert not trainer(model, pictures, state).resume()
    trainer(model, pictures, state, facts={"data": "aaa", "adapter": "b"}).run(stop_at=1)
    with pytest.raises(RequestError, match="is of a training with data aaa instead of ccc; use the same options"):
        trainer(model, pictures, state, facts={"data": "ccc", "adapter": "b"}).resume()
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(RequestError, match=r"--resume: .*state\.pt cannot be read"):
        trainer(model, pictures, state).resume()


def test_bfloat16_trains_as_float32_does(model: ModelHandle, pictures: Path, tmp_path: Path) -> None:
    exact = trainer(model, pictures, tmp_path / "a").loss(0)
    half = trainer(model, pictures, tmp_path / "b", bf16=True)
    loss = half.loss(0)
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(path.delta.up.grad.dtype == torch.float32 for path in half.adapter.paths)  # type: ignore[union-attr]


def test_narrow_heads_attend_by_the_formula() -> None:
    q, k, v = (torch.randn(2, length, 3, 12) for length in (50, 77, 77))
    assert torch.allclose(_narrow(q, k, v), sdpa(q, k, v), atol=1e-5)


def test_the_targets_and_weights_of_eps_and_v() -> None:
    latents, noise, timesteps = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([10, 500, 990])
    sigma = torch.tensor(DiscreteNoise().trained.sigmas, dtype=torch.float64)[timesteps]
    for prediction in ("eps", "v"):
        process = DiscreteNoise(prediction=V) if prediction == "v" else DiscreteNoise()
        objective = Objective.of(process, 5.0, torch.device("cpu"))
        x_t = objective.noised(latents, noise, timesteps)
        # What denoises exactly is the target: its error must be nothing
        x = (x_t.double() * (1 + sigma**2).sqrt()[:, None, None, None]).float()
        right = (
            noise
            if prediction == "eps"
            else ((noise - sigma.float()[:, None, None, None] * latents) / (1 + sigma.float() ** 2).sqrt()[:, None, None, None])
        )
        assert torch.allclose(process.denoised(right, x, sigma.float()), latents, atol=2e-3)
        assert objective.errors(right, latents, noise, timesteps).max() < 1e-8
        snr = sigma**-2
        expected = snr.clamp(max=5) / (snr + 1 if prediction == "v" else snr)
        assert torch.allclose(objective.errors(right + 1, latents, noise, timesteps), expected.float(), rtol=1e-3)


# ---- the file


@pytest.fixture(scope="module")
def trained(model: ModelHandle, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    shape = Shape(rank=4, alpha=2, conv_rank=2, conv_alpha=2, text=True)
    one = trainer(model, pictures, tmp_path_factory.mktemp("state") / "s", shape, steps=12, rate=2e-2, text_rate=2e-2)
    one.run()
    return one


@pytest.fixture(scope="module")
def file(trained: Trainer, models: Path) -> Path:
    path = models / "loras" / "squares.safetensors"
    export.write(trained, path, export.Card("Squares", "flat squares", "Write it."))
    return path


def test_our_loader_reads_every_tensor_and_computes_what_was_trained(trained: Trainer, file: Path) -> None:
    read = trained.model.adapter("squares")
    assert read.unmatched == ()
    assert {part: set(adapter.deltas) for part, adapter in read.parts.items()} == {
        part: set(adapter.deltas) for part, adapter in trained.adapter.parts.items()
    }
    for part, adapter in read.parts.items():
        for place, delta in adapter.deltas.items():
            own = trained.adapter.parts[part].deltas[place]
            weight = trained.model.adaptable[part].layers[place].weight
            assert torch.allclose(delta.weight(weight), own.weight(weight), atol=1e-3), place


def test_the_file_changes_pictures_and_its_weight_0_is_none(file: Path, models: Path) -> None:
    bench = Bench(ModelManager([models], torch.device("cpu"), torch.float32, sdpa, models / "hashes.json"))
    plain, on, off = (bench.alone(prompt=f"a cat{tag}") for tag in ("", "<lora:squares:1>", "<lora:squares:0>"))
    assert (off == plain).all()
    assert np.abs(on - plain).max() > 5


def test_lycoris_reads_the_file_and_computes_the_same(trained: Trainer, file: Path, models: Path) -> None:
    state = load_file(models / "tiny.safetensors")
    unet = reference.unet(TINY_UNET, state)
    text = nn.ModuleDict({"text_model": reference.text(TINY_TEXT, state)})
    tensors = load_file(file)
    modules = {f"lora_{part}_{name}".replace(".", "_"): module for part, network in (("unet", unet), ("te", text))
               for name, module in network.named_modules()}  # fmt: skip
    stems = sorted({name.split(".")[0] for name in tensors})
    found = [make_module(*get_module(tensors, stem), stem, modules[stem]) for stem in stems]
    assert len(found) == len(trained.adapter.paths)
    x, t, context = torch.randn(1, 4, 8, 8), torch.tensor([300.0]), torch.randn(1, 77, 32)
    tokens = torch.randint(0, 49000, (1, 77))
    with torch.no_grad():
        plain = unet(x, t, context).sample, text["text_model"](tokens).last_hidden_state
        for lora in found:
            lora.apply_to()
        theirs = unet(x, t, context).sample, text["text_model"](tokens).last_hidden_state
        ours = (
            trained.unet(x, t, context, asked(trained, rows=1)),
            text_encoder(trained.model)(tokens, 1, asked(trained, "text", 1))[0],
        )
    for before, their, our in zip(plain, theirs, ours, strict=True):
        change = (their - before).abs().max()
        assert change > 0.02, "the test can fail"
        assert (their - our).abs().max() < 0.03 * change


def test_diffusers_knows_every_name(trained: Trainer, file: Path, models: Path) -> None:
    state = load_file(models / "tiny.safetensors")
    known = {"unet." + name for name, _ in reference.unet(TINY_UNET, state).named_modules()}
    converted, alphas = _convert_non_diffusers_lora_to_diffusers(load_file(file))
    assert len(converted) == 2 * len(trained.adapter.paths)
    assert set(alphas.values()) == {2.0}
    for name in converted:
        layer = name.replace(".processor", "").rsplit(".lora.", 1)[0].rsplit("_lora.", 1)[0]
        layer = layer + ".0" if layer.endswith("to_out") else layer
        assert name.startswith("text_encoder.text_model.encoder.layers.") or layer in known, name


def test_the_metadata_is_what_other_programs_show(trained: Trainer, file: Path, models: Path) -> None:
    with safe_open(str(file), "pt") as handle:
        said = handle.metadata()
        assert {handle.get_tensor(name).dtype for name in handle.keys()} == {torch.float16}  # noqa: SIM118
    for name, value in {
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "2",
        "ss_network_args": '{"conv_dim": 2, "conv_alpha": 2}',
        "ss_output_name": "squares",
        "ss_sd_model_name": "tiny.safetensors",
        "ss_num_train_images": "4",
        "ss_num_batches_per_epoch": "2",
        "ss_steps": "12",
        "ss_epoch": "6",
        "ss_resolution": "(64, 64)",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.title": "Squares",
        "modelspec.trigger_phrase": "flat squares",
        "modelspec.usage_hint": "Write it.",
        "modelspec.prediction_type": "epsilon",
        "modelspec.resolution": "64x64",
    }.items():
        assert said[name] == value, name
    (tags,) = json.loads(said["ss_tag_frequency"]).values()
    assert tags == dict.fromkeys(CAPTIONS, 1)
    assert float(said["ss_training_finished_at"]) > float(said["ss_training_started_at"])
    listed = {info.name: info for info in scan_loras([models])}
    assert dict(listed["squares"].metadata)["modelspec.trigger_phrase"] == "flat squares"


def test_the_stored_hash_is_that_of_the_tensors(file: Path, trained: Trainer, models: Path) -> None:
    """kohya's and A1111's: the sha256 of all that is behind the header, whatever the metadata."""
    with safe_open(str(file), "pt") as handle:
        said = handle.metadata()
    save_file(load_file(file), models / "loras" / "silent.safetensors")
    silent = trained.model.adapter("silent").digest  # computed, as nothing is stored
    assert silent == said["sshs_model_hash"][:12] == trained.model.adapter("squares").digest
    assert said["modelspec.hash_sha256"] == "0x" + said["sshs_model_hash"]


# ---- the command


def options(models: Path, work: Path, *more: str) -> Namespace:
    basics = ["lora", "--model", str(models / "tiny.safetensors"), "--work", str(work), "--steps", "2", "--batch", "2"]
    return parser().parse_args([*basics, "--rank", "2", "--conv-rank", "1", *more])


def quiet(line: str) -> None:
    pass


def test_a_style_is_painted_trained_written_and_shown(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "loras" / "pixels.safetensors"
    args = [
        "--style",
        "pixel",
        "--pictures",
        "2",
        "--paint-steps",
        "2",
        "--out",
        str(out),
        "--license",
        "CC0",
        "--text-encoder",
    ]
    shown = ["--sheet", str(tmp_path / "sheet.png"), "--preview", "a cat"]
    command.train(options(models, tmp_path / "work", *args, *shown), quiet)
    painted = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work" / "painted").iterdir()}
    assert len(painted) == 4
    assert all(text.read_text().endswith(", pixel art") for text in (tmp_path / "work" / "pixel").glob("*.txt"))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (64 * 12, 64 * 3)
    assert (tmp_path / "loras" / "pixels.preview.png").stat().st_size <= 60_000
    with safe_open(str(out), "pt") as handle:
        said = handle.metadata()
    assert said["modelspec.trigger_phrase"] == "pixel art"
    assert "<lora:pixels:1>" in said["modelspec.usage_hint"]
    assert json.loads(said["ss_tag_frequency"])["pixel"]["pixel art"] == 2
    again = command.train(options(models, tmp_path / "work", *args, "--resume"), quiet)
    assert again.step == 2
    assert painted == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work" / "painted").iterdir()}


def test_a_folder_is_trained_in_buckets(models: Path, pictures: Path, tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "mine.safetensors"
    done = command.train(options(models, tmp_path / "work", "--data", str(pictures), "--out", str(out)), said.append)
    assert sorted(done.data.sizes) == [(64, 64)] * 3 + [(80, 48)]
    assert out.exists()
    assert any("step 2 of 2, loss" in line for line in said)
    cropped = command.train(options(models, tmp_path / "w2", "--data", str(pictures), "--out", str(out), "--no-buckets"), quiet)
    assert set(cropped.data.sizes) == {(64, 64)}


def test_without_options_it_makes_what_ships() -> None:
    filled = command._completed(parser().parse_args(["lora"]))
    assert filled.out == Path("models/loras") / f"atelier-{command.SHIPPED}.safetensors"
    assert filled.model == Path("models/atelier-starter.safetensors")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--model", "gone.safetensors"), "--model: gone.safetensors is not here"),
        (("--rank", "0", "--conv-rank", "0"), "one of them must be above 0"),
        (("--rank", "-1"), "one of them must be above 0, and none below"),
        (("--rank", "0", "--text-encoder"), "--text-encoder needs a --rank above 0"),
        (("--rate", "nan"), "--rate: nan was given, it must be from 0 to 1"),
        (("--caption-dropout", "2"), "--caption-dropout: 2.0 was given"),
        (("--min-snr", "-1"), "--min-snr: -1.0 was given, it must not be negative"),
        (("--out", "x.ckpt"), "--out: x.ckpt must end in .safetensors"),
        (("--data", "gone"), "--data: gone is no folder"),
        (("--style", "neon", "--prompts", "gone.txt"), "--prompts: gone.txt cannot be read"),
        (("--device", "cuda"), "--device: cuda was asked for"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_sentence(models: Path, tmp_path: Path, more: tuple[str, ...], words: str) -> None:
    if "cuda" in more and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit, match=words.replace(".", r"\.")) as left:
        command.run(options(models, tmp_path, *more))
    assert str(left.value).startswith("error: ")


def test_checkpoints_of_other_families_are_refused_by_name(tmp_path: Path) -> None:
    sdxl_checkpoint(tmp_path / "xl.safetensors")
    with pytest.raises(
        CheckpointError, match=r"xl\.safetensors is of the family sdxl; LoRAs are trained here for Stable Diffusion 1\.x"
    ):
        command.train(options(tmp_path, tmp_path / "work", "--model", str(tmp_path / "xl.safetensors")), quiet)
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(CheckpointError, match=r"--model: torn\.safetensors"):
        command.train(options(tmp_path, tmp_path / "work", "--model", str(tmp_path / "torn.safetensors")), quiet)


def test_a_full_disk_is_said_before_training(
    models: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10, 10, 1000))
    with pytest.raises(OutputError, match=r"whose disk has 0\.0 MB free; free some space or choose another folder"):
        command.train(options(models, tmp_path / "work", "--data", str(pictures)), quiet)


def test_a_disk_that_fills_up_leaves_the_file_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.safetensors"
    write_whole(file, b"before")

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"a\.safetensors: the disk is full, 3\.0 MB were to be written; .*--resume"):
        write_whole(file, b"x" * 3_000_000)
    monkeypatch.undo()
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(AtelierError, match="cannot be written into"):
        write_whole(file / "b", b"")


def test_keys_of_the_text_encoder_are_under_kohyas_prefix(trained: Trainer) -> None:
    tensors: dict[str, Tensor] = export.tensors(trained.adapter, len(TINY_UNET.channels), TINY_UNET.res_blocks)
    parts = {name.split("_", 2)[1] for name in tensors}
    assert parts == {"unet", "te"}
    assert keys.TEXT  # the prefix of a checkpoint's own encoder, which no adapter has
    assert not any(name.startswith(keys.TEXT) for name in tensors)
