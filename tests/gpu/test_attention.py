"""Attention on a CUDA device: every back end is right or refuses, and the measured choice holds, under graph capture too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modules.diffusion.attention import Attend, choose_attention, sliced, with_fallback
from modules.diffusion.attention.backends import TOLERANCES, difference, failed_device, plain
from modules.diffusion.attention.choice import candidates
from modules.diffusion.attention.measured import CudaClock, Forgetful, Measured, Shape
from modules.diffusion.vae import AttnBlock
from modules.engine.attention_file import AttentionFile, driver_version, fingerprint

STARTER = [(2, 256, 256, 8, 16), (2, 256, 77, 8, 16), (2, 64, 64, 8, 24), (2, 64, 154, 8, 24)]
NARROW = [(2, 256, 256, 8, 12), (2, 64, 154, 8, 20)]
SD1 = [(2, 4096, 4096, 8, 40), (2, 4096, 77, 8, 40), (2, 1024, 1024, 8, 80), (2, 256, 231, 8, 160), (3, 63, 63, 8, 160)]
VAE = [(1, 4096, 4096, 1, 512), (1, 1024, 1024, 1, 512)]
NAMES = ("cudnn", "flash", "efficient", "xformers", "math", "sliced")


def values(
    device: torch.device, dtype: torch.dtype, batch: int, queries: int, keys: int, heads: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(batch, n, heads, width, generator=generator) for n in (queries, keys, keys))
    return q.to(device, dtype), k.to(device, dtype), v.to(device, dtype)


def held(attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> float:
    """How far the last queries' answers are from the formula's."""
    last = slice(max(0, q.shape[1] - 128), None)
    return difference(attend(q, k, v)[:, last], plain(q[:, last], k, v))


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="captures, streams and drivers are CUDA's")


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("sizes", [*STARTER, *NARROW, *SD1, *VAE], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_back_end_is_right_or_refuses(
    device: torch.device, name: str, sizes: tuple[int, int, int, int, int], dtype: torch.dtype
) -> None:
    attend = {**candidates(device)[0], "sliced": sliced}.get(name)
    if attend is None:
        pytest.skip(candidates(device)[1])
    try:
        apart = held(attend, *values(device, dtype, *sizes))
    except Exception as error:
        if failed_device(error) or name in ("math", "sliced"):  # these two take everything
            raise
        pytest.skip(f"refused: {str(error)[:100]}")
    assert apart <= TOLERANCES[dtype]


@pytest.mark.parametrize("name", ["auto", "xformers", "sdpa", "sliced"])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("sizes", [*NARROW, STARTER[3], SD1[1], VAE[1]], ids=str)
def test_each_setting_takes_every_shape(
    device: torch.device, name: str, dtype: torch.dtype, sizes: tuple[int, int, int, int, int]
) -> None:
    """Heads of 12 and 20 numbers, of no multiple of 8, are what no fused kernel takes in half precision."""
    attend = with_fallback(name) if name != "auto" else choose_attention("auto", device).attend
    for _ in range(2):
        assert held(attend, *values(device, dtype, *sizes)) <= TOLERANCES[dtype]


def measured(device: torch.device, path: Path | None = None) -> Measured:
    store = AttentionFile(path, fingerprint(device)) if path else Forgetful()
    return Measured(candidates(device)[0], CudaClock(device), store)


@needs_cuda
def test_the_choice_is_measured_kept_and_taken_again(device: torch.device, tmp_path: Path) -> None:
    attend = measured(device, tmp_path / "attention.json")
    for sizes in SD1:
        q, k, v = values(device, torch.float16, *sizes)
        attend(q, k, v)
        ranking = attend.ranking(Shape.of(q, k))
        if ranking:  # near shapes take what is clear from a measured one
            assert attend.taken(Shape.of(q, k)) == ranking[0][0]
            assert all(0 < ms < 1000 for _, ms in ranking)
            assert ranking[0][1] <= min(ms for _, ms in ranking) / 0.97
            print(sizes, ranking)
    known = AttentionFile(tmp_path / "attention.json", fingerprint(device)).load()
    assert Shape(2, 4096, 4096, 8, 40, "float16") in known

    class Forbidden(CudaClock):
        def milliseconds(self, call: Callable[[], object], runs: int) -> float:
            raise AssertionError("it is known")

    again = Measured(candidates(device)[0], Forbidden(device), AttentionFile(tmp_path / "attention.json", fingerprint(device)))
    q, k, v = values(device, torch.float16, *SD1[0])
    assert held(again, q, k, v) <= TOLERANCES[torch.float16]


@needs_cuda
def test_the_driver_has_a_version(device: torch.device) -> None:
    assert driver_version() != "unknown"
    assert torch.cuda.get_device_name(device) in fingerprint(device)


def captured(call: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()
    return graph, out


@needs_cuda
@pytest.mark.parametrize("sizes", [SD1[0], SD1[1], STARTER[0], NARROW[0]], ids=str)
def test_a_known_shape_is_captured_and_replayed(device: torch.device, sizes: tuple[int, int, int, int, int]) -> None:
    attend = measured(device)
    q, k, v = values(device, torch.float16, *sizes)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(stream):
        attend(q, k, v)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.inference_mode():
        graph, out = captured(lambda: attend(q, k, v))
        fresh = values(device, torch.float16, *sizes)[0].flip(1)
        q.copy_(fresh)
        graph.replay()
        torch.cuda.synchronize()
        assert difference(out[:, -64:], plain(fresh[:, -64:], k, v)) <= TOLERANCES[torch.float16]


@needs_cuda
def test_nothing_is_measured_during_a_capture(device: torch.device) -> None:
    """A wait or an event's time would break the capture, so that it comes to its end is the proof."""
    attend = measured(device)
    q, k, v = values(device, torch.float16, *SD1[2])
    with torch.inference_mode():
        torch.nn.functional.scaled_dot_product_attention(*(each.transpose(1, 2) for each in (q, k, v)))
        torch.cuda.synchronize()
        graph, out = captured(lambda: attend(q, k, v))
        graph.replay()
        torch.cuda.synchronize()
    assert attend.ranking(Shape.of(q, k)) == ()
    assert difference(out[:, -64:], plain(q[:, -64:], k, v)) <= TOLERANCES[torch.float16]
    attend(q, k, v)
    assert attend.ranking(Shape.of(q, k)), "measured at the first call outside"


