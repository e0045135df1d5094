"""Super-resolution networks against a second writing of the papers' formulas, and tiles against the whole picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from modules.diffusion.upscaler_config import CompactConfig, RRDBConfig
from modules.diffusion.upscalers import upscaler
from modules.diffusion.upscaling import EXACT, Canvas, Tiles, padded
from tests.tiny_upscalers import TINY_COMPACT, TINY_RRDB, state_of

Network = Any


def loaded(config: RRDBConfig | CompactConfig) -> tuple[Network, dict[str, Tensor]]:
    network, state = upscaler(config), state_of(config)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False), state


def conv(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def rrdb_twin(state: dict[str, Tensor], config: RRDBConfig, x: Tensor) -> Tensor:
    """arXiv:1809.00219, equation (3) and figure 4; the residuals of arXiv:2001.08073, figure 3; folding by indexing."""
    if (fold := config.unshuffle) > 1:
        x = torch.stack([x[:, c, i::fold, j::fold] for c in range(3) for i in range(fold) for j in range(fold)], 1)
    first = trunk = conv(state, "conv_first", x)
    for block in range(config.blocks):
        into = trunk
        for dense in (1, 2, 3):
            stem, x0 = f"body.{block}.rdb{dense}", trunk
            x1 = lrelu(conv(state, f"{stem}.conv1", x0))
            x2 = lrelu(conv(state, f"{stem}.conv2", torch.cat([x0, x1], 1)))
            if config.plus:
                x2 = x2 + torch.einsum("oi,bihw->bohw", state[f"{stem}.conv1x1.weight"][:, :, 0, 0], x0)
            x3 = lrelu(conv(state, f"{stem}.conv3", torch.cat([x0, x1, x2], 1)))
            x4 = lrelu(conv(state, f"{stem}.conv4", torch.cat([x0, x1, x2, x3], 1)))
            x4 = x4 + x2 if config.plus else x4
            trunk = x0 + 0.2 * conv(state, f"{stem}.conv5", torch.cat([x0, x1, x2, x3, x4], 1))
        trunk = into + 0.2 * trunk
    x = first + conv(state, "conv_body", trunk)
    for number in range(config.doublings):
        x = lrelu(conv(state, f"conv_up{number + 1}", x.repeat_interleave(2, 2).repeat_interleave(2, 3)))
    return conv(state, "conv_last", lrelu(conv(state, "conv_hr", x)))


def compact_twin(state: dict[str, Tensor], config: CompactConfig, x: Tensor) -> Tensor:
    """arXiv:2107.10833's compact generator: a stack of convolutions, whose channels are laid out as pixels."""
    deep = x
    for number in range(config.convs + 1):
        deep = conv(state, f"body.{2 * number}", deep)
        slopes = {"relu": torch.zeros(1), "leakyrelu": torch.full((1,), 0.1)}.get(config.activation)
        slopes = state[f"body.{2 * number + 1}.weight"] if slopes is None else slopes
        deep = torch.where(deep > 0, deep, deep * slopes[None, :, None, None])
    deep = conv(state, f"body.{2 * config.convs + 2}", deep)
    out = torch.empty(x.shape[0], 3, x.shape[2] * config.scale, x.shape[3] * config.scale)
    for channel in range(deep.shape[1]):
        colour, place = divmod(channel, config.scale**2)
        out[:, colour, place // config.scale :: config.scale, place % config.scale :: config.scale] = deep[:, channel]
    return out + x.repeat_interleave(config.scale, 2).repeat_interleave(config.scale, 3)


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize(("doublings", "unshuffle"), [(0, 1), (1, 1), (2, 1), (3, 1), (2, 2), (2, 4)])
def test_rrdbnet_is_the_papers_formula(doublings: int, unshuffle: int, plus: bool) -> None:
    config = RRDBConfig(8, 2, 4, doublings, unshuffle, plus)
    network, state = loaded(config)
    picture = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    made = network(picture)
    assert made.shape == (2, 3, 8 * config.scale, 12 * config.scale)
    torch.testing.assert_close(made, rrdb_twin(state, config, picture), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("activation", ["prelu", "relu", "leakyrelu"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_the_compact_network_is_its_formula(scale: int, activation: Any) -> None:
    config = CompactConfig(8, 3, scale, activation)
    network, state = loaded(config)
    picture = torch.rand(2, 3, 7, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(picture), compact_twin(state, config, picture), atol=1e-5, rtol=1e-4)


def in_tiles(network: Network, picture: Tensor, scale: int, tiles: Tiles) -> np.ndarray:
    """(scale h, scale w, 3), rounded, of (1, 3, h, w)."""
    canvas = Canvas((picture.shape[2], picture.shape[3]), scale, tiles)
    pieces = list(canvas.pieces())
    assert len(pieces) == len(canvas) > 4
    for piece in pieces:
        canvas.put(piece, network(picture[:, :, piece.rows, piece.columns])[0].permute(1, 2, 0).numpy())
    return canvas.pixels.astype(int)


def whole(network: Network, picture: Tensor) -> np.ndarray:
    return (network(picture)[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize("config", [TINY_COMPACT, RRDBConfig(8, 2, 4, 1), RRDBConfig(8, 1, 4, 2, 2)])
@pytest.mark.parametrize("size", [(100, 132), (72, 200)])
def test_tiles_that_see_all_that_matters_leave_no_trace(config: Any, size: tuple[int, int]) -> None:
    network, _ = loaded(config)
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    assert config.reach <= EXACT
    made = in_tiles(network, picture, config.scale, Tiles.of(16, config.reach))
    assert np.abs(made - whole(network, picture)).max() <= 1, "a rounding at most"


def test_tiles_of_a_network_that_reaches_further_are_blended_without_a_seam() -> None:
    """With weights as large as trained ones the far away hardly matters; what is left is spread over the blended strip."""
    config = RRDBConfig(8, 6, 4, 1)
    network, _ = loaded(config)
    picture = torch.rand(1, 3, 168, 168, generator=torch.Generator().manual_seed(3))
    tiles = Tiles.of(80, config.reach)
    assert config.reach > EXACT
    assert (tiles.margin, tiles.blend) == (16, 16)
    made, expected = in_tiles(network, picture, 2, tiles), whole(network, picture)
    difference = np.abs(made - expected)
    assert difference.max() <= 3
    assert difference.mean() < 0.05
    # A seam is a step that the whole picture does not have, along a line where tiles meet
    steps = np.abs(np.diff(made - expected, axis=0)).mean(axis=(1, 2))
    assert steps.max() < 0.5, "no row stands out"


@pytest.mark.parametrize("length", [4, 76, 80, 84, 120, 500, 1000])
@pytest.mark.parametrize(("side", "reach"), [(16, 4), (80, 100), (128, 34)])
def test_the_shares_of_tiles_add_up_to_one(length: int, side: int, reach: int) -> None:
    tiles = Tiles.of(side, reach)
    starts, shares = tiles.starts(length), tiles.weights(length, 2)
    total = np.zeros(2 * length)
    for start, share in zip(starts, shares, strict=True):
        total[2 * start : 2 * start + len(share)] += share
        if start:
            assert not share[: 2 * tiles.margin].any(), "what does not see enough is thrown away"
    assert np.allclose(total, 1.0)
    assert starts[-1] + min(length, tiles.side) == length
    assert all(start % 4 == 0 for start in starts)


def test_pictures_are_padded_to_what_networks_fold() -> None:
    picture = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    grown = padded(picture)
    assert grown.shape == (8, 8, 3)
    assert np.array_equal(grown[:5, :6], picture)
    assert np.array_equal(grown[5, :6], picture[3]), "mirrored, so that no edge comes in"
    assert padded(picture[:1, :1]).shape == (4, 4, 3)
    assert TINY_RRDB.scale == 4
