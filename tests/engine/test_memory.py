"""Memory that runs out: every step of the ladder, in its order, said to the user, and the picture the same.

The device is pretended: it holds so many values, refuses what asks for more, and counts what is refused.
"""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from modules.checkpoints.builder import Builder
from modules.checkpoints.cache import Component
from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.residence import Residence, Storage, part_of
from modules.diffusion import placement
from modules.diffusion.attention import sdpa
from modules.diffusion.tiles import Tiling
from modules.diffusion.unet import UNet
from modules.engine import memory
from modules.engine.budgets import RECOVERY
from modules.engine.memory import MemoryLadder, means_for, out_of_memory
from modules.engine.streams import Pending
from modules.errors import OutOfMemory
from modules.pipelines.ops import Decode, EncodeImage, Predict
from tests import joint
from tests.diffusion.test_eight_bits import rounded
from tests.engine.conftest import Bench
from tests.engine.test_loras import changes, lora_file
from tests.gguf_files import write_gguf
from tests.tiny import tiny_checkpoint


@pytest.fixture(autouse=True)
def main_memory_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny networks are streamed, and on a CPU too."""
    monkeypatch.setattr(placement, "SMALL", 1)
    monkeypatch.setattr(memory, "streaming_helps", lambda device: True)
    monkeypatch.setattr(memory, "_TILES", tuple(_smaller(means) for means in memory._TILES))


def _smaller(means: memory.Means) -> memory.Means:
    """The same with tiles that are small beside a picture of 64x64."""
    if means.tiling is None:
        return means
    return memory.Means(means.rows, means.slice_bytes, Tiling(means.tiling.side // 16, means.tiling.on_host))


@dataclass
class Device:
    """What the ladder's calls find: `fits` says of a call whether memory is enough."""

    ladder: MemoryLadder
    fits: Callable[[Any], bool]
    tried: list[Any] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        call = self.ladder.call

        def limited(ops: Any) -> Any:
            self.tried.append(seen := _seen(ops[0]))
            if not self.fits(seen):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return call(ops)

        self.ladder.call = limited
        self.ladder.say = lambda op, sentence: self.said.append(sentence)


def _seen(op: Any) -> tuple[int, bool, Any, tuple[str, ...]]:
    """Rows, sliced or not, tiling, and the parts that are streamed."""
    rows = len(op.rows) if isinstance(op, Predict) else 0
    streamed = tuple(
        part.key[-1]
        for part in op.model.components
        if part.placement is not None and part.placement.streamed  # type: ignore[index]
    )
    return rows, bool(op.model.attend.slice_bytes), getattr(op.model.latent, "tiling", None), streamed


@pytest.fixture
def model(manager: ModelManager) -> ModelHandle:
    return manager.load("tiny")


@pytest.fixture
def predict(model: ModelHandle, bench: Bench) -> Predict:
    """The step of a picture with two sides of AND: three rows."""
    bench.submit("a", prompt="a cat AND a dog", negative_prompt="grey")
    bench.run(until=lambda: isinstance(bench.engine.tasks["a"].op, Predict))
    op = bench.engine.tasks["a"].op
    assert isinstance(op, Predict)
    assert len(op.rows) == 3
    return op


def there(answer: Any) -> Any:
    """An answer that has come to the host."""
    return answer.result() if isinstance(answer, Pending) else answer


def ladder(bench: Bench) -> MemoryLadder:
    return bench.engine.runner.memory


@torch.inference_mode()
def test_a_forward_goes_down_the_ladder_in_its_order(bench: Bench, predict: Predict) -> None:
    whole = bench.engine.runner.run([predict])[0]
    device = Device(ladder(bench), lambda seen: seen[3] == ("unet", "vae", "text") and seen[0] == 1)
    answers = device.ladder.run(predict)
    down = [(3, False), (2, False), (1, False), (1, True)]
    assert [seen[:2] for seen in device.tried[:-3]] == [*down, *down, down[0], down[1]]
    assert [seen[3] for seen in device.tried[:10]] == [()] * 4 + [("vae", "text")] * 4 + [("unet", "vae", "text")] * 2
    assert [seen[0] for seen in device.tried[-3:]] == [1, 1, 1]
    for answer, wanted in zip(answers, whole, strict=True):
        assert torch.allclose(answer.x0, wanted.x0, atol=1e-3)
    assert device.said == [
        "memory ran short: the rows of a step were evaluated one by one",
        "memory ran short: the U-Net's weights were streamed from main memory",
    ]


