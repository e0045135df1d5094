"""Pictures that are only enlarged, in the engine: tiles as ops beside those of others, progress, cancelling, memory; and
upscalers between two stages."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modules.checkpoints import upscaler_networks
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.upscaler_config import RRDBConfig
from modules.diffusion.upscalers import Compact, upscaler
from modules.diffusion.upscaling import Canvas, Piece
from modules.engine.messages import Message
from modules.pipelines.ops import Upscale
from modules.pixels.resize import upscale
from tests.engine.conftest import Bench
from tests.tiny import tiny_checkpoint
from tests.tiny_upscalers import TINY_COMPACT, TINY_RRDB, state_of, tiny_upscaler

TWICE = {"width": 128, "height": 128, "steps": 2, "denoising_strength": 0.6}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    tiny_upscaler(folder / "ESRGAN" / "two.safetensors", TINY_COMPACT)
    tiny_upscaler(folder / "ESRGAN" / "four.safetensors", TINY_RRDB)
    tiny_upscaler(folder / "ESRGAN" / "same.safetensors", RRDBConfig(8, 1, 4, 0))
    return folder


@pytest.fixture
def bench(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(upscaler_networks, "SIDES", {"cpu": (32, 48)})  # so that small pictures have several tiles
    return UpscalingBench(ModelManager([models], torch.device("cpu"), torch.float32, sdpa, cache=tmp_path / "hashes.json"))


class UpscalingBench(Bench):
    """A bench that enlarges what it is given, and paints what it is told."""

    def request(self, **fields: Any) -> dict[str, Any]:
        return fields if "upscaler_1" in fields else super().request(**fields)


def picture(width: int = 96, height: int = 64, seed: int = 0, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, len(mode)), np.uint8)
    return Image.fromarray(values, mode).resize((width, height), Image.Resampling.BICUBIC)


def whole(name: str, image: Image.Image) -> np.ndarray:
    config = {"two": TINY_COMPACT, "four": TINY_RRDB, "same": RRDBConfig(8, 1, 4, 0)}[name]
    network = upscaler(config)
    network.load_state_dict(state_of(config))
    given = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        made = network(given)[0].clamp(0, 1) * 255
    return made.round().permute(1, 2, 0).numpy().astype(np.uint8)


def close(one: np.ndarray, other: np.ndarray, most: int = 1) -> bool:
    return one.shape == other.shape and int(np.abs(one.astype(int) - other.astype(int)).max()) <= most


def test_a_picture_is_the_network_s_in_one_go_whatever_its_tiles(bench: Bench) -> None:
    image = picture()
    bench.submit("a", source=image, upscaler_1="two")
    bench.run()
    assert not bench.of("failed")
    assert close(bench.pixels("a"), whole("two", image))
    told = [(message.data["step"], message.data["steps"]) for message in bench.said if message.kind == "progress"]
    steps = told[-1][1]
    assert steps > 3
    assert told == sorted(told)
    assert set(told) == {(step, steps) for step in range(steps + 1)}, "each tile is told"
    done = bench.of("done")["a"].data
    assert done["extras"] == {"Postprocess upscale by": "2", "Postprocess upscaler": "two"}
    assert (done["model_name"], done["schedule"]) == ("", "")


def test_passes_go_on_until_the_size_is_reached_and_lanczos_does_the_rest(bench: Bench) -> None:
    image = picture(40, 32)
    bench.submit("down", source=image, upscaler_1="four", upscale_by=1.5)
    bench.submit("again", source=image, upscaler_1="two", upscale_by=3)
    bench.run()
    once = Image.fromarray(whole("four", image)).resize((56, 48), Image.Resampling.LANCZOS)
    assert close(bench.pixels("down"), np.asarray(once), 4), "60x48 is rounded down to multiples of 8"
    twice = Image.fromarray(whole("two", Image.fromarray(whole("two", image)))).resize((120, 96), Image.Resampling.LANCZOS)
    assert close(bench.pixels("again"), np.asarray(twice), 3)


def test_two_upscalers_are_mixed_and_the_middle_is_cut(bench: Bench) -> None:
    image = picture(64, 32)
    both = {"source": image, "upscaler_1": "two", "upscaler_2": "Nearest", "upscaler_2_visibility": 0.25}
    bench.submit("mixed", **both)
    bench.submit("cut", **both, width=96, height=96)
    bench.submit("whole", **both, width=96, height=96, crop=False)
    bench.run()
    nearest = image.resize((128, 64), Image.Resampling.NEAREST)
    expected = Image.blend(Image.fromarray(whole("two", image)), nearest, 0.25)
    assert close(bench.pixels("mixed"), np.asarray(expected), 2)
    assert bench.pixels("cut").shape == (96, 96, 3)
    assert bench.pixels("whole").shape == (96, 192, 3)
    assert np.array_equal(bench.pixels("cut"), bench.pixels("whole")[:, 48:144])
    assert bench.of("done")["cut"].data["extras"] == {
        "Postprocess upscale to": "96x96",
        "Postprocess upscaler": "two",
        "Postprocess upscaler 2": "Nearest",
        "Postprocess crop to": "96x96",
    }


def test_filters_need_no_model_and_transparency_is_said(bench: Bench) -> None:
    image = picture(40, 32, mode="RGBA")
    bench.submit("lanczos", source=image, upscaler_1="Lanczos")
    bench.submit("none", source=picture(40, 32), upscaler_1="None")
    bench.run()
    expected = image.convert("RGB").resize((80, 64), Image.Resampling.LANCZOS)
    assert np.array_equal(bench.pixels("lanczos"), np.asarray(expected))
    assert bench.of("done")["lanczos"].data["facts"]["notes"] == "transparency is left out"
    assert np.array_equal(bench.pixels("none"), np.asarray(picture(40, 32)))


def test_a_network_that_does_not_enlarge_is_applied_once(bench: Bench) -> None:
    image = picture(40, 32)
    bench.submit("a", source=image, upscaler_1="same", upscale_by=1)
    bench.run()
    assert close(bench.pixels("a"), whole("same", image))


def test_tiles_are_put_together_beside_the_device_s_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of tiles of a large picture has hundreds of megabytes to be weighted and rounded."""
    put, threads = Canvas.put, []

    def watched(self: Canvas, piece: Piece, made: Any) -> None:
        threads.append(threading.get_ident())
        put(self, piece, made)

    monkeypatch.setattr(Canvas, "put", watched)
    bench.submit("a", source=picture(), upscaler_1="two")
    bench.run()
    assert len(threads) > 3
    assert threading.get_ident() not in threads


