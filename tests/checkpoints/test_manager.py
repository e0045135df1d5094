"""From file to model: right numbers without copies, clear refusals, and what stays loaded when."""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from modules.checkpoints import hashes, keys
from modules.checkpoints.builder import vae_dtype
from modules.checkpoints.files import scan
from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.header import open_model, read_header
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.weights import Filler
from modules.diffusion.attention import sdpa
from modules.diffusion.schedules.trained import TrainedSigmas
from modules.diffusion.unet import UNetConfig
from modules.errors import AtelierError, CheckpointError, UnknownName
from modules.prompts.chunks import chunk
from tests.checkpoints.corpus import BAD_CHECKPOINTS, BAD_HEADERS, NOT_CHECKPOINTS, NOT_SAFETENSORS
from tests.tiny import TINY_METADATA, TINY_TEXT, TINY_UNET, TINY_VAE, make_checkpoint, random_state, tiny_checkpoint, write

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path, tiny_file: Path) -> Path:
    (tmp_path / "models").mkdir()
    os.link(tiny_file, tmp_path / "models" / "tiny.safetensors")
    return tmp_path / "models"


@pytest.fixture
def make(folder: Path, tmp_path: Path) -> Callable[..., ModelManager]:
    return lambda dtype=torch.float32, keep=1: ModelManager([folder], CPU, dtype, sdpa, tmp_path / "hashes.json", keep)


def answer(model: ModelHandle, text: str = "a cat") -> Tensor:
    """Something that every part of the model has a share in."""
    with torch.inference_mode():
        windows = model.prompts.encoders.encode_chunks(chunk(text, model.prompts.encoders.tokenizer).windows)
        context = torch.cat([window.context for window in windows])[None].to(model.denoiser.dtype)
        x = torch.linspace(-1, 1, 4 * 8 * 8).view(1, 4, 8, 8)
        extra = model.denoiser.unet.config.in_channels - 4
        noisy = torch.cat([x, torch.ones(1, extra, 8, 8)], dim=1).to(model.denoiser.dtype)
        latent = model.denoiser.unet(noisy, torch.tensor([500.0]), context)
        return model.latent.vae.decode(latent.to(model.latent.dtype)).float()


def weights(model: ModelHandle) -> dict[str, Tensor]:
    parts = (
        (keys.UNET, model.denoiser.unet),
        (keys.VAE, model.latent.vae),
        (keys.TEXT + "text_model.", model.prompts.encoders.first.network),
    )
    return {prefix + name: tensor for prefix, part in parts for name, tensor in part.state_dict().items()}


def same_weights(one: ModelHandle, two: ModelHandle) -> bool:
    theirs = weights(two)
    return weights(one).keys() == theirs.keys() and all(torch.equal(t, theirs[name]) for name, t in weights(one).items())


def test_every_weight_is_the_files_own(make: Callable[..., ModelManager], folder: Path) -> None:
    model, stored = make().load("tiny"), load_file(folder / "tiny.safetensors")
    loaded = weights(model)
    assert stored.keys() - loaded.keys() == {keys.TEXT + "text_model.embeddings.position_ids"}
    assert all(torch.equal(tensor, stored[name]) for name, tensor in loaded.items())
    assert not any(
        p.requires_grad or p.is_meta
        for part in (model.denoiser.unet, model.latent.vae, model.prompts.encoders)
        for p in part.parameters()
    )
    assert not any(
        b.is_meta for part in (model.denoiser.unet, model.latent.vae, model.prompts.encoders) for b in part.buffers()
    )
    assert (model.info.name, model.family.name, model.noise.prediction.name) == ("tiny", "sd1", "eps")
    assert answer(model).shape == (1, 3, 64, 64)


def test_a_file_that_fits_is_not_copied(make: Callable[..., ModelManager], folder: Path) -> None:
    """Weights lie in memory as they lie in the file: one mapping, no copies."""
    model, header = make().load("tiny"), read_header(folder / "tiny.safetensors")
    places = {tensor.data_ptr() - header.tensors[name].start for name, tensor in weights(model).items()}
    assert len(places) == 1


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_other_number_formats_are_converted(stored: torch.dtype, make: Callable[..., ModelManager], folder: Path) -> None:
    make_checkpoint(folder / "other.safetensors", dtype=stored)
    model, exact = make().load("other"), load_file(folder / "other.safetensors")
    weight = model.denoiser.unet.state_dict()["input_blocks.0.0.weight"]
    assert weight.dtype == torch.float32
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(weight, exact[keys.UNET + "input_blocks.0.0.weight"].float())
    assert answer(model).isfinite().all()