@torch.inference_mode()
def test_attention_in_slices_is_enough_where_only_scores_are_too_large(bench: Bench, predict: Predict) -> None:
    whole = bench.engine.runner.run([predict])[0]
    device = Device(ladder(bench), lambda seen: seen[1])
    for answer, wanted in zip(device.ladder.run(predict), whole, strict=True):
        assert torch.allclose(answer.x0, wanted.x0, atol=1e-3)
    assert "memory ran short: attention was computed in slices" in device.said
    assert not predict.model.attend.slice_bytes, "it is as before behind the call"  # type: ignore[union-attr]


@torch.inference_mode()
@pytest.mark.parametrize("enough", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["decode", "encode"])
def test_an_autoencoder_falls_back_to_smaller_and_smaller_tiles(
    bench: Bench, model: ModelHandle, kind: str, enough: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    op = (
        Decode(model, torch.randn(4, 9, 7, generator=generator))
        if kind == "decode"
        else EncodeImage(model, torch.rand(3, 72, 56, generator=generator) * 2 - 1)
    )
    whole = there(bench.engine.runner.run([op])[0])
    wanted = means_for(op)[enough]
    device = Device(ladder(bench), lambda seen: seen[2] == wanted.tiling)
    answer = there(device.ladder.run(op))
    assert [seen[2] for seen in device.tried] == [means.tiling for means in means_for(op)[: enough + 1]]
    assert (answer.float() - whole.float()).abs().max() <= (1 if kind == "decode" else 1e-3)
    through = " through main memory" if enough > 1 else ""
    side = wanted.tiling.side  # type: ignore[union-attr]
    assert device.said[0] == f"memory ran short: {kind}d in tiles of {side}x{side} pixels{through}"


@torch.inference_mode()
def test_nothing_of_a_failed_attempt_is_alive_during_the_next(bench: Bench, predict: Predict) -> None:
    held: list[weakref.ref[Tensor]] = []
    call = ladder(bench).call

    def heavy(ops: Any) -> Any:
        assert not any(reference() is not None for reference in held)
        activations = torch.zeros(64)
        held.append(weakref.ref(activations))
        if len(ops[0].rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return call(ops)

    ladder(bench).call = heavy
    ladder(bench).run(predict)
    assert len(held) == 2 + 3


@torch.inference_mode()
def test_what_worked_is_where_the_next_one_begins_and_is_taken_back_after_a_while(bench: Bench, model: ModelHandle) -> None:
    op = Decode(model, torch.zeros(4, 8, 8))
    device = Device(ladder(bench), lambda seen: seen[2] is not None)
    device.ladder.run(op)
    assert device.ladder.remembers(op)
    assert not device.ladder.remembers(Decode(model, torch.zeros(4, 8, 7))), "another size"
    device.tried.clear()
    for _ in range(RECOVERY - 1):
        bench.engine.runner.run([op])
    assert {seen[2] for seen in device.tried} == {means_for(op)[1].tiling}, "none of them was tried whole"
    device.tried.clear()
    bench.engine.runner.run([op])
    assert [seen[2] for seen in device.tried] == [None, means_for(op)[1].tiling], "a step back, in vain"
    for _ in range(2 * RECOVERY - 1):
        bench.engine.runner.run([op])
    device.tried.clear()
    device.fits = lambda seen: True
    bench.engine.runner.run([op])
    assert [seen[2] for seen in device.tried] == [None]
    assert not device.ladder.remembers(op)


@torch.inference_mode()
def test_streamed_weights_settle_again_where_they_fit(bench: Bench, predict: Predict) -> None:
    device = Device(ladder(bench), lambda seen: "unet" in seen[3])
    device.ladder.run(predict)
    placements = {part.key[-1]: part.placement for part in predict.model.components}  # type: ignore[index]
    assert all(place is not None and place.streamed for place in placements.values())
    device.fits = lambda seen: True
    seen = []
    for _ in range(8 * RECOVERY):
        bench.engine.runner.run([predict])
        seen.append(tuple(name for name, place in placements.items() if place is not None and place.streamed))
    assert list(dict.fromkeys(seen)) == [("unet", "vae", "text"), ("vae", "text"), ("text",), ()], "its own first"


@torch.inference_mode()
def test_other_models_that_nobody_uses_go_first(tiny_models: Path, tmp_path: Path) -> None:
    tiny_checkpoint(other := tiny_models / "other.safetensors", seed=5)
    try:
        manager = ModelManager([tiny_models], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json", keep=2)
        bench = Bench(manager)
        unused = weakref.ref(manager.load("other"))
        op = Decode(manager.load("tiny"), torch.zeros(4, 8, 8))
        call = bench.engine.runner._run

        def while_both(ops: Any) -> Any:
            gc.collect()
            if unused() is not None:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return call(ops)

        bench.engine.runner._run = while_both  # type: ignore[method-assign]
        bench.engine.runner.memory.call = while_both
        answer = there(bench.engine.runner.run([op])[0])
        assert isinstance(answer, Tensor)
        assert not bench.engine.runner.memory.remembers(op), "that was enough"
        assert manager.holds(op.model)
    finally:
        other.unlink()


def test_where_nothing_helps_the_error_says_what_to_do(bench: Bench, predict: Predict) -> None:
    device = Device(ladder(bench), lambda seen: False)
    large = replace(predict, rows=tuple(replace(row, x=torch.zeros(4, 64, 48)) for row in predict.rows))
    error = device.ladder.run(large)
    assert isinstance(error, OutOfMemory)
    assert "a picture of 384x512 pixels needs more memory than there is" in str(error)
    assert "cpu has not enough memory" in str(error)
    assert "choose a smaller size (at most 256x384), or close other programs" in str(error)
    assert len(device.tried) == 3 * 4, "every step, once for each thing that could be streamed"


def test_an_error_of_another_kind_is_the_answer_as_it_is(bench: Bench, predict: Predict) -> None:
    def broken(ops: Any) -> Any:
        raise ZeroDivisionError("no")

    ladder(bench).call = broken
    assert isinstance(ladder(bench).run(predict), ZeroDivisionError)
    assert not ladder(bench).remembers(predict)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("not enough memory of mine"), False),
    ],
)
def test_the_ways_in_which_libraries_say_that_memory_ran_out(error: Exception, full: bool) -> None:
    assert out_of_memory(error) is full