def test_users_share_the_device_tile_by_tile(bench: Bench) -> None:
    """A large picture does not hold up one that another user paints."""
    bench.manager.load("tiny")
    run, called = bench.engine.runner.run, []
    bench.engine.runner.run = lambda ops: called.append(type(ops[0])) or run(ops)  # type: ignore[method-assign, func-returns-value]
    bench.submit("large", user="one", source=picture(600, 400), upscaler_1="two")
    bench.run(until=lambda: Upscale in called)
    bench.submit("painted", user="two", steps=2)
    bench.run()
    assert bench.pixels("large").shape == (800, 1200, 3)
    begun = next(place for place, op in enumerate(called) if op is not Upscale)
    rest = called[begun:]
    assert rest.count(Upscale) > 1, "it began in the midst of the tiles"
    assert rest[-1] is Upscale, "and was finished before them"


def test_a_cancelled_picture_ends_between_two_tiles_and_gives_its_model_back(bench: Bench) -> None:
    bench.submit("a", source=picture(200, 160), upscaler_1="two")
    bench.run(until=lambda: sum(message.kind == "progress" for message in bench.said) == 4)
    (handle,) = bench.manager.upscalers.loaded
    assert handle.components[0].leases == 1
    bench.engine._handle(Message("cancel", {"task": "a"}))
    bench.run()
    assert set(bench.of("cancelled")) == {"a"}
    assert handle.components[0].leases == 0


