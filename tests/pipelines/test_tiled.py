"""Tiled diffusion: windows, their seams, their memory, and pictures in windows by the engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from modules.catalogue import Catalogue
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.conditioning import Conditioning, number_features
from modules.diffusion.samplers import Denoised
from modules.errors import RequestError
from modules.pipelines.denoisers import Denoiser
from modules.pipelines.generate import generate
from modules.pipelines.ops import Check, Decode, EncodeImage, Predict, Program
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.pipelines.tiled import gaussian, tiled, weights_by
from modules.prompts.library import Library
from modules.request import parse_request
from modules.request.tiles import MAX_WINDOWS, TileMethod, Tiles, Window
from tests.engine.conftest import Bench
from tests.sdxl import sdxl_checkpoint
from tests.tiny import tiny_checkpoint

METHODS: tuple[TileMethod, ...] = ("MultiDiffusion", "Mixture of Diffusers")
CPU = torch.device("cpu")
WIDE = {"width": 160, "height": 96, "tiled_diffusion": True, "tile_width": 64, "tile_height": 64, "tile_overlap": 32}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    tiny_checkpoint(folder / "other.safetensors", seed=1)
    sdxl_checkpoint(folder / "xl.safetensors")
    return folder


@pytest.fixture
def bench(models: Path, tmp_path: Path) -> Bench:
    return Bench(ModelManager([models], CPU, torch.float32, sdpa, cache=tmp_path / "hashes.json"))


# ---- windows


@pytest.mark.parametrize("size", [(64, 64), (160, 64), (72, 2048), (520, 1000), (2048, 2048)])
@pytest.mark.parametrize(("tile", "overlap"), [((64, 64), 32), ((512, 256), 128), ((104, 64), 0), ((512, 512), 504)])
def test_windows_cover_the_picture_and_overlap_as_asked(size: tuple[int, int], tile: tuple[int, int], overlap: int) -> None:
    tiles = Tiles(*tile, overlap)
    if tiles.problem(*size):
        assert tiles.count(*size) > MAX_WINDOWS
        return
    windows = tiles.windows(*size)
    assert len(windows) == tiles.count(*size)
    covered = np.zeros((size[1] // 8, size[0] // 8), int)
    for one in windows:
        assert (one.width, one.height) == (min(tile[0], size[0]) // 8, min(tile[1], size[1]) // 8)
        covered[one.top : one.top + one.height, one.left : one.left + one.width] += 1
    assert covered.min() >= 1
    lefts, tops = (sorted({getattr(one, side) for one in windows}) for side in ("left", "top"))
    for places, side, whole in ((lefts, windows[0].width, size[0]), (tops, windows[0].height, size[1])):
        assert (places[0], places[-1] + side) == (0, whole // 8)
        gaps = [following - place for place, following in pairwise(places)]
        assert all(side - gap >= min(overlap // 8, side - 1) for gap in gaps)


def test_too_many_windows_are_refused_before_anything_is_computed() -> None:
    assert "at most" in (problem := Tiles(64, 64, 56).problem(2048, 2048)) or "is the most" in problem
    assert not Tiles(64, 64, 0).problem(2048, 2048)


# ---- seams, with denoisers of known answers


def run(program: Program[Denoised]) -> Tensor:
    """What a program that asks for nothing comes to."""
    with pytest.raises(StopIteration) as end:
        next(program)
    answer: Denoised = end.value.value
    return answer.guided


def local(reach: int) -> Callable[[Tensor], Tensor]:
    """A translation-equivariant network that sees `reach` positions around each: its borders are zeros, as a U-Net's are."""
    kernel = torch.randn(4, 4, 2 * reach + 1, 2 * reach + 1, generator=torch.Generator().manual_seed(3)) / (8 * reach + 4)
    return lambda x: x * 0.5 + F.conv2d(x[None], kernel, padding=reach)[0]


def denoiser(network: Callable[[Tensor], Tensor]) -> Denoiser:
    def denoise(x: Tensor, sigma: float) -> Program[Denoised]:
        answer = network(x)
        return Denoised(answer, answer * 0.5)
        yield  # a program, which asks for nothing

    return denoise