# ---- whole pictures, on a device that counts


class Small(TorchDispatchMode):
    """Refuses operations whose result has more than `limit` values; the weights' own are none."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.refused = limit, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.__name__
        if isinstance(out, Tensor) and "conv" in name and out.numel() > self.limit:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return out


@pytest.mark.parametrize("limit", [80_000, 12_000, 5_000])
def test_a_picture_on_a_small_device_is_the_same_and_says_how_it_was_painted(
    bench: Bench, limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    """64x64 pixels decode to 131,072 values on the finest level; a forward of two rows has 8,192 at most."""
    with Small(limit) as device, caplog.at_level(logging.WARNING):
        bench.submit("a", negative_prompt="grey")
        bench.run()
    assert not bench.of("failed")
    assert device.refused
    assert np.abs(bench.pixels("a") - bench.alone(negative_prompt="grey")).max() <= 1
    notes = bench.of("done")["a"].data["facts"]["notes"]
    assert "memory ran short: decoded in tiles of" in notes
    assert ("memory ran short: the rows of a step were evaluated one by one" in notes) == (limit < 8192)
    assert sum("decoded in tiles" in record.getMessage() for record in caplog.records) == 1, "logged once"


def test_a_picture_of_streamed_weights_says_so_and_another_does_not(bench: Bench) -> None:
    for component in bench.manager.load("tiny").components:
        assert component.placement is not None
        component.placement.stream()
    bench.submit("a")
    bench.submit("b", seed=2)
    bench.run()
    assert np.abs(bench.pixels("a") - bench.alone()).max() <= 1
    for task in ("a", "b"):
        for title in ("U-Net's", "VAE's", "text encoder's"):
            assert f"the {title} weights were streamed from main memory" in bench.of("done")[task].data["facts"]["notes"]
    for component in bench.manager.load("tiny").components:
        assert component.placement is not None
        component.placement.settle()
    bench.submit("c")
    bench.run()
    assert "notes" not in bench.of("done")["c"].data["facts"]


def test_adapters_taps_and_sides_of_and_survive_every_step(tmp_path: Path) -> None:
    """Rows of one op are independent: what each asks of the layers goes with it, whatever runs beside it and from where."""
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    lora_file(tmp_path / "loras" / "ink.safetensors", changes(1))
    bench = Bench(ModelManager([tmp_path], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json"))
    asked = {"prompt": "a cat <lora:ink:0.5:0.8> AND a dog", "negative_prompt": "grey", "pag_scale": 3.0, "sag_scale": 0.7}
    wanted = bench.alone(**asked)
    assert np.abs(wanted - bench.alone(**asked | {"pag_scale": 0.0})).max() > 2, "the test can fail"
    run = bench.engine.runner._run

    def limited(ops: Any) -> Any:
        rows, in_slices, _, streamed = _seen(ops[0])
        if rows and not ("unet" in streamed and in_slices):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(ops)

    bench.engine.runner._run = limited  # type: ignore[method-assign]
    bench.submit("a", **asked)
    bench.run()
    assert not bench.of("failed")
    assert np.abs(bench.pixels("a") - wanted).max() <= 1
    notes = bench.of("done")["a"].data["facts"]["notes"]
    for step in ("one by one", "attention was computed in slices", "the U-Net's weights were streamed"):
        assert step in notes


def test_pictures_share_forwards_while_weights_are_streamed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What brings most where each forward fetches all weights."""
    monkeypatch.setattr("modules.engine.engine.QUICK_SECONDS", 30.0)  # however slow tokenising is, they begin together
    for component in bench.manager.load("tiny").components:
        assert component.placement is not None
        component.placement.stream()
    for index in range(3):
        bench.submit(str(index), seed=index)
    bench.run()
    assert bench.engine.runner.forwards < bench.engine.runner.rows / 4