def test_a_missing_upscaler_fails_its_own_picture_alone(bench: Bench) -> None:
    bench.submit("a", source=picture(), upscaler_1="gone")
    bench.submit("b", source=picture(), upscaler_1="two")
    bench.run()
    assert "'gone' is not here" in bench.of("failed")["a"].data["error"]
    assert "b" in bench.of("done")


def test_numbers_that_are_none_are_never_saved_as_a_picture(bench: Bench) -> None:
    handle = bench.manager.upscaler("two")
    torch.nn.init.constant_(handle.network.body[0].weight, float("inf"))  # type: ignore[index, union-attr, arg-type]
    bench.submit("a", source=picture(), upscaler_1="two")
    bench.run()
    assert "the upscaler 'two' gave NaN or infinity" in bench.of("failed")["a"].data["error"]


@pytest.mark.parametrize("most", [40 * 40, 0])
def test_where_memory_is_short_tiles_become_smaller(bench: Bench, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """The picture stays the same; what cannot be made in the smallest tiles either is said."""
    monkeypatch.setattr(upscaler_networks, "SIDES", {"cpu": (128, 128)})
    forward, sides = Compact.forward, []

    def short(self: Compact, x: torch.Tensor) -> torch.Tensor:
        sides.append(max(x.shape[2:]))
        if x.shape[2] * x.shape[3] > most * 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x)

    monkeypatch.setattr(Compact, "forward", short)
    image = picture(256, 192)
    bench.submit("a", source=image, upscaler_1="two")
    bench.run()
    if not most:
        assert (
            "the upscaler 'two' needs more memory than there is, in the smallest tiles too"
            in bench.of("failed")["a"].data["error"]
        )
        return
    monkeypatch.setattr(Compact, "forward", forward)
    assert close(bench.pixels("a"), whole("two", image))
    notes = bench.of("done")["a"].data["facts"]["notes"]
    assert notes == "memory ran short: enlarged in tiles of 96x96 pixels"
    assert sides.count(128) < 4, "what worked is remembered: the next tiles are not tried in vain"


def test_a_second_pass_may_start_from_an_upscaler_s_picture(bench: Bench) -> None:
    hires = {**TWICE, "upscaler": "two", "steps": 4, "prompt": "a dog", "cfg_scale": 3.0}
    first = Image.fromarray(bench.alone(sampler="Euler a").astype(np.uint8))
    init = Image.fromarray(upscale(whole("two", first), 128, 128, "Lanczos"))
    again = {"steps": 4, "fix_steps": True, "denoising_strength": 0.6, "prompt": "a dog", "cfg_scale": 3.0}
    expected = bench.alone(sampler="Euler a", source=init, width=128, height=128, **again)
    bench.submit("a", sampler="Euler a", hires=hires)
    bench.run()
    assert not bench.of("failed"), bench.of("failed")["a"].data["error"]
    assert close(bench.pixels("a"), expected, 3)
    assert any(message.kind == "progress" for message in bench.said)


def test_a_second_pass_covers_its_size_by_an_upscaler_of_another_scale(bench: Bench) -> None:
    bench.submit("a", hires={**TWICE, "width": 96, "height": 128, "upscaler": "four", "denoising_strength": 0.0})
    bench.submit("missing", hires={**TWICE, "upscaler": "gone"})
    bench.run()
    assert bench.pixels("a").shape == (128, 96, 3)
    assert "'gone' is not here" in bench.of("failed")["missing"].data["error"]


def test_what_is_in_memory_names_upscalers(bench: Bench) -> None:
    bench.submit("a", user="me", source=picture(200, 160), upscaler_1="two")
    bench.run(until=lambda: any(task.upscalers for task in bench.engine.tasks.values()))
    bench.engine._handle(Message("inspect"))
    (told,) = (message.data["models"] for message in bench.said if message.kind == "in-memory")
    assert [(model["name"], model["kind"], model["users"]) for model in told] == [("two", "upscaler", ["me"])]
    bench.run()
