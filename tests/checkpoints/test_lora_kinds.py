"""Every kind of adapter against LyCORIS' own modules with random weights: what a layer answers with the side path is what it
answers there, and what a file of that module says is what we read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lycoris.modules import (
    ButterflyOFTModule,
    DiagOFTModule,
    FullModule,
    GLoRAModule,
    IA3Module,
    LoConModule,
    LohaModule,
    LokrModule,
    NormModule,
)
from safetensors.torch import save_file
from torch import Tensor, nn

from modules.checkpoints.loras import Loras
from modules.diffusion.deltas import Hadamard
from modules.diffusion.forward import Conv2d, GroupNorm, LayerNorm, Linear, context_for, name_layers
from modules.diffusion.kernels import PLAIN
from modules.diffusion.networks import AdaptableNetwork
from modules.errors import CheckpointError

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: Linear(16, 32),
    "1x1": lambda: Conv2d(16, 32, 1),
    "3x3": lambda: Conv2d(16, 32, 3, padding=1),
    "strided": lambda: Conv2d(16, 32, 3, stride=2, padding=1),
}
KINDS: dict[str, tuple[type, dict[str, Any], tuple[str, ...]]] = {
    "lora": (LoConModule, {"lora_dim": 4, "alpha": 2}, ("linear", "1x1", "3x3", "strided")),
    "lora, tucker": (LoConModule, {"lora_dim": 4, "alpha": 2, "use_tucker": True}, ("3x3", "strided")),
    "lora, scalar": (LoConModule, {"lora_dim": 4, "alpha": 2, "use_scalar": True}, ("linear",)),
    "dora": (LoConModule, {"lora_dim": 4, "weight_decompose": True, "wd_on_out": True}, ("linear", "3x3", "strided")),
    "dora, columns": (LoConModule, {"lora_dim": 4, "weight_decompose": True, "wd_on_out": False}, ("linear", "3x3")),
    "loha": (LohaModule, {"lora_dim": 4, "alpha": 2}, ("linear", "1x1", "3x3", "strided")),
    "loha, tucker": (LohaModule, {"lora_dim": 4, "alpha": 2, "use_tucker": True}, ("3x3",)),
    "lokr": (LokrModule, {"lora_dim": 1, "alpha": 2, "factor": 4}, ("linear", "1x1", "3x3", "strided")),
    "lokr, both factored": (LokrModule, {"lora_dim": 1, "decompose_both": True, "factor": 4}, ("linear", "3x3")),
    "lokr, full": (LokrModule, {"lora_dim": 100, "alpha": 2, "factor": 4}, ("linear",)),
    "lokr, tucker": (LokrModule, {"lora_dim": 1, "use_tucker": True, "factor": 4}, ("3x3",)),
    "glora": (GLoRAModule, {"lora_dim": 4, "alpha": 2}, ("linear", "1x1")),
    "ia3": (IA3Module, {"train_on_input": False}, ("linear", "3x3")),
    "ia3, on input": (IA3Module, {"train_on_input": True}, ("linear", "3x3")),
    "oft": (DiagOFTModule, {"lora_dim": 4, "alpha": 1, "constraint": 0}, ("linear", "3x3")),
    "oft, constrained and rescaled": (
        DiagOFTModule,
        {"lora_dim": 4, "alpha": 1, "constraint": 1, "rescaled": True},
        ("linear",),
    ),
    "boft": (ButterflyOFTModule, {"lora_dim": 4, "alpha": 1, "constraint": 0}, ("linear", "3x3")),
    "full": (FullModule, {}, ("linear", "3x3")),
}


class Network(nn.Module):
    """One layer called "proj"."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.proj = layer


def read(folder: Path, layer: nn.Module, tensors: dict[str, Tensor], name: str = "ink") -> Any:
    """What we read of a file with these tensors for a network with this one layer."""
    (folder / "loras").mkdir(exist_ok=True)
    save_file(
        {f"lora_unet_proj.{key}": value.contiguous() for key, value in tensors.items()},
        folder / "loras" / f"{name}.safetensors",
    )
    layers: dict[str, Any] = {"proj": layer}
    of_norms = isinstance(layer, nn.GroupNorm | nn.LayerNorm)
    reached = ({}, layers) if of_norms else (layers, {})
    network = AdaptableNetwork(reached[0], {"proj": "proj"}, torch.device("cpu"), torch.float32, reached[1])
    return Loras([folder]).read(name, {"unet": network}, network)


