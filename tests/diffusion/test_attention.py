"""All attention back ends compute the same, within bounded memory, and the choice says why it took which."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from modules.diffusion.attention import (
    BACKENDS,
    Attend,
    backends,
    choice,
    choose_attention,
    sdpa,
    sliced,
    sliced_to,
    with_fallback,
    xformers,
)
from modules.diffusion.attention.measured import Measured
from modules.diffusion.unet import UNet, UNetConfig
from modules.errors import SettingsError

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 5e-3}


def qkv(batch: int = 2, queries: int = 65, keys: int = 77, heads: int = 3, width: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(batch, n, heads, width, generator=generator) for n in (queries, keys, keys))  # type: ignore[return-value]


def textbook(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Vaswani et al. 2017, equation 1, one head of one row at a time, in double precision."""
    out = torch.empty(q.shape, dtype=torch.float64)
    for b in range(q.shape[0]):
        for h in range(q.shape[2]):
            scores = q[b, :, h].double() @ k[b, :, h].double().T / q.shape[-1] ** 0.5
            out[b, :, h] = scores.softmax(dim=-1) @ v[b, :, h].double()
    return out


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("attend", [sdpa, sliced, sliced_to(1), sliced_to(5000)], ids=["sdpa", "sliced", "single", "few"])
def test_back_ends_agree_with_the_textbook(attend: Attend, dtype: torch.dtype) -> None:
    q, k, v = (t.to(dtype) for t in qkv())
    out = attend(q, k, v)
    assert (out.shape, out.dtype) == (q.shape, dtype)
    assert (out.double() - textbook(q, k, v)).abs().max() < TOLERANCE[dtype]


def test_large_scores_do_not_overflow_in_half_precision() -> None:
    """q kᵀ is beyond float16, q kᵀ / sqrt(head_dim) is not: the scaling has to come first."""
    q, k, v = (t.half() for t in qkv(queries=5))
    q, k = q * 60, k * 60
    scores = torch.einsum("bmhk,bnhk->bhmn", q.double(), k.double())
    assert scores.abs().max() > 65504 > scores.abs().max() / 40**0.5
    for attend in (sdpa, sliced):
        assert attend(q, k, v).isfinite().all()


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, Tensor):
                self.bytes = max(self.bytes, each.numel() * each.element_size())
        return result


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_slices_keep_every_intermediate_below_the_bound(dtype: torch.dtype) -> None:
    q, k, v = (t.to(dtype) for t in qkv(queries=300, keys=300))
    bound = 2 * q.numel() * 4  # room for the tensors that grow with the picture only linearly
    assert bound < 2 * 3 * 300 * 300 * 2, "the whole score matrix would not fit"
    with Largest() as largest:
        sliced(q, k, v, slice_bytes=bound)
    assert 0 < largest.bytes <= bound


def test_xformers_gets_and_returns_its_own_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """xformers wants (batch, tokens, heads, width), contiguous; a stand-in with its interface shows that the door obeys."""
    seen: list[tuple[Tensor, ...]] = []

    def memory_efficient_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        seen.append((query, key, value))
        weights = torch.einsum("bmhk,bnhk->bhmn", query, key).div(query.shape[-1] ** 0.5).softmax(dim=-1)
        return torch.einsum("bhmn,bnhk->bmhk", weights, value)

    package, ops = types.ModuleType("xformers"), types.ModuleType("xformers.ops")
    ops.memory_efficient_attention = memory_efficient_attention  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)

    q, k, v = qkv()
    crooked = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v)]
    assert not crooked[0].is_contiguous()
    assert torch.allclose(xformers(*crooked), sdpa(q, k, v), atol=1e-5)
    assert [t.shape for t in seen[0]] == [q.shape, k.shape, v.shape]
    assert all(t.is_contiguous() for t in seen[0])


def test_a_network_is_the_same_with_every_back_end() -> None:
    config = UNetConfig(channels=(32, 64), res_blocks=1, transformer_depth=(1, 1), context_dim=32)
    torch.manual_seed(0)
    networks = [UNet(config, attend) for attend in (sdpa, sliced, sliced_to(2000))]
    for network in networks[1:]:
        network.load_state_dict(networks[0].state_dict())
    x, context = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 32)
    with torch.inference_mode():
        first, *others = (network(x, torch.tensor([10.0, 700.0]), context) for network in networks)
    assert all((first - other).abs().max() < 1e-5 for other in others)


# ---- the choice


def test_auto_on_a_cpu_is_sdpa_and_says_why() -> None:
    choice = choose_attention("auto", CPU)
    assert (choice.name, choice.attend) == ("sdpa", sdpa)
    assert "xformers has no CPU kernels" in choice.reason
    assert torch.__version__ in choice.reason


@pytest.mark.parametrize(("name", "attend"), [("sdpa", sdpa), ("sliced", sliced)])
def test_a_back_end_by_name(name: str, attend: Attend) -> None:
    choice = choose_attention(name, CPU)
    assert (choice.name, choice.attend, choice.reason) == (name, attend, "asked for")


def test_what_cannot_run_is_refused_with_the_way_out() -> None:
    with pytest.raises(SettingsError, match=r"attention 'flash' is unknown; choose auto, xformers, sdpa, sliced"):
        choose_attention("flash", CPU)
    with pytest.raises(SettingsError, match=r"xformers was asked for, but xformers has no CPU kernels; use --attention auto"):
        choose_attention("xformers", CPU)


