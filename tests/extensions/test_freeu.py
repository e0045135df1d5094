"""FreeU, the shipped extension: diffusers' arithmetic at ComfyUI's places, alone and together, and nothing where it is off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.utils.torch_utils import apply_freeu

from modules.diffusion.forward import Join
from modules.extensions.testing import loaded
from modules.settings import ROOT
from tests.engine.conftest import Bench
from tests.tiny import TINY_METADATA, TINY_UNET, make_checkpoint

FOLDER = ROOT / "extensions" / "freeu"
ON = {"b2": 1.4, "s2": 0.2}


@pytest.fixture(autouse=True)
def extension() -> Iterator[None]:
    with loaded(FOLDER):
        yield


@pytest.mark.parametrize("size", [(8, 8), (5, 12), (1, 3), (2, 2)])
@pytest.mark.parametrize(("level", "times"), [(0, 4), (1, 2)])
def test_it_computes_what_diffusers_does(level: int, times: int, size: tuple[int, int]) -> None:
    from atelier_extensions.freeu.engine import FreeU  # type: ignore[import-not-found]

    drawn = torch.Generator().manual_seed(level)
    h, skip = torch.randn(2, 8 * times, *size, generator=drawn), torch.randn(2, 24, *size, generator=drawn)
    made = FreeU(1.5, 1.6, 0.9, 0.2)(h, skip, Join(level, 8))
    expected = apply_freeu(level, h.clone(), skip.clone(), b1=1.5, b2=1.6, s1=0.9, s2=0.2)
    torch.testing.assert_close(made[0], expected[0])
    if 1 not in size:  # diffusers scales nothing there, as its square is empty
        torch.testing.assert_close(made[1], expected[1])


def test_other_places_are_left_alone() -> None:
    from atelier_extensions.freeu.engine import FreeU

    h, skip = torch.randn(1, 8, 4, 4), torch.randn(1, 8, 4, 4)
    made = FreeU(1.5, 1.6, 0.9, 0.2)(h, skip, Join(3, 8))
    assert made[0] is h
    assert made[1] is skip


def test_alone_and_together_are_one_picture_in_shared_forwards(bench: Bench) -> None:
    requests: dict[str, dict[str, Any]] = {
        "plain": {},
        "on": {"extensions": {"freeu": ON}},
        "same factors": {"seed": 2, "extensions": {"freeu": ON}},
        "others": {"seed": 3, "extensions": {"freeu": {**ON, "b2": 0.7}}, "pag_scale": 2.0},
    }
    together: list[int] = []
    forward = bench.engine.runner._forward

    def noting(model: Any, rows: Any) -> Any:
        together.append(len({row.skip_edits for row in rows}))
        return forward(model, rows)

    bench.engine.runner._forward = noting  # type: ignore[method-assign]
    for name, fields in requests.items():
        bench.submit(name, steps=6, **fields)
    bench.run()
    assert bench.of("failed") == {}
    assert 3 in together, "rows without, and with either factors, in one forward"
    for name, fields in requests.items():
        assert np.abs(bench.pixels(name) - bench.alone(steps=6, **fields)).max() <= 1, name
    assert (bench.pixels("on") != bench.pixels("plain")).mean() > 0.3


def test_off_is_the_same_picture_to_the_bit(bench: Bench) -> None:
    plain = bench.alone()
    ones = {"b1": 1.0, "b2": 1.0, "s1": 1.0, "s2": 1.0}
    for options in ({}, ones, {**ones, "start": 0.5}, {**ON, "start": 1.0}):
        assert (bench.alone(extensions={"freeu": options}) == plain).all(), options


def test_start_and_end_share_the_way(bench: Bench) -> None:
    early, late, whole = (
        bench.alone(steps=6, extensions={"freeu": {**ON, **part}}) for part in ({"end": 0.5}, {"start": 0.5}, {})
    )
    assert (early != late).any()
    assert (early != whole).any()
    assert (late != whole).any()


def test_the_coarsest_levels_have_factors_of_their_own(bench: Bench, tiny_models: Path) -> None:
    deep = {"channels": (32, 64, 128), "transformer_depth": (0, 1, 0)}
    make_checkpoint(
        tiny_models / "deep.safetensors", unet=type(TINY_UNET)(**{**vars(TINY_UNET), **deep}), metadata=TINY_METADATA
    )
    plain, coarse, next_one = (
        bench.alone(checkpoint="deep", steps=2, extensions={"freeu": factors})
        for factors in ({}, {"b1": 1.5, "s1": 0.5}, {"b2": 1.5, "s2": 0.5})
    )
    assert (coarse != plain).any()
    assert (next_one != plain).any()
    assert (coarse != next_one).any()