# ---- a model that does not fit when it is loaded


@dataclass
class Card:
    """A device of `room` bytes on which networks lie; streamed ones take nothing of it.  `tried` are the ways that models were
    held in, with the bytes that lay there in the end, None where that was too much."""

    room: int
    tried: list[tuple[Residence, int | None]] = field(default_factory=list)

    def check(self, residence: Residence, components: Sequence[Component]) -> None:
        taken = sum(self.taken(component) for component in components)
        self.tried.append((residence, taken if taken <= self.room else None))
        if taken > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    @staticmethod
    def taken(component: Component) -> int:
        placement = component.placement
        return 0 if placement is not None and placement.streamed else component.size

    @property
    def ways(self) -> list[tuple[str, bool, bool]]:
        return [(each.streamed, each.eight_bits, taken is not None) for each, taken in self.tried]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """Models are put on a card, as if main memory were another one."""
    card, build = Card(10**12), Builder.build

    def placed(self: Builder, info: Any, identity: Any, residence: Residence | None = None) -> ModelHandle:
        handle = build(self, info, identity, residence)
        card.check(residence or Residence(), handle.components)
        return handle

    monkeypatch.setattr(Builder, "build", placed)
    monkeypatch.setattr("modules.checkpoints.manager.streaming_helps", lambda device: True)
    return card


def made(models: Path, cache: Path, storage: Storage = "auto") -> Bench:
    manager = ModelManager([models], torch.device("cpu"), torch.float32, sdpa, cache / "hashes.json", storage=storage)
    return Bench(manager)


def sizes(model: ModelHandle) -> dict[str, int]:
    return {part_of(component): component.size for component in model.components}


def test_a_model_that_does_not_fit_is_held_in_less_and_less_of_the_device(
    tiny_models: Path, tmp_path: Path, card: Card
) -> None:
    """First the networks beside the denoiser leave the device, then the denoiser is kept in 8 bits, then it is streamed too."""
    whole = sizes(made(tiny_models, tmp_path).manager.load("tiny"))
    eight = sizes(made(tiny_models, tmp_path, "fp8").manager.load("tiny"))["unet"]
    assert eight < whole["unet"] / 3
    down = [("nothing", False), ("nothing", False), ("others", False), ("others", True), ("everything", False)]
    for room, tries in ((sum(whole.values()), 1), (whole["unet"], 3), (eight, 4), (eight - 1, 5)):
        card.room = room
        card.tried.clear()
        bench = made(tiny_models, tmp_path)
        bench.submit("a", steps=2)
        bench.run()
        done = bench.of("done")["a"].data["facts"]
        assert card.ways == [(*way, number == tries - 1) for number, way in enumerate(down[:tries])]
        notes = done.get("notes", "")
        assert ("the VAE's weights were streamed" in notes) == ("the text encoder's weights were" in notes) == (tries > 1)
        assert ("the U-Net's weights were kept in 8 bits" in notes) == (tries == 4)
        assert ("the U-Net's weights were streamed" in notes) == (tries == 5)
        assert (done.get("weights") == "float8_e4m3fn") == (tries == 4)
        if tries != 4:
            assert np.abs(bench.pixels("a") - bench.alone(steps=2)).max() <= 1


