"""When jobs will be finished, in plain data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from modules.catalogue import weights_of
from modules.checkpoints.files import CheckpointInfo, Defaults
from modules.engine.costs import Call, CostModel
from modules.jobs.estimates import (
    Known,
    Pending,
    Quote,
    finish_times,
    forecast,
    picture_seconds,
    quote,
    rows_of,
    steps_of,
    upscaling_seconds,
)
from modules.request import Img2Img, Txt2Img, Upscaling


def measured(*entries: tuple[Call, float]) -> CostModel:
    costs = CostModel()
    costs.put(entries)
    return costs


def test_a_picture_costs_its_evaluations_and_its_decode() -> None:
    costs = measured((Call("predict", "m", 64, 64, 2), 0.5), (Call("decode", "m", 64, 64, 1), 3.0))
    request = Txt2Img(checkpoint="m", width=64, height=64, steps=20, sampler="Euler", cfg_scale=7.0)
    assert picture_seconds(costs, request) == pytest.approx(13.0)
    assert picture_seconds(costs, request.model_copy(update={"sampler": "Heun"})) == pytest.approx(39 * 0.5 + 3.0)
    assert picture_seconds(costs, request.model_copy(update={"cfg_scale": 1.0})) == pytest.approx(20 * 0.25 + 3.0)
    assert picture_seconds(costs, request.model_copy(update={"checkpoint": "other"})) is None


def test_a_decode_by_taesd_costs_what_such_decodes_took() -> None:
    costs = measured(
        (Call("predict", "m", 64, 64, 2), 0.5),
        (Call("decode", "m", 64, 64, 1), 3.0),
        (Call("decode by TAESD", "m", 64, 64, 1), 0.2),
    )
    request = Txt2Img(checkpoint="m", width=64, height=64, steps=20, sampler="Euler", vae_decoder="TAESD")
    assert picture_seconds(costs, request) == pytest.approx(10.2)
    assert picture_seconds(costs, request.model_copy(update={"vae_decoder": "Full", "vae_encoder": "TAESD"})) == pytest.approx(
        13.0
    )
    image = Img2Img(checkpoint="m", source="0" * 64, width=64, height=64, steps=20, sampler="Euler", fix_steps=True)
    costs.put([(Call("encode-image", "m", 64, 64, 1), 2.0), (Call("encode-image by TAESD", "m", 64, 64, 1), 0.1)])
    assert picture_seconds(costs, image) == pytest.approx(15.0)
    assert picture_seconds(costs, image.model_copy(update={"vae_encoder": "TAESD"})) == pytest.approx(13.1)


def test_a_refined_picture_costs_what_both_models_cost_and_loads_both() -> None:
    size = (64, 64)
    costs = measured((Call("predict", "m", *size, 2), 0.5), (Call("predict", "r", *size, 2), 2.0), (Call("load", "r"), 7.0))
    request = Txt2Img(
        checkpoint="m", width=64, height=64, steps=20, sampler="Euler", schedule="Uniform", refiner="r", refiner_switch_at=0.5
    )
    assert picture_seconds(costs, request) == pytest.approx(10 * 0.5 + 10 * 2.0)
    assert quote(costs, request, "m", 8, size).seconds == pytest.approx(25.0 + 7.0)
    ends = forecast([Known(costs, "m")], [Pending("one", "u", request, 1), Pending("two", "u", request, 1)], 8).needs
    assert ends == {"one": pytest.approx(32.0), "two": pytest.approx(25.0)}
    unknown = request.model_copy(update={"refiner": "never measured"})
    assert picture_seconds(costs, unknown) is None
    never = request.model_copy(update={"refiner_switch_at": 1.0})
    assert picture_seconds(costs, never) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({}, 2),
        ({"cfg_scale": 1.0}, 1),
        ({"pag_scale": 3.0}, 3),
        ({"pag_scale": 3.0, "cfg_scale": 1.0}, 2),
        ({"sag_scale": 0.7}, 3),
        ({"sag_scale": 0.7, "cfg_scale": 1.0, "pag_scale": 1.0}, 4),
    ],
)
def test_rows_are_those_that_guidance_asks_for(fields: dict[str, float], rows: int) -> None:
    assert rows_of(Txt2Img.model_validate(fields)) == rows


def test_a_picture_from_a_picture_costs_the_steps_that_are_run_and_its_encoding() -> None:
    sizes = {"width": 64, "height": 64}
    predicted = Call("predict", "m", rows=2, **sizes)
    costs = measured((predicted, 0.5), (Call("decode", "m", **sizes), 3.0), (Call("encode-image", "m", **sizes), 2.0))
    request = Img2Img(checkpoint="m", **sizes, steps=20, sampler="Euler", source="0" * 64, denoising_strength=0.75)
    assert (steps_of(request), picture_seconds(costs, request)) == (16, pytest.approx(16 * 0.5 + 3.0 + 2.0))
    assert steps_of(request.model_copy(update={"fix_steps": True})) == 20
    assert steps_of(request.model_copy(update={"sampler": "DDIM"})) == 14


def test_sharing_makes_pictures_cheaper() -> None:
    costs = measured((Call("predict", "m", 64, 64, 2), 1.0), (Call("predict", "m", 64, 64, 8), 2.0))
    request = Txt2Img(checkpoint="m", width=64, height=64, steps=10, sampler="Euler")
    assert picture_seconds(costs, request) == pytest.approx(10.0)
    assert picture_seconds(costs, request, waiting=100) == pytest.approx(5.0)


def test_one_user_waits_for_ones_own_jobs_only_in_order() -> None:
    assert finish_times({"ann": [("a", 2.0), ("b", 3.0)]}) == {"a": 2.0, "b": 5.0}


def test_users_share_the_device_equally() -> None:
    times = finish_times({"ann": [("long", 100.0)], "bob": [("short", 2.0)], "cleo": [("mid", 10.0), ("more", 1.0)]})
    assert times["short"] == pytest.approx(6.0), "a third of the device"
    assert times["mid"] == pytest.approx(22.0)
    assert times["more"] == pytest.approx(24.0)
    assert times["long"] == pytest.approx(113.0), "all the work there is"


def test_unknown_work_is_taken_to_have_no_end() -> None:
    times = finish_times({"ann": [("unknown", math.inf), ("behind", 1.0)], "bob": [("a", 2.0)]})
    assert times == {"a": 4.0, "unknown": math.inf, "behind": math.inf}
    assert finish_times({}) == {}
    assert finish_times({"ann": [("now", 0.0)]}) == {"now": 0.0}


def test_a_forecast_counts_what_is_done_what_is_shared_and_what_is_loaded() -> None:
    costs = measured((Call("predict", "m", 64, 64, 2), 1.0), (Call("load", "m"), 30.0))
    request = Txt2Img(checkpoint="m", width=64, height=64, steps=10, sampler="Euler")
    jobs = [Pending("a", "ann", request, 2, begun=0.5), Pending("b", "ann", request, 1)]
    assert forecast([Known(costs, "m")], jobs, 16).ends == {"a": pytest.approx(15.0), "b": pytest.approx(25.0)}
    assert forecast([Known(costs, "other")], jobs, 16).ends == {"a": pytest.approx(45.0), "b": pytest.approx(55.0)}
    strange = Pending("c", "bob", request.model_copy(update={"checkpoint": "new"}), 1)
    told = forecast([Known(costs, "m")], [*jobs, strange], 16)
    assert told.ends == {"a": pytest.approx(30.0), "b": pytest.approx(50.0), "c": math.inf}
    assert told.needs["c"] == math.inf


def test_a_quote_says_what_is_known_and_no_more() -> None:
    request = Txt2Img(checkpoint="m", width=64, height=64, steps=10, sampler="Euler", count=2)
    assert quote(CostModel(), request, "m", 4, (64, 64), 5) == Quote(None, False, (64, 64), 5)
    costs = measured((Call("predict", "m", 64, 64, 4), 1.0), (Call("load", "m"), 7.0))
    assert quote(costs, request, "m", 4, (64, 64)) == Quote(pytest.approx(10.0), False, (64, 64))
    assert quote(costs, request, "other", 4, (64, 64)).seconds == pytest.approx(17.0), "it has to be loaded first"
    large = quote(costs, request.model_copy(update={"width": 128}), "m", 4, (64, 64))
    assert (large.seconds, large.beyond) == (pytest.approx(20.0), True), "larger than all that was measured"


def test_weights_are_counted_in_the_number_format_that_is_used(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"model.a": np.zeros((3, 5), np.float16), "model_ema.a": np.zeros((3, 5), np.float16)}, path)
    info = CheckpointInfo("m", path, "m", "sd1", Defaults(64, 64, 20, 7.0, "Euler", "Automatic"), "", (), (), "")
    assert [weights_of(info, dtype) for dtype in ("float16", "float32", "")] == [30, 60, 0]
    path.unlink()
    assert weights_of(info, "float32") == 0


def test_a_second_pass_by_another_checkpoint_costs_what_that_one_takes() -> None:
    costs = measured(
        (Call("predict", "m", 64, 64, 2), 0.5),
        (Call("predict", "s", 128, 128, 2), 6.0),
        (Call("decode", "m", 64, 64), 3.0),
        (Call("encode-image", "s", 128, 128), 20.0),
        (Call("decode", "s", 128, 128), 40.0),
        (Call("load", "s"), 7.0),
    )
    hires = {"width": 128, "height": 128, "steps": 5, "upscaler": "Lanczos", "checkpoint": "s"}
    fields = {"checkpoint": "m", "width": 64, "height": 64, "steps": 20, "sampler": "Euler", "hires": hires}
    request = Txt2Img.model_validate(fields)
    seconds = 20 * 0.5 + 3.0 + 20.0 + 5 * 6.0 + 40.0
    assert picture_seconds(costs, request) == pytest.approx(seconds)
    quoted = quote(costs, request, "m", 1, (64, 64))
    assert (quoted.seconds, quoted.beyond) == (pytest.approx(seconds + 7.0), False)


@pytest.mark.parametrize(("upscaler", "around"), [("Latent", 30.0), ("Lanczos", 3.0 + 30.0 + 20.0)])
def test_a_second_pass_costs_its_own_steps_at_its_own_size(upscaler: str, around: float) -> None:
    costs = measured(
        (Call("predict", "m", 64, 64, 2), 0.5),
        (Call("predict", "m", 128, 128, 2), 4.0),
        (Call("decode", "m", 64, 64), 3.0),
        (Call("decode", "m", 128, 128), 30.0),
        (Call("encode-image", "m", 128, 128), 20.0),
    )
    hires = {"width": 128, "height": 128, "steps": 5, "upscaler": upscaler}
    fields = {"checkpoint": "m", "width": 64, "height": 64, "steps": 20, "sampler": "Euler"}
    request = Txt2Img.model_validate({**fields, "hires": hires})
    assert steps_of(request) == 25
    assert picture_seconds(costs, request) == pytest.approx(20 * 0.5 + 5 * 4.0 + around)
    larger = request.model_copy(update={"hires": request.hires.model_copy(update={"width": 256})} if request.hires else {})
    assert quote(costs, request, "m", 1, (64, 64)).beyond is False
    assert quote(costs, larger, "m", 1, (64, 64)).beyond is True


def test_a_second_pass_by_an_upscalers_file_costs_its_tiles_too() -> None:
    hires = {"width": 512, "height": 256, "steps": 1, "upscaler": "sharp"}
    request = Txt2Img.model_validate({"checkpoint": "m", "width": 256, "height": 128, "steps": 1, "hires": hires})
    painted = measured((Call("predict", "m", 256, 128, 2), 1.0))
    assert picture_seconds(painted, request) is None, "nothing is known of the upscaler"
    painted.put([(Call("upscale", "sharp", 128, 128), 3.0), (Call("upscale", "another", 64, 64), 90.0)])
    lanczos = request.model_copy(update={"hires": request.hires and request.hires.model_copy(update={"upscaler": "Lanczos"})})
    filtered = picture_seconds(painted, lanczos)
    assert filtered is not None
    # Tiles of 128 begin at 0, 80 and 128 of 256 pixels: 16 on each side are thrown away, and 16 are shared
    assert picture_seconds(painted, request) == pytest.approx(filtered + 3 * 3.0)


def test_enlarging_costs_the_tiles_of_each_pass_of_each_file() -> None:
    costs = measured((Call("upscale", "sharp", 128, 128), 3.0))
    asked = {"pictures": {"init": "0" * 64}, "upscaler_1": "sharp", "upscale_by": 2}
    scales = {"sharp": 2, "odd": 0}
    assert upscaling_seconds(costs, Upscaling.model_validate(asked), (256, 128), scales) == pytest.approx(3 * 3.0)
    assert picture_seconds(costs, Upscaling.model_validate(asked)) is None, "without the picture's size"
    twice = {**asked, "upscale_by": 4}  # 256 x 128, then 512 x 256: tiles at 0, 80, 160, 240, 320, 384, and at 0, 80, 128
    assert upscaling_seconds(costs, Upscaling.model_validate(twice), (256, 128), scales) == pytest.approx((3 + 6 * 3) * 3.0)
    mixed = {**asked, "upscaler_2": "Lanczos", "upscaler_2_visibility": 0.5}
    assert upscaling_seconds(costs, Upscaling.model_validate(mixed), (256, 128), scales) == pytest.approx(3 * 3.0)
    for name in ("odd", "unmeasured"):
        assert upscaling_seconds(costs, Upscaling.model_validate({**asked, "upscaler_1": name}), (256, 128), scales) is None


def test_a_picture_in_windows_costs_its_windows_at_their_size() -> None:
    costs = measured((Call("predict", "m", 64, 64, 2), 0.5), (Call("decode", "m", 160, 64, 1), 3.0))
    tiles = {"tiled_diffusion": True, "tile_width": 64, "tile_height": 64, "tile_overlap": 32}
    request = Txt2Img(checkpoint="m", width=160, height=64, steps=20, sampler="Euler", **tiles)
    assert picture_seconds(costs, request) == pytest.approx(20 * 4 * 0.5 + 3.0)
    assert not quote(costs, request, "m", 1, (64, 64)).beyond, "windows of that size were measured"
    assert quote(costs, request.model_copy(update={"tiled_diffusion": False}), "m", 1, (64, 64)).beyond