@pytest.mark.parametrize(("kind", "shape"), [(kind, shape) for kind, (_, _, shapes) in KINDS.items() for shape in shapes])
def test_side_paths_equal_lycoris(kind: str, shape: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    made, options, _ = KINDS[kind]
    layer = LAYERS[shape]()
    plain = nn.Linear(16, 32) if shape == "linear" else nn.Conv2d(16, 32, layer.kernel_size, layer.stride, layer.padding)  # type: ignore[arg-type]
    plain.load_state_dict(layer.state_dict())
    module = made("proj", plain, multiplier=1.0, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    module.apply_to()
    tensors = {key: value.detach().clone() for key, value in module.state_dict().items()}
    x = torch.randn(3, 5, 16) if shape == "linear" else torch.randn(3, 16, 8, 8)
    with torch.no_grad():
        expected = module(x)
        adapter = read(tmp_path, layer, tensors).parts["unet"]
        rows = [[(adapter, 1.0)], [], [(adapter, 1.0)]]
        name_layers(Network(layer))
        out = layer(x, context_for(rows, [()] * 3, None, torch.device("cpu")))
        assert torch.allclose(out[1], layer(x)[1], atol=1e-6), "a row without it is as it was"
    assert (expected - layer(x)).abs().max() > 0.05, "the test can fail"
    assert torch.allclose(out[[0, 2]], expected[[0, 2]], atol=2e-5, rtol=1e-4)
    delta = adapter.deltas["proj"]
    merged = _with(layer, layer.weight + delta.weight(layer.weight), x) - _with(layer, layer.weight, x)  # type: ignore[operator, arg-type]
    changed = delta.change(x, layer) - delta.change(torch.zeros_like(x), layer)  # without the bias of a full difference
    assert torch.allclose(changed, merged, atol=2e-5, rtol=1e-4), "its cheap form is its difference of the weight"


def _with(layer: nn.Module, weight: Any, x: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(x, weight)
    assert isinstance(layer, nn.Conv2d)
    return nn.functional.conv2d(x, weight, None, layer.stride, layer.padding)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"lora_down.weight": torch.zeros(0, 16), "lora_up.weight": torch.zeros(32, 0)}, "rank is 0"),
        ({"lora_down.weight": torch.full((2, 16), float("nan")), "lora_up.weight": torch.zeros(32, 2)}, "NaN"),
        ({"lora_down.weight": torch.zeros(3, 16), "lora_up.weight": torch.zeros(32, 2)}, "ranks 3 and 2"),
        ({"lora_down.weight": torch.zeros(2, 8), "lora_up.weight": torch.zeros(32, 2)}, "fits no layer"),
        ({"lokr_w1": torch.zeros(2, 2)}, "lokr_w2_a is missing"),
        ({"something": torch.zeros(2)}, "fits no layer"),
    ],
    ids=["rank 0", "NaN", "ranks", "shape", "half", "foreign"],
)
def test_what_cannot_be_right_is_refused_with_the_reason(tensors: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path, Linear(16, 32), tensors)


def test_a_full_difference_of_the_bias_and_a_replaced_weight(tmp_path: Path) -> None:
    layer, x = Linear(16, 32), torch.randn(2, 16)
    bias, weight = torch.randn(32), torch.randn(32, 16)
    changed = read(tmp_path, layer, {"diff": torch.zeros(32, 16), "diff_b": bias}, "bias").parts["unet"].deltas["proj"]
    assert torch.allclose(changed.change(x, layer), bias.expand(2, 32), atol=1e-6)
    replaced = read(tmp_path, layer, {"set_weight": weight}, "set").parts["unet"].deltas["proj"]
    assert torch.allclose(layer(x) + replaced.change(x, layer), nn.functional.linear(x, weight, layer.bias), atol=1e-5)


NORMS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], tuple[int, ...]]] = {
    "group": (lambda: GroupNorm(4, 16), lambda: nn.GroupNorm(4, 16), (3, 16, 8, 6)),
    "layer": (lambda: LayerNorm(16), lambda: nn.LayerNorm(16), (3, 5, 16)),
}