def test_a_quantised_model_is_streamed_as_its_file_has_it_and_never_rounded_again(tmp_path: Path, card: Card) -> None:
    """Its text encoders leave the device first, with the buffers that they are streamed through; the picture is the same."""
    models = tmp_path / "models"
    joint.split(models, joint.FLUX).unlink()
    weights = joint.state_of(joint.transformer(joint.FLUX), "", 1)
    forms = {name: "Q4_0" if each.dim() == 2 and each.shape[1] % 32 == 0 else "F32" for name, each in weights.items()}
    write_gguf(models / "flux.gguf", {name: (each.numpy(), forms[name]) for name, each in weights.items()})
    fields = {"checkpoint": "flux", "sampler": "Euler", "schedule": "Simple", "steps": 2, "cfg_scale": 1.0}
    whole = sizes(made(models, tmp_path).manager.load("flux"))
    down, pictures = ["nothing", "nothing", "others", "everything"], []
    for room, tries in ((sum(whole.values()), 1), (whole["unet"], 3), (whole["unet"] - 1, 4)):
        card.room = room
        card.tried.clear()
        bench = made(models, tmp_path)
        bench.submit("a", **fields)
        bench.run()
        done = bench.of("done")["a"].data["facts"]
        assert card.ways == [(way, False, number == tries - 1) for number, way in enumerate(down[:tries])]
        assert "weights" not in done
        assert ("the U-Net's weights were streamed" in done.get("notes", "")) == (tries == 4)
        assert "8 bits" not in done.get("notes", "")
        pictures.append(bench.pixels("a"))
    assert np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(pictures[0], pictures[2])