@needs_cuda
def test_measuring_leaves_the_random_numbers_of_the_device_alone(device: torch.device) -> None:
    torch.cuda.manual_seed(1)
    before = torch.cuda.get_rng_state(device)
    measured(device)(*values(device, torch.float16, *SD1[2]))
    assert torch.equal(torch.cuda.get_rng_state(device), before)


@needs_cuda
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_autoencoder_s_attention(device: torch.device, layout: torch.memory_format) -> None:
    """One head of width 512, whose numbers lie side by side in channels-last only."""
    torch.manual_seed(0)
    block = AttnBlock(512, measured(device)).to(device, torch.bfloat16).eval()
    reference = AttnBlock(512, sliced).to(device).eval()
    reference.load_state_dict({name: value.float() for name, value in block.state_dict().items()})
    block.to(memory_format=layout)
    x = torch.randn(1, 512, 64, 64, device=device)
    with torch.inference_mode():
        out = block(x.to(torch.bfloat16).contiguous(memory_format=layout)).float()
        assert (out - reference(x)).abs().max() < 0.1


@needs_cuda
def test_little_memory_leaves_a_choice(device: torch.device) -> None:
    """Where the samples do not fit, the call itself still runs."""
    attend = measured(device)
    q, k, v = values(device, torch.float16, 2, 4096, 4096, 8, 40)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + 40 * 2**20) / total, device)
        out = attend(q, k, v)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert difference(out[:, -64:], plain(q[:, -64:], k, v)) <= TOLERANCES[torch.float16]