def test_a_network_is_known_by_its_file_s_content(make: Callable[..., ModelManager], folder: Path) -> None:
    tiny_checkpoint(folder / "other.safetensors", seed=1)
    first, again, other = (make().load(name).denoiser.unet for name in ("tiny", "tiny", "other"))
    assert first.source == again.source != other.source
    assert (first.title, other.title) == ("tiny.safetensors", "other.safetensors")
    tiny_checkpoint(folder / "other.safetensors", seed=2)
    assert make().load("other").denoiser.unet.source != other.source


def test_bfloat16_is_for_unet_and_text_and_never_for_the_vae_of_a_cpu(make: Callable[..., ModelManager]) -> None:
    model = make(dtype=torch.bfloat16).load("tiny")
    assert {p.dtype for part in (model.denoiser.unet, model.prompts.encoders) for p in part.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.latent.vae.parameters()} == {torch.float32}
    exact = make().load("tiny")
    error = (answer(model) - answer(exact)).norm() / answer(exact).norm()
    assert 0 < error < 0.1


def test_the_vae_never_computes_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda", 0)
    for capability, expected in (((7, 5), torch.float32), ((8, 6), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, capability=capability: capability)
        assert vae_dtype(cuda, torch.float16) == expected
        assert vae_dtype(cuda, torch.float32) == torch.float32
    assert vae_dtype(CPU, torch.bfloat16) == torch.float32


@pytest.mark.parametrize(("channels", "family"), [(9, "sd1-inpaint"), (8, "sd1-edit")])
def test_files_with_more_input_channels_take_the_same_path(
    channels: int, family: str, make: Callable[..., ModelManager], folder: Path
) -> None:
    unet = UNetConfig(channels=(32, 64), res_blocks=1, transformer_depth=(0, 1), context_dim=32, in_channels=channels)
    make_checkpoint(folder / "more.safetensors", unet=unet)
    model = make().load("more")
    assert (model.family.name, model.info.family, model.denoiser.unet.config) == (family, family, unet)
    assert answer(model).isfinite().all()


def test_names_and_forms_of_the_wild_load_to_the_same_model(
    make: Callable[..., ModelManager], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Linear attention in the autoencoder under diffusers' names, no "text_model.", float position ids, remains of training."""
    wild: dict[str, Tensor] = {}
    for name, tensor in load_file(folder / "tiny.safetensors").items():
        if ".mid.attn_1." in name and tensor.dim() == 4:
            name, tensor = name.replace(".q.", ".to_q.").replace(".proj_out.", ".to_out.0."), tensor[:, :, 0, 0]
        wild[name.replace("text_model.", "")] = tensor.contiguous()
    wild[keys.TEXT + "embeddings.position_ids"] = torch.arange(77.0)[None]
    wild |= {name: torch.zeros(3) for name in ("alphas_cumprod", "model_ema.decay", "first_stage_model.loss.logvar")}
    save_file(wild, folder / "wild.safetensors")
    manager = make(keep=2)
    assert same_weights(manager.load("wild"), manager.load("tiny"))
    assert torch.allclose(answer(manager.load("wild")), answer(manager.load("tiny")), atol=1e-5)
    assert not caplog.records


PREFIXES: dict[str, Callable[[str], str]] = {
    "a pickled trainer": lambda name: f"state_dict.{name}",
    "parallel training": lambda name: f"module.{name}",
    "both": lambda name: f"state_dict.module.{name}",
    "ComfyUI's names": lambda name: name.replace(keys.UNET, "diffusion_model.").replace(
        keys.TEXT, "text_encoders.clip_l.transformer."
    ),
    "a VAE of its own": lambda name: name.replace(keys.VAE, "vae."),
}


@pytest.mark.parametrize("kind", PREFIXES)
def test_other_prefixes_are_found(
    kind: str, make: Callable[..., ModelManager], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = load_file(folder / "tiny.safetensors")
    save_file({PREFIXES[kind](name): tensor for name, tensor in state.items()}, folder / "wrapped.safetensors")
    manager = make(keep=2)
    assert same_weights(manager.load("wrapped"), manager.load("tiny"))
    assert not caplog.records


@pytest.mark.parametrize("prefix", ["diffusion_model.", "state_dict.model.diffusion_model."])
def test_a_network_alone_is_named_whatever_its_prefix(prefix: str, make: Callable[..., ModelManager], folder: Path) -> None:
    state = load_file(folder / "tiny.safetensors")
    unet = {prefix + name.removeprefix(keys.UNET): tensor for name, tensor in state.items() if name.startswith(keys.UNET)}
    save_file(unet, folder / "alone.safetensors")
    with pytest.raises(CheckpointError, match=r"^alone\.safetensors has no autoencoder \(VAE\): it is a U-Net alone"):
        make().load("alone")


def test_strange_tensors_are_named_in_a_warning(
    make: Callable[..., ModelManager], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = load_file(folder / "tiny.safetensors")
    save_file({**state, "stranger": torch.zeros(1), keys.UNET + "extra.bias": torch.zeros(1)}, folder / "a.safetensors")
    with caplog.at_level(logging.WARNING):
        make().load("a")
    text = caplog.text
    assert "a.safetensors: ignored the tensor 'stranger'" in text
    assert "ignored the tensor 'model.diffusion_model.extra.bias'" in text


def test_a_file_that_says_v_is_read_as_v_prediction(make: Callable[..., ModelManager], folder: Path) -> None:
    tiny_checkpoint(folder / "v.safetensors", metadata={**TINY_METADATA, "modelspec.prediction_type": "v"})
    assert make().load("v").noise.prediction.name == "v"


MARKED = {"v_pred": torch.empty(0), "ztsnr": torch.empty(0)}


@pytest.mark.parametrize(
    ("yaml", "marks", "metadata", "expected"),
    [
        ('model:\n  params:\n    parameterization: "v"\n', (), {}, ("v", False)),
        ("model:\n  params:\n    parameterization: v  # SD 2\n    zsnr: true\n", (), {}, ("v", True)),
        ("# parameterization: v\nmodel:\n  params: {}\n", (), {}, ("eps", False)),
        ("", ("v_pred",), {}, ("v", False)),
        ("", ("v_pred", "ztsnr"), {}, ("v", True)),
        ("", (), {"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"}, ("v", True)),
        ("", (), {"modelspec.prediction_type": "epsilon"}, ("eps", False)),
        ("parameterization: eps\n", ("v_pred",), {}, ("eps", False)),
    ],
)
def test_v_prediction_and_zero_terminal_snr_are_read_from_yaml_marks_and_metadata(
    make: Callable[..., ModelManager], folder: Path, yaml: str, marks: tuple[str, ...], metadata: dict[str, str], expected: Any
) -> None:
    path = folder / "trained.v2.safetensors"
    write(path, {**random_state(TINY_UNET, TINY_VAE, TINY_TEXT), **{name: MARKED[name] for name in marks}}, metadata)
    if yaml:
        (folder / "trained.v2.yaml").write_text(yaml)
    model = make().load("trained.v2")
    assert (model.noise.prediction.name, model.noise.zero_snr) == expected
    said = {"prediction": expected[0] == "v", "zero terminal SNR": expected[1]}
    assert set(model.noise.facts) == {fact for fact, holds in said.items() if holds}
    assert model.noise.trained.sigma_max == pytest.approx(4518.8 if expected[1] else 14.6146, rel=1e-4)


def test_a_yaml_that_is_put_beside_a_loaded_file_counts(make: Callable[..., ModelManager], folder: Path) -> None:
    tiny_checkpoint(folder / "a.safetensors")
    manager = make()
    assert manager.load("a").noise.prediction.name == "eps"
    (folder / "a.yaml").write_text("parameterization: v\n")
    assert manager.load("a").noise.prediction.name == "v"


def test_a_request_may_read_a_model_otherwise(make: Callable[..., ModelManager], folder: Path) -> None:
    tiny_checkpoint(folder / "a.safetensors")
    model = make().load("a")
    assert model.run_as() is model.run_as("eps") is model
    other = model.run_as("v", zero_snr=True)
    assert (other.noise.prediction.name, other.noise.zero_snr, other.denoiser.unet) == ("v", True, model.denoiser.unet)
    assert other.noise.trained.sigma_max > 4000
    assert other is model.run_as("v", zero_snr=True), "one handle, so that requests share forwards"
    assert other.run_as("v", zero_snr=True) is other, "what is stretched is not stretched again"


@pytest.mark.parametrize("prediction", ["Automatic", "eps"])
def test_a_request_may_ignore_the_file_s_zero_terminal_snr(
    make: Callable[..., ModelManager], folder: Path, prediction: str
) -> None:
    write(folder / "a.safetensors", {**random_state(TINY_UNET, TINY_VAE, TINY_TEXT), **MARKED})
    model = make().load("a")
    assert model.noise.zero_snr
    other = model.run_as(prediction, ignore_zero_snr=True)
    assert (other.noise.prediction.name, other.noise.zero_snr) == ("v" if prediction == "Automatic" else "eps", False)
    assert other.noise.trained == TrainedSigmas.scaled_linear()
    assert "zero terminal SNR" not in other.noise.facts
    assert other is model.run_as(prediction, ignore_zero_snr=True), "one handle, so that requests share forwards"
    assert model.run_as(zero_snr=True, ignore_zero_snr=True) is model, "what the request asks for itself counts"
    tiny_checkpoint(folder / "plain.safetensors")
    plain = make().load("plain")
    assert plain.run_as(ignore_zero_snr=True) is plain


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"model:\n  params:\n\t  parameterization: v\n", "is no YAML (line 3)"),
        (b'parameterization: "v\nmodel: [1, 2', "is no YAML"),
        (b"\x80\x81parameterization", "is no text in UTF-8"),
        (b"", "has no settings in it"),
        (b"<!DOCTYPE html>", "has no settings in it"),
        (b"- parameterization\n", "has no settings in it"),
        (b"parameterization: v3\n", "says parameterization 'v3', which is neither v nor eps"),
        (b"a: b\n" * 60_000, "is longer than 256 kB"),
        (b"[" * 3000, "is no"),
    ],
)
def test_a_damaged_yaml_is_reported_and_does_not_stop_the_checkpoint(
    make: Callable[..., ModelManager], folder: Path, caplog: pytest.LogCaptureFixture, content: bytes, said: str
) -> None:
    tiny_checkpoint(folder / "a.safetensors")
    manager = make()
    assert manager.load("a").noise.facts == {}
    assert scan([folder])[0].note == ""
    (folder / "a.yaml").write_bytes(content)
    info = scan([folder])[0]
    assert (info.problem, info.note.startswith("a.yaml ")) == ("", True)
    assert said in info.note
    with caplog.at_level("WARNING"):
        manager.load("a")
    assert [info.note in record.getMessage() for record in caplog.records] == [True]
    (folder / "a.yaml").write_text('model:\n  params:\n    parameterization: "v"  # of SD 2.x\n')
    assert scan([folder])[0].note == ""
    (folder / "a.yaml").unlink()
    (folder / "a.yaml").mkdir()
    assert "cannot be read" in scan([folder])[0].note


def test_tensors_at_odd_places_are_read(make: Callable[..., ModelManager], folder: Path) -> None:
    """The format promises no alignment: here every float begins at an odd byte."""
    whole = (folder / "tiny.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    odd = whole[8 : 8 + length] + b" " * (1 + length % 2)
    (folder / "odd.safetensors").write_bytes(len(odd).to_bytes(8, "little") + odd + whole[8 + length :])
    assert (8 + len(odd)) % 4 != 0
    manager = make(keep=2)
    assert same_weights(manager.load("odd"), manager.load("tiny"))
    assert torch.allclose(answer(manager.load("odd")), answer(manager.load("tiny")), atol=1e-5)


# ---- refusals


@pytest.mark.parametrize("kind", {**NOT_SAFETENSORS, **BAD_HEADERS, **NOT_CHECKPOINTS, **BAD_CHECKPOINTS})
def test_a_bad_file_is_refused_and_the_loaded_model_stays(
    kind: str, make: Callable[..., ModelManager], folder: Path, tiny_file: Path
) -> None:
    write, message = {**NOT_SAFETENSORS, **BAD_HEADERS, **NOT_CHECKPOINTS, **BAD_CHECKPOINTS}[kind]
    manager = make()
    good = manager.load("tiny")
    write(folder / "bad.safetensors", tiny_file)
    with pytest.raises(CheckpointError) as caught:
        manager.load("bad")
    assert message in str(caught.value)
    assert str(caught.value).startswith("bad.safetensors")
    assert caught.value.__cause__ is None
    assert manager.load("tiny") is good
    assert manager.holds(good)


def test_an_unknown_name_is_refused_with_what_is_there(make: Callable[..., ModelManager]) -> None:
    with pytest.raises(UnknownName, match=r"checkpoint 'tinny' is not here.*did you mean 'tiny'"):
        make().load("tinny")
    with pytest.raises(UnknownName):
        make().is_loaded("tinny")


def test_a_file_that_changes_while_it_is_read_is_refused(
    make: Callable[..., ModelManager], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "late.safetensors"
    tiny_checkpoint(path)

    opened: list[Path] = []

    def late(of: Path) -> Any:
        opened.append(of)
        if len(opened) == 2:  # the first time its header was read, to list it
            tiny_checkpoint(of, seed=3)
            os.utime(of, ns=(1, 1))
        return open_model(of)

    monkeypatch.setattr("modules.checkpoints.sources.open_model", late)
    with pytest.raises(CheckpointError, match=r"^late\.safetensors changed while it was read"):
        make().load("late")


def test_a_file_that_is_written_to_while_its_weights_are_read_is_refused_and_nothing_of_it_stays(
    make: Callable[..., ModelManager], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, manager = folder / "grows.safetensors", make()
    tiny_checkpoint(path)
    kept = manager.load("tiny")
    fill, written = Filler.__call__, list[str]()

    def overwritten(self: Filler, network: Any, names: Any, dtype: Any, part: str) -> None:
        fill(self, network, names, dtype, part)
        if not written:  # in place, behind the U-Net and before the rest
            written.append(part)
            with path.open("r+b") as file:
                file.seek(-4, 2)
                file.write(b"\1\2\3\4")
            os.utime(path, ns=(1, 1))

    monkeypatch.setattr(Filler, "__call__", overwritten)
    with pytest.raises(CheckpointError, match=r"^grows\.safetensors changed while it was read; wait until it is complete"):
        manager.load("grows")
    assert manager.cache.components == kept.components
    monkeypatch.undo()
    assert manager.load("grows").info.name == "grows", "as it is now"


def test_a_file_that_another_is_renamed_over_while_it_is_read_is_read_to_its_end(
    make: Callable[..., ModelManager], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, manager = folder / "moved.safetensors", make()
    tiny_checkpoint(path)
    wanted = load_file(path)
    fill = Filler.__call__

    def replaced(self: Filler, network: Any, names: Any, dtype: Any, part: str) -> None:
        tiny_checkpoint(folder / "new.part", seed=4)
        os.replace(folder / "new.part", path)
        fill(self, network, names, dtype, part)

    monkeypatch.setattr(Filler, "__call__", replaced)
    old = manager.load("moved")
    monkeypatch.undo()
    name = "model.diffusion_model.out.2.bias"
    assert torch.equal(old.denoiser.unet.out[2].bias, wanted[name])
    assert torch.equal(manager.load("moved").denoiser.unet.out[2].bias, load_file(path)[name]), "the new one is another model"


def test_a_model_works_before_its_hash_is_known(
    make: Callable[..., ModelManager], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, go_on = hashes.file_sha256, threading.Event()

    def slowly(path: Path, cache: Path) -> str:
        go_on.wait(30)
        return read(path, cache)

    monkeypatch.setattr("modules.checkpoints.hashes.file_sha256", slowly)
    monkeypatch.setattr("modules.checkpoints.hashes.AT_ONCE", 0)
    model = make().load("tiny")
    assert answer(model).isfinite().all()
    assert not model.hash.ready
    go_on.set()
    assert model.hash.value() == hashlib.sha256((folder / "tiny.safetensors").read_bytes()).hexdigest()


def test_a_file_that_is_replaced_while_it_is_hashed_has_no_hash(
    make: Callable[..., ModelManager], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = hashes.file_sha256

    def replaced(path: Path, cache: Path) -> str:
        tiny_checkpoint(folder / "new.part", seed=1)
        (folder / "new.part").replace(path)
        return read(path, cache)

    monkeypatch.setattr("modules.checkpoints.hashes.file_sha256", replaced)
    model = make().load("tiny")
    assert model.hash.value() == ""
    assert answer(model).isfinite().all()


# ---- what stays loaded


def test_the_same_file_is_loaded_once_and_the_least_recently_used_goes(make: Callable[..., ModelManager], folder: Path) -> None:
    for name in ("b", "c"):
        tiny_checkpoint(folder / f"{name}.safetensors", seed=5)
    manager = make(keep=2)
    tiny, b = manager.load("tiny"), manager.load("b")
    assert manager.load("TINY") is tiny
    c = manager.load("c")
    assert [manager.holds(model) for model in (tiny, b, c)] == [True, False, True]
    assert [manager.is_loaded(name) for name in ("tiny", "b", "c")] == [True, False, True]
    gone = weakref.ref(b)
    del b
    gc.collect()
    assert gone() is None, "nothing of ours keeps an evicted model alive"


def test_a_deleted_file_goes_on_working(make: Callable[..., ModelManager], folder: Path) -> None:
    manager = make()
    model = manager.load("tiny")
    (folder / "tiny.safetensors").unlink()
    assert manager.load("tiny") is model
    assert manager.is_loaded("tiny")
    assert answer(model).isfinite().all()
    with pytest.raises(UnknownName):
        make().load("tiny")


def test_a_replaced_file_is_a_new_model_and_the_old_one_goes_on_working(
    make: Callable[..., ModelManager], folder: Path
) -> None:
    manager = make()
    old = manager.load("tiny")
    tiny_checkpoint(folder / "new.part", seed=1)
    (folder / "new.part").replace(folder / "tiny.safetensors")
    assert not manager.is_loaded("tiny")
    new = manager.load("tiny")
    before, after = answer(old), answer(new)
    assert old.hash.value() != new.hash.value()
    assert not torch.allclose(before, after)
    assert torch.equal(answer(old), before)


def test_many_threads_get_one_model(make: Callable[..., ModelManager]) -> None:
    manager, handles, gate = make(), [], threading.Barrier(6)

    def load() -> None:
        gate.wait()
        handles.append(manager.load("tiny"))

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(handles) == 6
    assert len(set(handles)) == 1


def test_a_full_device_lets_go_of_the_rest_and_tries_again(
    make: Callable[..., ModelManager], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_checkpoint(folder / "b.safetensors", seed=5)
    manager = make()
    first = weakref.ref(manager.load("tiny"))
    build, full = manager.builder.build, [True]

    def build_when_free(*args: object) -> ModelHandle:
        gc.collect()
        if first() is not None or full[0] == "always":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return build(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(manager.builder, "build", build_when_free)
    assert manager.holds(manager.load("b"))
    full[0] = "always"
    with pytest.raises(AtelierError, match="cpu has not enough free memory for checkpoint 'tiny'"):
        manager.load("tiny")


def test_the_preview_of_an_unusual_autoencoder_is_fitted_to_it(make: Callable[..., ModelManager]) -> None:
    model = make().load("tiny")
    latent = torch.linspace(-1, 1, 4 * 8 * 8).view(4, 8, 8)
    preview = model.latent.linear_preview(latent)
    assert (preview.shape, preview.dtype) == ((8, 8, 3), torch.uint8)
    assert model.latent.linear_preview is model.latent.linear_preview


def test_the_starter_loads(tmp_path: Path) -> None:
    """The checkpoint that ships: settings for the form, and finite pictures of its native size."""
    models = Path(__file__).parents[2] / "models"
    manager = ModelManager([models], CPU, torch.float32, sdpa, tmp_path / "hashes.json")
    model = manager.load("atelier-starter")
    side = model.info.defaults.width // model.latent.factor
    assert model.info.prompts
    assert model.info.motifs
    with torch.inference_mode():
        picture = model.latent.vae.decode(torch.zeros(1, 4, side, side))
    assert picture.shape[2:] == (model.info.defaults.height, model.info.defaults.width)
    assert picture.isfinite().all()


def test_tiny_checkpoints_depend_on_their_seed_alone(tmp_path: Path) -> None:
    one, two, other = (
        tiny_checkpoint(tmp_path / f"{i}.safetensors", seed=seed).read_bytes() for i, seed in enumerate((0, 0, 1))
    )
    assert one == two != other
    assert (TINY_UNET.context_dim, TINY_VAE.downsampling) == (TINY_TEXT.width, 8)