def broken(message: str) -> Callable[..., Tensor]:
    def attend(*_: Tensor) -> Tensor:
        raise RuntimeError(message + "\nand a page of build details")

    return attend


def test_on_a_gpu_the_fastest_is_measured_and_xformers_is_among_them_only_when_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One real call decides.  The GPU is played: tensors stay on the CPU, the back end is a stand-in."""
    cuda, zeros = torch.device("cuda", 0), torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device, dtype: zeros(*size, dtype=dtype))
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    assert "xformers is not installed" in choose_attention("auto", cuda).reason

    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(backends, "xformers", broken("no kernel image is available"))
    choice_made = choose_attention("auto", cuda)
    assert choice_made.name == "measured"
    assert "xformers does not run on this GPU (no kernel image is available); 0 shapes measured before" in choice_made.reason
    assert isinstance(choice_made.attend, Measured)
    assert list(choice_made.attend.candidates) == ["cudnn", "flash", "efficient", "math"]
    with pytest.raises(SettingsError, match="no kernel image is available"):
        choose_attention("xformers", cuda)

    monkeypatch.setattr(backends, "xformers", lambda q, k, v: q)
    monkeypatch.setattr(choice.importlib.metadata, "version", lambda name: "0.0.99")
    choice_made = choose_attention("auto", cuda)
    assert isinstance(choice_made.attend, Measured)
    assert list(choice_made.attend.candidates) == ["cudnn", "flash", "efficient", "xformers", "math"]
    assert choice_made.reason.startswith("for each shape the fastest of cudnn, flash, efficient, xformers, math, measured on ")
    assert "xformers 0.0.99" in choice_made.reason


class Picky:
    """A stand-in for xformers: raises as it does for head widths that are no multiple of 8, and counts its calls."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls, self.error = 0, error

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.calls += 1
        if self.error is not None or q.shape[-1] % 8:
            raise self.error or NotImplementedError("No operator found for `memory_efficient_attention_forward`\n  and why")
        return sdpa(q, k, v)


def test_shapes_that_a_back_end_refuses_go_to_the_next_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Heads of 12 and 20 numbers, as narrow models have them: the first picture must be painted, with the reason said once."""
    picky = Picky()
    monkeypatch.setitem(BACKENDS, "xformers", picky)
    attend = with_fallback("xformers")
    for width in (64, 12, 20, 12, 12):
        q, k, v = (torch.randn(2, 10, 4, width) for _ in range(3))
        torch.testing.assert_close(attend(q, k, v), sdpa(q, k, v))
    assert picky.calls == 3, "a refused shape is not tried again"
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, "once for each shape"
    assert said[0] == (
        "attention: xformers does not run for 4 heads of width 12 in float32 "
        "(No operator found for `memory_efficient_attention_forward`); they use sdpa"
    )


@pytest.mark.parametrize("error", [RuntimeError("no kernel image is available"), ValueError("unsupported dtype"), KeyError()])
def test_every_kind_of_refusal_falls_back(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setitem(BACKENDS, "xformers", Picky(error))
    monkeypatch.setitem(BACKENDS, "sdpa", Picky(error))
    q, k, v = (torch.randn(1, 10, 2, 16) for _ in range(3))
    torch.testing.assert_close(with_fallback("xformers")(q, k, v), sliced(q, k, v))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        torch.AcceleratorError("CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: unspecified launch failure"),
        RuntimeError("HIP error: an illegal instruction was encountered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
    ids=str,
)
def test_a_device_that_failed_is_no_refusal(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Asked again with the next picture: an error of the device says nothing of the shape."""
    picky, other = Picky(error), Picky()
    monkeypatch.setitem(BACKENDS, "xformers", picky)
    monkeypatch.setitem(BACKENDS, "sdpa", other)
    attend = with_fallback("xformers")
    q, k, v = (torch.randn(1, 10, 2, 16) for _ in range(3))
    for _ in range(2):
        with pytest.raises(type(error)):
            attend(q, k, v)
    assert (picky.calls, other.calls) == (2, 0)
    picky.error = None
    attend(q, k, v)
    assert (picky.calls, other.calls) == (3, 0)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: no kernel image is available for execution on the device",
        "CUDA error: invalid configuration argument",
        "out of resource: shared memory, Required: 147456, Hardware limit: 101376",
        "No available kernel. Aborting execution.",
        "FlashAttention only supports Ampere GPUs or newer.",
    ],
)
def test_what_a_kernel_cannot_do_is_a_refusal(words: str) -> None:
    assert not backends.failed_device(RuntimeError(words))


def test_an_error_after_which_no_back_end_runs_is_not_remembered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backends = [Picky(RuntimeError(f"broken {name}")) for name in BACKENDS]
    for name, backend in zip(list(BACKENDS), backends, strict=True):
        monkeypatch.setitem(BACKENDS, name, backend)
    attend = with_fallback("xformers")
    q, k, v = (torch.randn(1, 10, 2, 16) for _ in range(3))
    with pytest.raises(RuntimeError, match="broken sliced"):
        attend(q, k, v)
    assert not caplog.records
    for backend in backends:
        backend.error = None
    attend(q, k, v)
    assert [backend.calls for backend in backends] == [2, 1, 1]


def test_the_last_back_end_s_error_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "sliced", Picky(ValueError("nothing goes")))
    with pytest.raises(ValueError, match="nothing goes"):
        with_fallback("sliced")(*(torch.randn(1, 10, 2, 16) for _ in range(3)))