def drawn_norm(kind: str) -> tuple[Any, Any, Tensor]:
    """Our norm, torch's with the same random weights, and an input of three rows."""
    torch.manual_seed(5)
    make, make_plain, shape = NORMS[kind]
    ours, plain = make(), make_plain()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(torch.randn_like(parameter))
    plain.load_state_dict(ours.state_dict())
    return ours, plain, torch.randn(shape)


def adapted_rows(norm: Any, adapter: Any, x: Tensor) -> Tensor:
    """The norm's output where the first and the last row have the adapter, half and whole."""
    name_layers(Network(norm))
    context = context_for([[(adapter, 0.5)], [], [(adapter, 1.0)]], [()] * 3, None, torch.device("cpu"))
    return norm.by(PLAIN, x, context)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", NORMS)
@torch.no_grad()
def test_changes_of_norms_equal_lycoris(kind: str, tmp_path: Path) -> None:
    norm, plain, x = drawn_norm(kind)
    module = NormModule("proj", plain, multiplier=1.0)
    for parameter in module.parameters():
        parameter.copy_(torch.randn_like(parameter))
    adapter = read(tmp_path, norm, dict(module.state_dict())).parts["unet"]
    module.apply_to()
    out = adapted_rows(norm, adapter, x)
    expected, before = module(x), norm.by(PLAIN, x)
    assert (expected - before).abs().max() > 0.5, "the test can fail"
    torch.testing.assert_close(out[0], (before[0] + expected[0]) / 2, rtol=1e-5, atol=1e-5)
    assert torch.equal(out[1], before[1]), "a row without it is as it was"
    torch.testing.assert_close(out[2], expected[2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("names", [("diff",), ("diff_b",), ("diff", "diff_b"), ("set_weight",), ("set_weight", "diff_b")])
@torch.no_grad()
def test_differences_and_replaced_weights_of_norms(kind: str, names: tuple[str, ...], tmp_path: Path) -> None:
    norm, plain, x = drawn_norm(kind)
    tensors = {name: torch.randn(16) for name in names}
    adapter = read(tmp_path, norm, tensors).parts["unet"]
    plain.weight += tensors.get("diff", 0)
    plain.weight.copy_(tensors.get("set_weight", plain.weight))
    plain.bias += tensors.get("diff_b", 0)
    torch.testing.assert_close(adapted_rows(norm, adapter, x)[2], plain(x)[2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "tensors",
    [
        {"w_norm": torch.zeros(8)},
        {"w_norm": torch.zeros(16), "b_norm": torch.zeros(8)},
        {"lora_down.weight": torch.zeros(2, 16), "lora_up.weight": torch.zeros(16, 2)},
    ],
    ids=["width", "bias", "matrix"],
)
def test_a_change_that_is_none_of_a_norm_is_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="fits no layer"):
        read(tmp_path, LayerNorm(16), tensors)


LOHA = {f"hada_w{side}_{half}": torch.ones(32, 2) if half == "a" else torch.ones(2, 16) for side in (1, 2) for half in "ab"}


@pytest.mark.parametrize("kept", [True, False])
@torch.no_grad()
def test_a_difference_without_a_cheaper_form_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    monkeypatch.setattr("modules.checkpoints.loras.KEPT_DENSE", 32 * 16 * 4 if kept else 32 * 16 * 4 - 1)
    made: list[Tensor] = []
    weight = Hadamard.weight
    monkeypatch.setattr(Hadamard, "weight", lambda delta, of: made.append(of) or weight(delta, of))
    layer, x = Linear(16, 32), torch.randn(2, 16)
    delta = read(tmp_path, layer, LOHA).parts["unet"].deltas["proj"]
    made.clear()
    first = delta.change(x, layer)
    for _ in range(3):
        assert torch.equal(delta.change(x, layer), first)
    assert len(made) == (1 if kept else 4)


def test_what_is_kept_counts_as_the_adapter_s_memory(tmp_path: Path) -> None:
    layer = Linear(16, 32)
    (tmp_path / "loras").mkdir()
    save_file({f"lora_unet_proj.{key}": value for key, value in LOHA.items()}, tmp_path / "loras" / "ink.safetensors")
    network = AdaptableNetwork({"proj": layer}, {"proj": "proj"}, torch.device("cpu"), torch.float32)
    loaded = Loras([tmp_path]).read("ink", {"unet": network}, network)
    assert loaded.size == sum(value.numel() * 4 for value in LOHA.values()) + 32 * 16 * 4