@torch.inference_mode()
def test_buffers_of_streamed_networks_that_do_not_run_go_first(
    bench: Bench, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []
    for component in predict.model.components:
        assert component.placement is not None
        component.placement.stream()
        monkeypatch.setattr(component.placement, "let_go_of_buffers", partial(gone.append, part_of(component)))
    device = Device(ladder(bench), lambda seen: sorted(gone) == ["text", "vae"])
    assert len(there(device.ladder.run(predict))) == 3
    assert len(device.tried) == 1
    assert sorted(gone) == ["text", "vae"]


def test_8_bits_are_not_taken_where_full_weights_are_asked_for(tiny_models: Path, tmp_path: Path, card: Card) -> None:
    card.room = 1
    made(tiny_models, tmp_path, "full").manager.load("tiny")
    assert [way[:2] for way in card.ways] == [("nothing", False), ("nothing", False), ("others", False), ("everything", False)]


def test_a_model_for_which_no_way_is_enough_is_refused_and_nothing_stays(tiny_models: Path, tmp_path: Path, card: Card) -> None:
    card.room = -1
    bench = made(tiny_models, tmp_path)
    bench.submit("a")
    bench.run()
    assert "has not enough free memory for checkpoint 'tiny'" in bench.of("failed")["a"].data["error"]
    assert not bench.manager.cache.size


@pytest.fixture
def with_lora(tmp_path: Path) -> Path:
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    lora_file(tmp_path / "loras" / "ink.safetensors", changes(1))
    return tmp_path


def test_pictures_of_8_bit_weights_say_so_and_differ_little_and_adapters_work_as_ever(with_lora: Path) -> None:
    """The plain twin has the same weights, rounded once when the file is written."""
    full, eight = made(with_lora, with_lora, "full"), made(with_lora, with_lora, "fp8")
    unet: Any = full.manager.load("tiny").denoiser.unet
    twin = made(with_lora, with_lora, "full")
    of_twin: Any = twin.manager.load("tiny").denoiser.unet
    of_twin.load_state_dict({f"{name}": p for name, p in rounded(unet).state_dict().items()}, assign=True)
    asked = {"prompt": "a cat <lora:ink:1>", "negative_prompt": "grey", "steps": 4}
    for bench in (full, eight, twin):
        bench.submit("plain", steps=4)
        bench.submit("adapted", **asked)
        bench.run()
        assert not bench.of("failed")
    for task in ("plain", "adapted"):
        assert np.abs(eight.pixels(task) - twin.pixels(task)).max() <= 1
        assert 0 < np.abs(eight.pixels(task) - full.pixels(task)).mean() <= 4
    assert np.abs(full.pixels("plain") - full.pixels("adapted")).max() > 2, "the adapter does something"
    assert eight.of("done")["plain"].data["facts"]["weights"] == "float8_e4m3fn"
    assert "weights" not in full.of("done")["plain"].data["facts"]
    assert "notes" not in eight.of("done")["plain"].data["facts"], "it was asked for"


@torch.inference_mode()
def test_a_preview_is_linear_where_a_decode_of_its_size_ran_out_of_memory(bench: Bench, model: ModelHandle) -> None:
    op = Decode(model, torch.zeros(4, 8, 8))
    bench.engine.runner.run([op])
    bench.engine.runner._decode_seconds[model, op.latent.shape] = 0.001
    assert there(bench.engine.runner.preview(model, op.latent)).shape == (64, 64, 3)
    Device(ladder(bench), lambda seen: seen[2] is not None).ladder.run(op)
    assert there(bench.engine.runner.preview(model, op.latent)).shape == (8, 8, 3)


def test_networks_of_another_make_are_not_streamed(bench: Bench, model: ModelHandle) -> None:
    """Without a placement and a switchable attention, the steps that need them are left out."""

    class Plain:
        factor, channels = 8, 4

    bare = replace(model, components=(), attend=None, latent=Plain())  # type: ignore[arg-type]
    op = Decode(bare, torch.zeros(4, 8, 8))
    assert len(means_for(op)) == 1
    tried = []

    def full(ops: Any) -> Any:
        tried.append(ops)
        raise torch.OutOfMemoryError("CUDA out of memory")

    ladder(bench).call = full
    assert isinstance(ladder(bench).run(op), OutOfMemory)
    assert len(tried) == 1


def test_an_accelerated_u_net_is_made_anew_when_its_weights_were_moved(tiny_models: Path, tmp_path: Path) -> None:
    """What was made of it knows where the weights lay: a captured graph would compute with freed memory."""
    made: list[weakref.ref[Any]] = []

    def full(ops: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    class Fast(nn.Module):
        def __init__(self, unet: UNet) -> None:
            super().__init__()
            self.inner, self.calls = unet, 0

        def forward(self, *args: Any) -> Tensor:
            self.calls += 1
            return self.inner(*args)  # type: ignore[no-any-return]

    def accelerate(unet: UNet) -> Any:
        made.append(weakref.ref(fast := Fast(unet)))
        return fast

    manager = ModelManager(
        [tiny_models], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json", accelerate=accelerate
    )
    model = manager.load("tiny")
    place = next(component.placement for component in model.components if component.key[-1] == "unet")  # type: ignore[index]
    assert place is not None
    forward = model.denoiser.forward
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(1, 4, 8, 8, generator=generator), torch.tensor([5.0])
    context = torch.randn(1, 77, 32, generator=generator)
    with torch.inference_mode():
        whole = forward(x, t, context)
        forward(x, t, context)
        assert len(made) == 1
        assert made[0]().calls == 2  # type: ignore[union-attr]
        place.stream()
        assert torch.allclose(forward(x, t, context), whole, atol=1e-3)
        gc.collect()
        assert made[0]() is None, "it goes with its memory"
        place.settle()
        assert torch.allclose(forward(x, t, context), whole, atol=1e-3)
        assert len(made) == 2
        assert model.attend is not None
        with model.attend.in_slices(1000):
            assert torch.allclose(forward(x, t, context), whole, atol=1e-3)
        gc.collect()
        assert made[1]() is None, "it knows how attention was computed"
        forward(x, t, context)
        assert isinstance(MemoryLadder(full).run(Decode(model, torch.zeros(4, 8, 8))), OutOfMemory)
        gc.collect()
        assert made[2]() is None, "its memory is needed"
