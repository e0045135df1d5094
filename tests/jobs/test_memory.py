"""Whether a request fits into memory, before the click: what is measured goes before what is computed, and what would fit is
named.

The checkpoints are SD 1.5 and SDXL by their numbers of weights; which numbers of activations they make is tested with the
networks (`tests/checkpoints/test_footprint.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modules.checkpoints.footprint import Footprint, Weights
from modules.engine.costs import MEMORY_OF, Call, CostModel
from modules.jobs.memory import Memory, Room, memory_json, memory_of, sentences
from modules.request import Hires, Img2Img, Txt2Img

SD15 = Footprint(860_000_000, 123_000_000, 84_000_000, 8000, 49_152, 40_960)
SDXL = Footprint(2_567_000_000, 817_000_000, 84_000_000, 5040, 49_152, 40_960)
GB = 10**9
CARD = Room(12 * GB, 2, 2, 2, True, "auto", "cuda")
CPU = Room(32 * GB, 4, 4, 4, False, "auto", "cpu")
NOTHING = CostModel()


def asked(**fields: Any) -> Txt2Img:
    return Txt2Img(**{"checkpoint": "m", "width": 1024, "height": 1024, "steps": 20, "sampler": "Euler", **fields})


def of(request: Any, room: Room = CARD, costs: CostModel = NOTHING, checkpoint: Footprint = SDXL, **more: Footprint) -> Memory:
    found = memory_of(costs, request, {"m": checkpoint, **more}, room)
    assert found is not None
    return found


def test_weights_and_the_largest_of_what_is_computed_are_added() -> None:
    found = of(asked())
    weights = 2 * (2_567_000_000 + 817_000_000 + 84_000_000)
    assert (found.weights, found.bytes) == (weights, weights + 128 * 128 * 49_152 * 2), "the decoder takes the most"
    assert found.fits
    assert not found.measured
    assert of(asked(vae_decoder="TAESD")).bytes == weights + 128 * 128 * 64 * 3 * 64 * 2, "a quarter of it"
    assert of(asked(), CPU, checkpoint=SD15).bytes == 4 * 1_067_000_000 + 128 * 128 * 49_152 * 4
    eight = of(asked(), replace(CARD, storage="fp8"))
    assert weights - eight.weights == pytest.approx(2_567_000_000 * 0.74, rel=0.01), "half of the U-Net's, less a block"


def test_small_models_have_a_number_format_of_their_own() -> None:
    small = Footprint(7_000_000, 2_000_000, 3_000_000, 900, 20_000, 15_000)
    room = Room(8 * GB, 2, 4, 4, False, "auto", "cpu")
    assert of(asked(), room, checkpoint=small).weights == 4 * 12_000_000
    assert of(asked(), room, checkpoint=SD15).weights == 2 * 983_000_000 + 4 * 84_000_000


def test_all_stages_and_models_count() -> None:
    plain = of(asked(width=512, height=512))
    hires = of(asked(width=512, height=512, hires=Hires(width=1024, height=1024)))
    assert hires.bytes == of(asked()).bytes > plain.bytes
    second = of(asked(width=512, height=512, hires=Hires(width=1024, height=1024, checkpoint="s")), s=SD15)
    assert second.weights == plain.weights + 2 * 1_067_000_000
    assert second.bytes == second.weights + 128 * 128 * 49_152 * 2, "its own decoder makes the picture"
    refined = of(asked(refiner="r", refiner_switch_at=0.8), r=SD15)
    assert refined.weights == plain.weights + 2 * 1_067_000_000
    image = Img2Img(checkpoint="m", source="0" * 64, width=1024, height=1024, vae_decoder="TAESD", sampler="Euler")
    assert of(image).bytes == plain.weights + 128 * 128 * 40_960 * 2, "its encoder takes the most"


def test_pictures_of_a_batch_share_calls_up_to_what_a_call_takes() -> None:
    one, four, many = (of(asked(width=512, height=512, count=count)).bytes for count in (1, 4, 100))
    assert one < four == many, "four pictures of this size are decoded together at most"


def test_what_was_measured_goes_before_what_is_computed() -> None:
    costs = CostModel()
    costs.put(
        [(Call(MEMORY_OF + "predict", "m", 1024, 1024, 2), 1.1 * GB), (Call(MEMORY_OF + "decode", "m", 512, 512, 1), 0.2 * GB)]
    )
    found = of(asked(), costs=costs)
    assert (found.bytes - found.weights, found.measured) == (1_100_000_000, True), "four times 0.2 GB are less"
    tiny = of(asked(vae_decoder="TAESD"), costs=costs)
    assert not tiny.measured, "nothing was decoded by TAESD yet"


def test_what_is_done_where_it_does_not_fit_comes_in_the_engines_order() -> None:
    means = {megabytes: of(asked(), replace(CARD, memory=megabytes * 10**6)).means for megabytes in (9000, 8000, 7150, 7000)}
    assert means == {9000: (), 8000: ("tiles",), 7150: ("tiles", "rows"), 7000: ("tiles", "others")}, (
        "with others out, rows fit"
    )
    means = {megabytes: of(asked(), replace(CARD, memory=megabytes * 10**6)).means for megabytes in (5500, 2600, 1000)}
    assert means[5500] == ("tiles", "others", "fp8"), "the U-Net alone does not fit otherwise"
    assert means[2600] == ("tiles", "others", "fp8", "denoiser")
    assert means[1000] == ()
    full = replace(CARD, memory=5 * GB, storage="full")
    assert of(asked(), full).means == ("others", "denoiser"), "which leaves room to decode whole"
    wide = of(asked(vae_decoder="TAESD", width=2048, height=2048, cfg_scale=7), replace(CARD, memory=9_000_000_000))
    assert "tiles" not in wide.means, "TAESD works in none"
    assert of(asked(), full).streamed == 2 * 2_567_000_000, "in each step"


def test_quantised_weights_count_by_their_bytes_and_are_not_rounded_besides() -> None:
    """Flux.1 in Q4_0 with T5 in float16, on a card of 8 GB."""
    denoiser = Weights(11_901_408_320, 11_898_322_944, 6_692_806_656, 66_060_288)
    t5, embedding = Weights(4_762_310_656), Weights(131_604_480)
    flux = Footprint(
        *(denoiser.numbers, t5.numbers + 123_060_480, 83_819_683, 15_552, 49_152, 40_960),
        of_denoiser=denoiser,
        of_t5=t5,
        t5_streamed=embedding,
    )
    room = replace(CARD, memory=8 * GB)
    found = of(asked(cfg_scale=1.0), room, checkpoint=flux)
    layer = 2 * denoiser.largest
    assert found.weights == 6_698_977_408 + layer + 2 * flux.text + 2 * flux.vae
    assert found.means == ("tiles", "others"), "its own weights stay on the card"
    assert not found.fp8
    full = of(asked(cfg_scale=1.0), replace(room, storage="full"), checkpoint=flux)
    assert full.weights == 2 * flux.numbers
    assert "denoiser" in full.means
    small = of(asked(cfg_scale=1.0), replace(room, memory=4 * GB), checkpoint=flux)
    assert small.means == ("tiles", "others", "denoiser")
    assert small.streamed == 6_698_977_408, "the file's bytes, in each step"


def test_a_size_that_fits_is_named_and_does() -> None:
    for room in (replace(CARD, memory=8 * GB), replace(CPU, memory=7 * GB), replace(CARD, memory=3 * GB, storage="full")):
        request = asked(width=1536, height=1024)
        found = of(request, room)
        assert not found.fits
        if found.whole is None:
            assert found.weights > room.memory
        else:
            width, height = found.whole
            assert of(asked(width=width, height=height), room).fits
            assert width / height == pytest.approx(1.5, rel=0.02)
            assert not of(asked(width=width + 64, height=height + 48), room).fits, "the largest"
    tight = of(asked(width=2048, height=2048), replace(CPU, memory=16 * GB), checkpoint=SD15)
    assert not tight.possible
    assert tight.size is not None
    assert of(asked(width=tight.size[0], height=tight.size[1]), replace(CPU, memory=16 * GB), checkpoint=SD15).fits


def test_what_a_user_may_choose_is_named_where_it_would_be_enough() -> None:
    found = of(asked(), replace(CARD, memory=8 * GB))
    assert (found.fp8, found.taesd, found.single) == (True, True, False)
    many = of(asked(width=512, height=512, count=4), replace(CARD, memory=7_600_000_000))
    assert many.single
    none = of(asked(), replace(CARD, memory=2 * GB))
    assert (none.fp8, none.taesd, none.single) == (False, False, False)


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert memory_of(NOTHING, asked(), {"m": None}, CARD) is None
    assert memory_of(NOTHING, asked(), {}, CARD) is None
    unknown = of(asked(), replace(CARD, memory=0))
    assert unknown.fits
    assert Room.of({"memory": 5, "colour": "red"}) == Room(5), "another version says more"


def test_sentences_say_what_was_asked_what_there_is_and_what_to_do() -> None:
    assert sentences(of(asked())) == ["It takes about 8.5 GB of memory at its peak, 6.9 GB of it for the model."]
    assert sentences(of(asked(), replace(CARD, memory=8 * GB))) == [
        "It takes about 8.5 GB of memory, and 8.0 GB are there: the VAE works in tiles.",
        "None of that is needed up to 832 × 832.",
        "It fits with TAESD as decoder or weights in 8 bits (--weights-storage fp8).",
    ]
    streamed = sentences(of(asked(), replace(CARD, memory=5 * GB, storage="full")))
    assert "the U-Net's are streamed, 5.1 GB in each step, which takes longer." in streamed[0]
    none = sentences(of(asked(), replace(CARD, memory=GB)))
    assert none == ["Does not fit: it takes about 8.5 GB of memory, and 1.0 GB are there; no smaller size fits either."]
    large = of(asked(width=2048, height=2048), replace(CPU, memory=16 * GB), checkpoint=SD15)
    assert sentences(large)[0].endswith(f"16.0 GB are there; at most {large.size[0]} × {large.size[1]} fits.")  # type: ignore[index]
    assert memory_json(None) is None
    said = memory_json(large)
    assert said is not None
    assert (said["fits"], said["possible"], said["said"]) == (False, False, sentences(large))


def test_in_windows_it_takes_no_more_however_large_the_picture_is() -> None:
    tiles = {"tiled_diffusion": True, "tile_width": 512, "tile_height": 512, "tile_overlap": 256}
    sizes = [of(asked(width=side, height=side, **tiles), checkpoint=SD15).bytes for side in (1024, 1536, 2048)]
    assert len(set(sizes)) == 1
    assert sizes[0] < of(asked(width=1024, height=1024), checkpoint=SD15).bytes
    maps = replace(SD15, decode_maps=32_768)
    assert of(asked(width=2048, height=2048, **tiles), checkpoint=maps).bytes == sizes[0], "they wait in main memory"
    on_cpu = [of(asked(width=side, height=1024, **tiles), Room(kind="cpu"), checkpoint=maps).bytes for side in (4096, 8192)]
    assert on_cpu[1] - on_cpu[0] == (8192 - 4096) * 1024 // 64 * 32_768 * 4
