"""CUDA graphs on a device: a replay is what the same kernels compute when they are launched one by one."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from modules.diffusion.adapters import Adapter, LowRank
from modules.diffusion.attention import choose_attention
from modules.diffusion.forward import Linear, context_for
from modules.diffusion.graphs import CudaRecorder, GraphedUNet
from modules.diffusion.kernels import choose_kernels
from modules.diffusion.unet import UNet, UNetConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CONFIG = UNetConfig(channels=(64, 128, 256, 256), context_dim=96)


@pytest.fixture(scope="module")
def unet() -> UNet:
    device = torch.device("cuda")
    torch.manual_seed(0)
    network = UNet(CONFIG, choose_attention("auto", device).attend, choose_kernels(device).kernels)
    network = network.to(device, torch.float16).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    network.join()
    return network


def inputs(rows: int, seed: int, side: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, context = torch.randn(rows, 4, side, side, generator=generator), torch.randn(rows, 77, 96, generator=generator)
    timesteps = torch.rand(rows, generator=generator) * 999
    return x.to("cuda", torch.float16), timesteps.to("cuda"), context.to("cuda", torch.float16)


def close(one: Tensor, other: Tensor) -> bool:
    return float((one.float() - other.float()).norm() / other.float().norm()) < 5e-3


@torch.inference_mode()
def test_replays_are_the_networks_answers(unet: UNet) -> None:
    graphed = GraphedUNet(unet, CudaRecorder(torch.device("cuda")))
    for seed, rows in enumerate((2, 2, 2, 5, 5, 6, 2, 5, 8, 8)):
        given = inputs(rows, seed)
        assert close(graphed(*given), unet(*given))
    assert graphed.replays >= 6


@torch.inference_mode()
def test_adapters_are_in_a_recording(unet: UNet) -> None:
    torch.manual_seed(1)
    deltas = {
        name: LowRank(
            torch.randn(4, layer.in_features, device="cuda").half(),
            torch.randn(layer.out_features, 4, device="cuda").half(),
            0.02,
        )
        for name, layer in unet.named_modules()
        if isinstance(layer, Linear)
    }
    adapter = Adapter("a", deltas)
    graphed = GraphedUNet(unet, CudaRecorder(torch.device("cuda")))
    plain = unet(*inputs(2, 0))
    for seed, strengths in enumerate(((1.0, 1.0), (1.0, 1.0), (0.5, 0.0), (0.0, 2.0))):
        ctx = context_for([[(adapter, strength)] for strength in strengths], [(), ()], None, torch.device("cuda"))
        given = inputs(2, seed)
        assert close(graphed(*given, ctx), unet(*given, ctx))
    assert graphed.replays == 3
    assert not close(graphed(*inputs(2, 0), context_for([[(adapter, 1.0)]] * 2, [(), ()], None, torch.device("cuda"))), plain)


@torch.inference_mode()
def test_a_host_thread_may_allocate_while_a_forward_is_recorded(unet: UNet) -> None:
    graphed, ended = GraphedUNet(unet, CudaRecorder(torch.device("cuda"))), threading.Event()

    def load() -> None:
        sizes = 2**20
        while not ended.is_set():
            torch.ones(sizes).to("cuda")
            sizes += 2**20

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for seed in range(3):
            given = inputs(2, seed, side=40)
            assert close(graphed(*given), unet(*given))
    finally:
        ended.set()
        thread.join()
    assert graphed.replays == 2