def in_windows(network: Callable[[Tensor], Tensor], method: TileMethod, windows: tuple[Window, ...]) -> Denoiser:
    return tiled([(window, denoiser(network)) for window in windows], weights_by(method, CPU), 3)


@pytest.mark.parametrize("method", METHODS)
def test_of_a_pointwise_network_the_whole_is_given(method: TileMethod) -> None:
    x = torch.randn(4, 40, 56, generator=torch.Generator().manual_seed(1))
    windows = Tiles(128, 128, 64).windows(448, 320)
    found = run(in_windows(lambda part: part.sin(), method, windows)(x, 1.0))
    torch.testing.assert_close(found, x.sin(), atol=2e-6, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_where_no_border_of_a_window_is_seen_it_equals_the_whole(method: TileMethod) -> None:
    """A network that sees 2 positions around answers as in the whole wherever each window's border is further away."""
    x, network = torch.randn(4, 40, 56, generator=torch.Generator().manual_seed(2)), local(2)
    windows = Tiles(128, 128, 64).windows(448, 320)
    difference = (run(in_windows(network, method, windows)(x, 1.0)) - network(x)).abs().amax(0)
    deep = torch.ones(40, 56, dtype=torch.bool)
    for one in windows:
        inside = torch.zeros(40, 56, dtype=torch.bool)
        inside[one.top : one.top + one.height, one.left : one.left + one.width] = True
        sure = torch.zeros(40, 56, dtype=torch.bool)
        sure[
            one.top + (2 if one.top else 0) : one.top + one.height - (2 if one.top + one.height < 40 else 0),
            one.left + (2 if one.left else 0) : one.left + one.width - (2 if one.left + one.width < 56 else 0),
        ] = True
        deep &= sure | ~inside
    assert deep.float().mean() > 0.3
    assert difference[deep].max() < 1e-5
    if method == "MultiDiffusion":
        assert difference[~deep].max() > 1e-2, "windows' borders are seen elsewhere: the measurement can tell"
    else:
        assert difference[~deep].max() < 1e-3, "where windows overlap, their borders have next to no weight"


def steepest(plane: Tensor, columns: list[int]) -> float:
    """The largest mean step between neighbouring columns at these places (the mean of all rows, as a seam is a line)."""
    steps = (plane[..., 1:] - plane[..., :-1]).mean(dim=1).abs().amax(0)
    return float(steps[columns].max())


def test_a_mixture_has_no_step_at_the_borders_of_windows_whose_levels_differ() -> None:
    """Each window answers another level, the worst case; a seam is a step at a border that is larger than the ramp inside.

    Without overlap there is the whole step at each border, so the measurement can tell.
    """
    x = torch.zeros(1, 16, 56)

    def levels(windows: tuple[Window, ...], method: TileMethod) -> Tensor:
        parts = [(one, denoiser(lambda part, n=n: torch.full_like(part, float(n % 2)))) for n, one in enumerate(windows)]  # type: ignore[misc]
        return run(tiled(parts, weights_by(method, CPU), 2)(x, 1.0))

    def borders(windows: tuple[Window, ...]) -> list[int]:
        return sorted({side - 1 for one in windows for side in (one.left, one.left + one.width) if 0 < side < 56})

    apart, over = Tiles(128, 128, 0).windows(448, 128), Tiles(128, 128, 64).windows(448, 128)
    assert steepest(levels(apart, "MultiDiffusion"), borders(apart)) > 0.49
    mixed = levels(over, "Mixture of Diffusers")
    inside = [n for n in range(55) if n not in borders(over)]
    assert steepest(mixed, borders(over)) < 0.02 < steepest(mixed, inside)
    assert steepest(levels(over, "MultiDiffusion"), borders(over)) <= 0.5 + 1e-6


def test_gaussian_weights_are_those_of_the_paper() -> None:
    found = gaussian(6, 10)
    assert found.shape == (6, 10)
    expected = math.exp(-((1.5 / 6) ** 2) / 0.02) * math.exp(-((4.5 / 10) ** 2) / 0.02)
    assert float(found[1, 0]) == pytest.approx(expected, rel=1e-5)
    assert float(found.min()) > 0


# ---- by the engine


def asked(bench: Bench, **fields: Any) -> tuple[list[Predict], list[Any]]:
    """The forwards of a picture by the reference runner, and its other device ops of pixels."""
    seen: list[Any] = []

    def watched(pipeline: Any) -> Any:
        answer = None
        while True:
            try:
                op = pipeline.send(answer)
            except StopIteration as end:
                return end.value
            if not isinstance(op, Check):
                seen.append(op)
            answer = yield op

    run_reference(watched(generate(stages_of(parse_request(bench.request(**fields))))), bench.manager)
    return [op for op in seen if isinstance(op, Predict)], [op for op in seen if isinstance(op, Decode | EncodeImage)]


def test_the_rows_of_a_call_do_not_grow_with_the_picture(bench: Bench) -> None:
    calls = {}
    for width in (128, 512):
        forwards, pixels = asked(bench, **{**WIDE, "width": width, "height": 64, "steps": 1, "tile_batch": 2})
        assert {tuple(row.x.shape[1:]) for op in forwards for row in op.rows} == {(8, 8)}
        calls[width] = [len(op.rows) for op in forwards]
        assert all(op.model.latent.tiling is not None for op in pixels), "the autoencoder's calls do not grow either"
    assert max(calls[128]) == max(calls[512]) == 4, "two windows, each with prompt and negative prompt"
    assert len(calls[512]) > 3 * len(calls[128])


def test_one_window_is_the_picture_without_tiles(bench: Bench) -> None:
    same = {"width": 64, "height": 64, "steps": 2}
    assert np.array_equal(bench.alone(**same), bench.alone(**same, tiled_diffusion=True, tile_width=64, tile_height=128))
    forwards, pixels = asked(bench, **same, tiled_diffusion=True)
    assert {len(op.rows) for op in forwards} == {2}
    assert pixels[0].model.latent.tiling is None


SAMPLERS = ("Euler a", "Heun", "DPM++ 2M", "UniPC", "DPM++ SDE", "LCM")


def test_any_sampler_and_guidance_paints_alike_in_the_engine_with_others_beside_it(bench: Bench) -> None:
    """Windows share forwards with each other, with other pictures in windows and with plain pictures of their size."""
    variants: dict[str, dict[str, Any]] = {name: {"sampler": name} for name in SAMPLERS}
    variants["guided"] = {"sag_scale": 0.5, "pag_scale": 1.0, "apg": True, "apg_momentum": -0.5, "cfg_rescale": 0.3}
    variants["refined"] = {"refiner": "other", "refiner_switch_at": 0.5, "steps": 4}
    variants["edited"] = {"prompt": "[a cat:a red apple:0.5] AND a dog :0.4", "cfg_zero_steps": 1}
    for number, (name, own) in enumerate(variants.items()):
        method = METHODS[number % 2]
        shape = {**WIDE, "width": 128, "height": 64}
        variants[name] = {**shape, "steps": 3, "seed": number, "tile_method": method, "sampler": "Euler", **own}
        bench.submit(name, user=f"u{number}", **variants[name])
    bench.submit("plain", user="v", steps=3)
    bench.run()
    failed = {task: message.data for task, message in bench.of("failed").items()}
    assert not failed
    for name in variants:
        difference = np.abs(bench.pixels(name) - bench.alone(**variants[name]))
        assert difference.max() <= 2, name
    assert np.abs(bench.pixels("plain") - bench.alone(steps=3)).max() <= 1


def test_masks_and_second_passes_hold_the_whole_picture(bench: Bench) -> None:
    init = Image.fromarray(np.random.default_rng(1).integers(0, 255, (96, 160, 3), np.uint8))
    mask = Image.new("L", (160, 96))
    mask.paste(255, (100, 0, 160, 96))
    fields = {
        **WIDE,
        "source": init,
        "mask": mask.convert("RGB"),
        "denoising_strength": 0.7,
        "mask_blur_x": 0,
        "mask_blur_y": 0,
    }
    found = bench.alone(**fields)
    assert np.array_equal(found[:, :96], np.asarray(init)[:, :96]), "what is not painted keeps its bytes"
    assert not np.array_equal(found[:, 104:], np.asarray(init)[:, 104:])
    twice = {"hires": {"width": 128, "height": 128}, "tiled_diffusion": True, "tile_width": 64, "tile_height": 64}
    forwards, _ = asked(bench, **twice, width=64, height=64, steps=2)
    assert {tuple(row.x.shape[1:]) for op in forwards for row in op.rows} == {(8, 8)}, "both passes are painted in windows"


def test_concat_conditioning_is_cropped_with_its_window() -> None:
    channels = torch.arange(5 * 12 * 20.0).view(5, 12, 20)
    found = Conditioning(torch.zeros(77, 4), channels).cropped(4, 2, 8, 6, 8)
    assert found.channels is not None
    assert torch.equal(found.channels, channels[:, 2:8, 4:12])
    plain = Conditioning(torch.zeros(77, 4))
    assert plain.cropped(4, 2, 8, 6, 8) is plain, "what says nothing of places is shared by all windows"


def test_sdxl_is_told_where_each_window_was_cut_from(bench: Bench) -> None:
    forwards, _ = asked(bench, checkpoint="xl", **{**WIDE, "width": 96, "height": 64, "steps": 1})
    told = set()
    for row in (row for op in forwards for row in op.rows):
        said = row.conditioning
        assert said.vector is not None
        numbers = dict(said.numbers)
        features = number_features(list(numbers.values()), CPU)
        torch.testing.assert_close(said.vector[-len(features) :].float(), features, atol=1e-3, rtol=0)
        told.add((numbers["width"], numbers["height"], numbers["left"], numbers["top"], numbers["target width"]))
    assert told == {(96, 64, 0, 0, 64), (96, 64, 32, 0, 64)}


def test_a_side_beyond_what_is_painted_otherwise(bench: Bench) -> None:
    wide = {**WIDE, "width": 4096, "height": 64, "tile_width": 2048, "tile_height": 64, "tile_overlap": 512, "steps": 1}
    assert bench.alone(**wide).shape[:2] == (64, 4096)


def test_too_many_windows_fail_with_a_sentence(bench: Bench) -> None:
    fields = {**WIDE, "width": 2048, "height": 2048, "tile_overlap": 56}
    with pytest.raises(RequestError, match="the most; take larger windows or less overlap"):
        bench.alone(**fields)


# ---- what a request leaves open


def test_the_checkpoint_decides_what_is_left_open(models: Path, tmp_path: Path) -> None:
    """tiny is made for 64x64.  What makes no difference is put back: a record names nothing that had no part in its picture."""
    catalogue = Catalogue([models], Library(tmp_path), lambda: None)
    asked = {"prompt": "a", "checkpoint": "tiny", "width": 128, "height": 64, "tiled_diffusion": True}
    found = catalogue.complete(asked)
    assert (found.tile_width, found.tile_height, found.tile_overlap) == (64, 64, 32)
    assert catalogue.complete({**asked, "tile_method": "Mixture of Diffusers"}).tile_overlap == 16
    small = catalogue.complete({**asked, "width": 64, "tile_batch": 7})
    assert not {"tiled_diffusion", "tile_width", "tile_batch"} & small.model_dump().keys()
    twice = catalogue.complete({**asked, "width": 64, "hires": {"width": 128, "height": 128}})
    assert twice.tiled_diffusion
    assert [stage.windows for stage in stages_of(twice)] == [1, 9]
    with pytest.raises(RequestError, match="the most; take larger windows"):
        catalogue.complete({**asked, "width": 2048, "height": 2048, "tile_overlap": 56})
