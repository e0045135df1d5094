"""TAESD against diffusers' AutoencoderTiny with the same random weights; as a fast VAE, for previews, and what is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from torch import Tensor

from modules.checkpoints import latent_space
from modules.checkpoints.families import FAMILIES, SD1_LATENT
from modules.checkpoints.families.sdxl import PLAYGROUND_LATENT, SDXL_LATENT
from modules.checkpoints.files import scan
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.taesd import fitting_decoder, scan_taesd, taesd_for
from modules.diffusion.attention import sdpa
from modules.diffusion.samplers.relevance import relevant
from modules.diffusion.taesd import TinyDecoder, TinyEncoder
from modules.engine import runner as runners
from modules.engine.runner import Runner
from modules.errors import CheckpointError, RequestError
from modules.images.infotext import parse, request_fields
from modules.pipelines.generate import Painted, generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import Hires, Img2Img, Txt2Img, parse_request
from tests.engine.conftest import Bench
from tests.tiny import TINY_VAE, randomised, tiny_checkpoint, write

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def theirs() -> AutoencoderTiny:
    """With random weights at which signals keep their size."""
    network = AutoencoderTiny()
    randomised(network.encoder, 1)
    randomised(network.decoder, 2)
    return network.eval()


def flat(theirs: AutoencoderTiny, half: str, prefix: str = "") -> State:
    """Their weights under the published files' names."""
    shift = 1 if half == "decoder" else 0
    named = {}
    for name, tensor in getattr(theirs, half).state_dict().items():
        _, number, rest = name.split(".", 2)
        named[f"{prefix}{int(number) + shift}.{rest}"] = tensor
    return named


