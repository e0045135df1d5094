"""The forward context: adapters as side paths, attention taps and control residuals, per row of one forward.

Adapters are held to merged weights, taps to softmax written out, residuals to diffusers' U-Net.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

from modules.diffusion.adapters import Adapter, LowRank
from modules.diffusion.attention import Attend, sdpa, sliced
from modules.diffusion.conditioning import Conditioning
from modules.diffusion.deltas import Full
from modules.diffusion.forward import (
    MIDDLE_ATTENTION,
    AttentionMass,
    Conv2d,
    IdentityAttention,
    Linear,
    Tap,
    adaptable_norms,
    context_for,
)
from modules.diffusion.kernels import PLAIN, Kernels, PlainKernels
from modules.diffusion.layers import CrossAttention
from modules.diffusion.prediction import DiscreteNoise
from modules.diffusion.rows import Answer, Control, Row, can_join
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.unet_denoiser import MAX_ADAPTERS, CrossAttentionKey, UNetDenoiser
from tests.diffusion import reference
from tests.tiny import randomised

CPU = torch.device("cpu")
NOISE = DiscreteNoise()
CONFIG = UNetConfig(channels=(32, 64), res_blocks=1, transformer_depth=(1, 1), context_dim=16, heads=4)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def denoiser() -> UNetDenoiser:
    unet = randomised(UNet(CONFIG), seed=5).requires_grad_(False).eval()
    return UNetDenoiser(unet, torch.float32)


def answers(denoiser: UNetDenoiser, rows: Sequence[Row]) -> list[Answer]:
    return denoiser.denoise(denoiser.collate(rows), NOISE)


def row(seed: int, **asked: object) -> Row:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 9, 14, generator=generator) * 5
    context = Conditioning(torch.randn(77, 16, generator=generator))
    return Row(x, 4.0 + seed, context, **asked)  # type: ignore[arg-type]


def adapter(network: nn.Module, seed: int, rank: int = 3) -> Adapter:
    """A LoRA with random weights on every layer that one can reach."""
    generator = torch.Generator().manual_seed(seed)
    deltas = {}
    for name, layer in network.named_modules():
        if isinstance(layer, Linear | Conv2d):
            out, incoming, *kernel = layer.weight.shape
            down = torch.randn(rank, incoming, *kernel, generator=generator) * 0.1
            up = torch.randn(out, rank, *[1] * len(kernel), generator=generator) * 0.1
            deltas[name] = LowRank(down, up, scale=0.5)
    return Adapter(f"random {seed}", deltas)


def merged(denoiser: UNetDenoiser, adapters: Sequence[tuple[Adapter, float]]) -> UNetDenoiser:
    """The same network with W + strength * scale * (up · down) as its weights, in doubles."""
    unet = UNet(CONFIG)
    unet.load_state_dict(denoiser.unet.state_dict())
    weights = dict(unet.named_parameters())
    for one, strength in adapters:
        for name, delta in one.deltas.items():
            change = (delta.up.flatten(1).double() @ delta.down.flatten(1).double()).reshape(weights[f"{name}.weight"].shape)
            weights[f"{name}.weight"].add_(change.float() * (delta.scale * strength))
    return UNetDenoiser(unet.requires_grad_(False).eval(), torch.float32)


def assert_equal(ours: Answer, theirs: Answer) -> None:
    torch.testing.assert_close(ours.x0, theirs.x0, rtol=2e-5, atol=2e-5)


# ---- adapters


def test_rows_with_different_adapters_and_one_without_share_a_forward_and_equal_the_three_alone(denoiser: UNetDenoiser) -> None:
    one, other = adapter(denoiser.unet, 1), adapter(denoiser.unet, 2)
    rows = [
        row(0, adapters=((one, 0.8),)),
        row(1),
        row(2, adapters=((other, -0.5),)),
        row(3, adapters=((one, 0.3), (other, 1.0))),
    ]
    together = answers(denoiser, rows)
    for shared, single in zip(together, rows, strict=True):
        assert_equal(shared, answers(denoiser, [single])[0])
        assert_equal(shared, answers(merged(denoiser, single.adapters), [row_without(single)])[0])
    plain = answers(denoiser, [row_without(single) for single in rows])
    changed = [float((a.x0 - b.x0).abs().max()) for a, b in zip(together, plain, strict=True)]
    assert changed[1] < 1e-4, "nobody else's adapter reaches a row"
    assert min(changed[0], changed[2], changed[3]) > 0.1, "a comparison of what changes nothing would prove nothing"


def row_without(row: Row) -> Row:
    return Row(row.x, row.sigma, row.conditioning)


def test_every_layer_of_the_network_that_has_weights_can_be_adapted(denoiser: UNetDenoiser) -> None:
    reached = {name for name, layer in denoiser.unet.named_modules() if isinstance(layer, Linear | Conv2d)}
    assert reached == {name for name, layer in denoiser.unet.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    for name in sorted(reached):
        one = Adapter("one layer", {name: adapter(denoiser.unet, 4).deltas[name]})
        asked, plain = row(0, adapters=((one, 20.0),)), row(0)
        difference = (answers(denoiser, [asked])[0].x0 - answers(denoiser, [plain])[0].x0).abs().max()
        assert float(difference) > 0, name


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution_s_adapter_may_have_a_kernel_of_one(kernel: int) -> None:
    """kohya's LoRA of a 3x3 convolution goes down by the same kernel, that of a transformer's projection by 1x1."""
    layer = Conv2d(6, 8, kernel, stride=2, padding=kernel // 2)
    layer.place = "conv"
    down, up, x = torch.randn(2, 6, kernel, kernel), torch.randn(8, 2), torch.randn(2, 6, 7, 7)
    ctx = context_for([[(Adapter("a", {"conv": LowRank(down, up, 2.0)}), 0.5)], []], [(), ()], None, CPU)
    weight = layer.weight + torch.einsum("or,rikl->oikl", up, down)
    expected = nn.functional.conv2d(x, weight, layer.bias, 2, kernel // 2)
    out = layer(x, ctx)
    torch.testing.assert_close(out[0], expected[0], rtol=1e-4, atol=1e-4)
    assert torch.equal(out[1], layer(x)[1])


def test_an_adapter_named_twice_on_a_row_counts_with_both_strengths(denoiser: UNetDenoiser) -> None:
    one = adapter(denoiser.unet, 1)
    (twice,) = answers(denoiser, [row(0, adapters=((one, 0.5), (one, 0.25)))])
    (once,) = answers(denoiser, [row(0, adapters=((one, 0.75),))])
    assert_equal(twice, once)


def test_rows_that_ask_for_nothing_make_no_context(denoiser: UNetDenoiser) -> None:
    one = adapter(denoiser.unet, 1)
    assert context_for([(), ()], [(), ()], None, CPU) is None
    assert context_for([((one, 0.0),)], [()], None, CPU) is None, "a strength of 0 is free"


def test_the_number_of_adapters_in_a_forward_is_bounded() -> None:
    adapters = [Adapter(str(number), {}) for number in range(MAX_ADAPTERS + 1)]
    keys = [CrossAttentionKey(77, (one,)) for one in adapters]
    assert can_join([*keys[:-1], *keys[:-1], CrossAttentionKey(77)])
    assert not can_join(keys)
    assert not can_join([CrossAttentionKey(77), CrossAttentionKey(77 * 13)]), "contexts bound it too"
    row = Row(torch.zeros(4, 8, 8), 1.0, Conditioning(torch.zeros(154, 4)), adapters=((adapters[0], 1.0), (adapters[1], 0.0)))
    assert UNetDenoiser.join_key(row) == CrossAttentionKey(154, (adapters[0],))


# ---- norms


def norm_adapter(network: nn.Module, seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    width = {name: len(norm.weight) for name, norm in adaptable_norms(network).items()}
    drawn = {name: [torch.randn(count, generator=generator) * 0.3 for _ in range(2)] for name, count in width.items()}
    return Adapter("norms", {name: Full(*both) for name, both in drawn.items()})


class Late(PlainKernels):
    """Kernels that add biases late, as fused ones do."""

    late_bias = True


@pytest.mark.parametrize("kernels", [PLAIN, Late()], ids=["plain", "late biases"])
def test_rows_with_and_without_changed_norms_share_a_forward_and_equal_them_alone(kernels: Kernels) -> None:
    unet = randomised(UNet(CONFIG, kernels=kernels), seed=5).requires_grad_(False).eval()
    one = norm_adapter(unet, 1)
    changed = UNet(CONFIG).requires_grad_(False).eval()
    changed.load_state_dict(unet.state_dict())
    for name, norm in adaptable_norms(changed).items():
        delta = one.deltas[name]
        assert isinstance(delta, Full)
        assert delta.diff is not None
        assert delta.bias is not None
        norm.weight += 0.8 * delta.diff
        norm.bias += 0.8 * delta.bias
    denoiser = UNetDenoiser(unet, torch.float32)
    asked, plain = row(0, adapters=((one, 0.8),)), row(1)
    together = answers(denoiser, [asked, plain])
    assert_equal(together[0], answers(denoiser, [asked])[0])
    assert_equal(together[0], answers(UNetDenoiser(changed, torch.float32), [row_without(asked)])[0])
    assert_equal(together[1], answers(denoiser, [plain])[0])
    assert float((together[0].x0 - answers(denoiser, [row_without(asked)])[0].x0).abs().max()) > 0.1


def test_every_norm_of_the_network_can_be_adapted(denoiser: UNetDenoiser) -> None:
    norms = adaptable_norms(denoiser.unet)
    assert norms.keys() == {n for n, m in denoiser.unet.named_modules() if isinstance(m, nn.GroupNorm | nn.LayerNorm)}
    whole = norm_adapter(denoiser.unet, 2)
    for name in sorted(norms):
        asked = row(0, adapters=((Adapter("one norm", {name: whole.deltas[name]}), 20.0),))
        assert float((answers(denoiser, [asked])[0].x0 - answers(denoiser, [row(0)])[0].x0).abs().max()) > 0, name


def test_fused_kernels_are_asked_for_norms_without_a_change_only() -> None:
    class Counting(PlainKernels):
        asked = 0

        def group_norm(self, *arguments: object, **options: object) -> Tensor:
            self.asked += 1
            return super().group_norm(*arguments, **options)  # type: ignore[arg-type]

    kernels = Counting()
    unet = randomised(UNet(CONFIG, kernels=kernels), seed=5).requires_grad_(False).eval()
    denoiser = UNetDenoiser(unet, torch.float32)
    answers(denoiser, [row(0)])
    every, kernels.asked = kernels.asked, 0
    group = next(name for name, norm in adaptable_norms(unet).items() if isinstance(norm, nn.GroupNorm))
    answers(denoiser, [row(0, adapters=((Adapter("a", {group: norm_adapter(unet, 1).deltas[group]}), 1.0),))])
    assert kernels.asked == every - 1


# ---- taps


@pytest.mark.parametrize("attend", [sdpa, sliced], ids=["sdpa", "sliced"])
def test_a_tap_changes_and_observes_its_own_rows_and_no_others(attend: Attend) -> None:
    """Against softmax written out: the identity for a perturbed row, column sums for an observed one, whatever the back end."""
    torch.manual_seed(1)
    layer, x = CrossAttention(48, 48, 4, attend).double(), torch.randn(3, 10, 48, dtype=torch.float64)
    layer.place = "here"
    mass = AttentionMass("here")
    taps: list[tuple[Tap, ...]] = [(mass,), (IdentityAttention("here"),), (mass,)]
    ctx = context_for([()] * 3, taps, None, CPU)
    assert ctx is not None
    ctx.grid = 2, 5
    asked, plain = layer(x, None, ctx), layer(x)
    assert torch.equal(asked[[0, 2]], plain[[0, 2]])
    torch.testing.assert_close(asked[1], layer.to_out(layer.to_v(x[1])))

    q, k = (part(x).unflatten(-1, (4, 12)) for part in (layer.to_q, layer.to_k))
    maps = torch.einsum("bqhd,bkhd->bhqk", q, k).div(12**0.5).softmax(dim=-1)
    seen = ctx.observed[mass]
    torch.testing.assert_close(seen.double().flatten(1), maps.mean(dim=1).sum(dim=1)[[0, 2]], rtol=1e-5, atol=1e-6)
    assert float(seen.mean()) == pytest.approx(1.0), "as much is given as there are positions"


def test_rows_get_what_their_own_taps_observed_in_the_shape_of_the_layer_s_feature_map(denoiser: UNetDenoiser) -> None:
    middle, first = AttentionMass(), AttentionMass("input_blocks.1.1.transformer_blocks.0.attn1")
    rows = [row(0, taps=(first, middle)), row(1), row(2, taps=(middle,))]
    together = answers(denoiser, rows)
    assert [[tuple(seen.shape) for seen in answer.observed] for answer in together] == [[(9, 14), (5, 7)], [], [(5, 7)]]
    for shared, single in zip(together, rows, strict=True):
        (alone,) = answers(denoiser, [single])
        assert_equal(shared, alone)
        for seen, expected in zip(shared.observed, alone.observed, strict=True):
            torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)
    assert_equal(together[0], answers(denoiser, [row(0)])[0]), "to be observed changes nothing"


def test_taps_reach_the_attention_that_they_name(denoiser: UNetDenoiser) -> None:
    places = [name for name, layer in denoiser.unet.named_modules() if isinstance(layer, CrossAttention) and "attn1" in name]
    assert MIDDLE_ATTENTION in places
    (plain,) = answers(denoiser, [row(0)])
    perturbed = answers(denoiser, [row(0, taps=(IdentityAttention(place),)) for place in places])
    assert all(float((answer.x0 - plain.x0).abs().max()) > 1e-4 for answer in perturbed)
    assert denoiser.has(MIDDLE_ATTENTION)
    assert not denoiser.has("middle_block.1.transformer_blocks.7.attn1")


# ---- control residuals


def residuals(x: Tensor, seed: int) -> list[Tensor]:
    """Random ones in the shapes that `CONFIG` has its skip connections and middle in."""
    generator = torch.Generator().manual_seed(seed)
    rows, (height, width) = len(x), x.shape[-2:]
    low = (height + 1) // 2, (width + 1) // 2
    shapes = [(32, height, width)] * 2 + [(32, *low), (64, *low), (64, *low)]
    return [torch.randn(rows, *shape, generator=generator) for shape in shapes]


def test_residuals_are_added_where_diffusers_adds_them(denoiser: UNetDenoiser) -> None:
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in denoiser.unet.state_dict().items()}
    theirs = reference.unet(CONFIG, state)
    generator = torch.Generator().manual_seed(1)
    x, context = torch.randn(2, 4, 8, 6, generator=generator), torch.randn(2, 77, 16, generator=generator)
    times = torch.tensor([900.0, 20.0])
    *down, middle = residuals(x, 3)
    expected = theirs(
        x, times, context, down_block_additional_residuals=tuple(down), mid_block_additional_residual=middle
    ).sample
    ours = denoiser.unet(x, times, context, context_for([(), ()], [(), ()], [*down, middle], CPU))
    assert reference.error(ours, expected) < 1e-5
    assert reference.error(denoiser.unet(x, times, context), expected) > 0.01


def test_control_networks_run_once_over_their_own_rows(denoiser: UNetDenoiser) -> None:
    calls: list[tuple[int, list[float]]] = []

    def network(x: Tensor, hints: Tensor, timesteps: Tensor, context: Tensor) -> list[Tensor]:
        calls.append((len(x), hints[:, 0].tolist()))
        assert len(timesteps) == len(context) == len(x)
        return [each * hints[:, :1, None, None] for each in residuals(x[:1], 7)]

    def other(x: Tensor, hints: Tensor, timesteps: Tensor, context: Tensor) -> list[Tensor]:
        return residuals(x[:1], 8)

    rows = [
        row(0, control=(Control(network, torch.tensor([0.5])),)),
        row(1),
        row(2, control=(Control(network, torch.tensor([1.5]), 0.7), Control(other, torch.zeros(1)))),
    ]
    together = answers(denoiser, rows)
    assert calls == [(2, [0.5, 1.5])]
    for shared, single in zip(together, rows, strict=True):
        assert_equal(shared, answers(denoiser, [single])[0])
    (plain,) = answers(denoiser, [row(1)])
    assert_equal(together[1], plain)
    assert float((together[0].x0 - answers(denoiser, [row(0)])[0].x0).abs().max()) > 0.01