@pytest.fixture
def folder(tmp_path: Path, theirs: AutoencoderTiny, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose small autoencoder passes for the full-size one, and the two published files of TAESD."""
    monkeypatch.setattr(latent_space, "FULL_SIZE", TINY_VAE)
    models = tmp_path / "models"
    (models / "vae_approx").mkdir(parents=True)
    tiny_checkpoint(models / "tiny.safetensors")
    for half in ("decoder", "encoder"):
        write(models / "vae_approx" / f"taesd_{half}.safetensors", flat(theirs, half))
    return models


@pytest.fixture
def manager(folder: Path, tmp_path: Path) -> Iterator[ModelManager]:
    with torch.inference_mode():
        yield ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")


def painted(manager: ModelManager, **fields: Any) -> Painted:
    basics = {"prompt": "a cat", "seed": 5, "steps": 2, "width": 64, "height": 64, "checkpoint": "tiny", "sampler": "Euler"}
    return run_reference(generate(stages_of(parse_request({**basics, **fields}))), manager)


def test_both_halves_compute_what_diffusers_does(theirs: AutoencoderTiny) -> None:
    decoder, encoder = TinyDecoder(4), TinyEncoder(4)
    decoder.load_state_dict(flat(theirs, "decoder"))
    encoder.load_state_dict(flat(theirs, "encoder"))
    drawn = torch.Generator().manual_seed(3)
    latents, images = torch.randn(2, 4, 6, 9, generator=drawn) * 4, torch.rand(2, 3, 48, 72, generator=drawn) * 2 - 1
    with torch.inference_mode():
        pictures, wanted = decoder(latents) * 2 - 1, theirs.decode(latents).sample
        encoded, expected = encoder((images + 1) / 2), theirs.encode(images).latents
    assert (wanted.std() > 0.1, expected.std() > 0.1) == (True, True)
    assert torch.allclose(pictures, wanted, atol=1e-5)
    assert torch.allclose(encoded, expected, atol=1e-5)


def test_files_under_all_names_are_found_and_said_for_what_they_are(tmp_path: Path, theirs: AutoencoderTiny) -> None:
    tops = {name: tmp_path / name for name in ("vae_approx", "TAESD", "vae-approx")}
    for top in tops.values():
        top.mkdir()
    write(tops["vae_approx"] / "taesd_decoder.safetensors", flat(theirs, "decoder"))
    (tops["TAESD"] / "taesdxl").mkdir()
    state = {name: each.half() for name, each in theirs.state_dict().items() if name.startswith(("encoder.", "decoder."))}
    write(tops["TAESD"] / "taesdxl" / "diffusion_pytorch_model.safetensors", state)
    both = {**flat(theirs, "decoder", "taesd_decoder."), **flat(theirs, "encoder", "taesd_encoder.")}
    write(tops["vae-approx"] / "both.safetensors", {**both, "vae_scale": torch.ones(1)})
    found = {info.name: (info.latent, info.halves, info.problem) for info in scan_taesd([tmp_path])}
    assert found == {
        "taesd_decoder.safetensors": ("SD 1.x", ("decoder",), ""),
        "taesdxl/diffusion_pytorch_model.safetensors": ("SDXL", ("decoder", "encoder"), ""),
        "both.safetensors": ("SD 1.x", ("decoder", "encoder"), ""),
    }
    assert taesd_for([tmp_path], SDXL_LATENT, "encoder").path.parent.name == "taesdxl"
    assert taesd_for([tmp_path], SD1_LATENT, "encoder").name == "both.safetensors"
    assert scan([tmp_path]) == [], "none of them is a checkpoint"


def torn(state: Mapping[str, Tensor]) -> State:
    return {name: tensor for name, tensor in state.items() if name != "8.conv.2.bias"}


def test_what_is_none_is_named_and_what_is_missing_is_said_with_its_place(tmp_path: Path, theirs: AutoencoderTiny) -> None:
    top = tmp_path / "vae_approx"
    top.mkdir()
    with pytest.raises(
        RequestError, match=r"no decoder of it for SDXL is here; put taesdxl_decoder\.safetensors into the folder"
    ):
        taesd_for([tmp_path], SDXL_LATENT, "decoder")
    with pytest.raises(RequestError, match="there is none for this checkpoint's latents; choose Full"):
        taesd_for([tmp_path], PLAYGROUND_LATENT, "decoder")
    write(top / "torn.safetensors", torn(flat(theirs, "decoder")))
    write(top / "wide.safetensors", flat(AutoencoderTiny(latent_channels=32), "encoder"))
    write(top / "pooled.safetensors", {**flat(theirs, "encoder"), "3.pool.0.weight": torch.zeros(256, 64, 1, 1)})
    write(top / "other.safetensors", {"lora_down.weight": torch.zeros(2, 2)})
    (top / "text.safetensors").write_text("<html>not found</html>")
    (top / "cut.safetensors").write_bytes(write(tmp_path / "whole", flat(theirs, "decoder")).read_bytes()[:-100])
    said = {info.name.partition(".")[0]: info.problem for info in scan_taesd([tmp_path])}
    assert "torn.safetensors lacks the tensor '8.conv.2.bias' of its TAESD decoder" in said["torn"]
    assert "is a TAESD for latents of 32 channels, which no checkpoint has" in said["wide"]
    assert "is a TAESD of another form, with the tensor '3.pool.0.weight'" in said["pooled"]
    assert "other.safetensors is no TAESD" in said["other"]
    assert all(said[name].startswith(f"{name}.safetensors ") for name in ("text", "cut"))
    with pytest.raises(CheckpointError, match=r"TAESD was asked for, but .*\.safetensors "):
        taesd_for([tmp_path], SD1_LATENT, "decoder")
    assert fitting_decoder([tmp_path], SD1_LATENT) is None


def test_a_picture_is_decoded_by_taesd_and_says_so(folder: Path, manager: ModelManager, theirs: AutoencoderTiny) -> None:
    """To the rounding of diffusers' decoder on the same latent; again the same, and the same by its text."""
    latents: list[Tensor] = []
    plain = painted(manager)
    decode = theirs.decode
    request = {"vae_decoder": "TAESD"}
    first = painted(manager, **request)
    handle = manager.load("tiny", taesd=("decoder",))
    assert handle is manager.load("tiny", taesd=("decoder",))
    assert handle.network is manager.load("tiny"), "its evaluations are shared with pictures by the VAE"
    spied = type(handle.latent).decode

    def spy(space: Any, latent: Tensor) -> Tensor:
        latents.append(latent.clone())
        return spied(space, latent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(handle.latent), "decode", spy)
        again = painted(manager, **request)
    assert np.array_equal(again.pixels.numpy(), first.pixels.numpy())
    wanted = ((decode(latents[0]).sample[0].clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(int)
    assert np.abs(first.pixels.numpy().astype(int) - wanted).max() <= 1
    assert not np.array_equal(first.pixels.numpy(), plain.pixels.numpy())
    assert first.facts["TAESD"].startswith("taesd_decoder.safetensors (")
    assert "TAESD" not in plain.facts


def test_a_picture_from_a_picture_is_encoded_by_taesd(folder: Path, manager: ModelManager, theirs: AutoencoderTiny) -> None:
    given = Image.effect_noise((64, 64), 90).convert("RGB")
    fields = {"steps": 2, "seed": 1, "width": 64, "height": 64, "checkpoint": "tiny", "denoising_strength": 0.0}
    wanted = parse_request({**fields, "source": "0" * 64, "vae": "TAESD"})
    assert (wanted.vae, wanted.vae_decoder, wanted.vae_encoder) == ("Automatic", "TAESD", "TAESD")
    result = run_reference(generate(stages_of(wanted), {"init": given}), manager).pixels.numpy().astype(int)
    pixels = torch.from_numpy(np.asarray(given).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    through = theirs.decode(theirs.encode(pixels).latents).sample[0].clamp(-1, 1)
    assert np.abs(result - ((through + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(int)).max() <= 1


def test_both_kinds_share_evaluations_in_the_engine(folder: Path, manager: ModelManager) -> None:
    bench = Bench(manager)
    wanted: dict[str, dict[str, Any]] = {"a": {"prompt": "a cat"}, "b": {"prompt": "a dog", "vae_decoder": "TAESD"}}
    manager.load("tiny")
    for task, fields in wanted.items():
        bench.submit(task, user=task, **fields)
    bench.run()
    assert bench.engine.runner.forwards < 6, "some of their three steps each were shared"
    for task, fields in wanted.items():
        assert np.abs(bench.pixels(task) - bench.alone(**fields)).max() <= 1
    kinds = {call.work for call in bench.engine.costs.entries}
    assert {"decode", "decode by TAESD"} <= kinds, "what the one takes says nothing of the other"


def test_a_checkpoint_with_latents_of_its_own_is_refused(
    folder: Path, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with pytest.raises(RequestError, match="checkpoint 'tiny' has latents of its own that TAESD does not know; choose Full"):
        manager.load("tiny", taesd=("decoder",))
    assert manager.load("tiny").preview.component is None


def test_the_text_says_which_halves_were_taesd() -> None:
    assert (
        request_fields(parse("a cat\nSteps: 2, Sampler: Euler, Seed: 1, Size: 64x64, VAE Decoder: TAESD"))["vae_decoder"]
        == "TAESD"
    )
    both = {"vae_decoder": "TAESD", "vae_encoder": "TAESD"}
    assert relevant(Txt2Img(**both)).vae_encoder == "Full", "nothing is encoded"
    second = {"width": 128, "height": 128}
    assert relevant(Txt2Img(**both, hires=Hires(**second))).vae_encoder == "Full"
    assert relevant(Txt2Img(**both, hires=Hires(**second, upscaler="Lanczos"))).vae_encoder == "TAESD"
    assert relevant(Img2Img(**both, source="0" * 64)).vae_encoder == "TAESD"


# ---- previews


def shown(runner: Runner, model: Any, latent: Tensor) -> Tensor:
    pixels: Tensor = runner.preview(model, latent).result()
    return pixels


def test_previews_are_taesd_s_where_a_file_fits_and_it_is_quick(
    folder: Path, manager: ModelManager, theirs: AutoencoderTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "QUICK_DECODE", {"cpu": 0.5})
    model, runner = manager.load("tiny"), Runner()
    runner._tiny.clock = lambda: 0.0
    latent = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(4))
    wanted = ((theirs.decode(latent[None]).sample[0].clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0)
    assert (shown(runner, model, latent).float() - wanted).abs().max() <= 1
    runner._tiny._seconds[model, latent.shape] = [0.6]
    assert shown(runner, model, latent).shape == (8, 8, 3), "it took too long: the linear map"
    runner._tiny._per_position[model] = 0.5 / 63
    assert shown(runner, model, torch.zeros(4, 4, 16)).shape == (4, 16, 3), "it would take too long, by a part of it"
    assert shown(runner, model, torch.full((4, 4, 4), float("nan"))).shape == (32, 32, 3), "what is not finite is black"
    runner.forget(lambda handle: False)
    assert not runner._tiny._seconds
    (folder / "vae_approx" / "taesd_decoder.safetensors").unlink()
    assert manager.load("tiny").preview.component is None, "the next picture is previewed without it"


def test_a_preview_by_taesd_that_fails_is_a_linear_one(
    folder: Path, manager: ModelManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runners, "QUICK_DECODE", {"cpu": 0.5})
    model, runner = manager.load("tiny"), Runner()
    runner._tiny._per_position[model] = 0.0

    def failing(latents: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.preview, "pixels", failing)
    for _ in range(2):
        assert shown(runner, model, torch.zeros(4, 8, 8)).shape == (8, 8, 3)
    assert len(caplog.records) == 1, "tried and said once"


def test_a_torn_file_costs_previews_only(folder: Path, manager: ModelManager, theirs: AutoencoderTiny) -> None:
    write(folder / "vae_approx" / "taesd_decoder.safetensors", torn(flat(theirs, "decoder")))
    model = manager.load("tiny")
    assert model.preview.component is None
    assert painted(manager).pixels.shape == (64, 64, 3)
    with pytest.raises(CheckpointError, match=r"taesd_decoder\.safetensors lacks"):
        manager.load("tiny", taesd=("decoder",))
    assert manager.load("tiny") is model


def test_every_latent_that_files_are_named_for_belongs_to_a_family() -> None:
    from modules.checkpoints.taesd import FILE_NAMES

    assert set(FILE_NAMES) == {family.latent.preview for family in FAMILIES if family.latent.preview}
