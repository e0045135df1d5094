"""Seconds of a forward with LoRAs as side paths beside one with merged weights, turn by turn in one run, and of a switch.

The network is a narrow U-Net of SD 1.x's depth; on a GPU the full-width one in float16.  A forward has two rows (guidance).
On a CPU it is one thread's processor time, which other programs do not lengthen.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from modules.checkpoints import lora_names
from modules.checkpoints.loras import Loras
from modules.diffusion.adapters import Adapter, LowRank
from modules.diffusion.attention import choose_attention
from modules.diffusion.forward import adaptable_layers, context_for
from modules.diffusion.networks import AdaptableNetwork
from modules.diffusion.unet import UNet, UNetConfig
from tests.bench import Figure

TURNS = 9
COUNTS = (0, 1, 3, 8)
RANK = 16


def _lora(unet: UNet, number: int) -> Adapter:
    """On every layer of the transformers, as kohya's trainer makes it."""
    drawn = torch.Generator().manual_seed(number)
    deltas = {}
    for place, layer in adaptable_layers(unet).items():
        if ".transformer_blocks." in place:
            out, incoming = layer.weight.shape
            down, up = (torch.randn(shape, generator=drawn) * 0.01 for shape in ((RANK, incoming), (out, RANK)))
            deltas[place] = LowRank(down.to(layer.weight), up.to(layer.weight), 1.0)
    return Adapter(f"lora {number}", deltas)


@torch.inference_mode()
def measure() -> Iterator[Figure]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    if device.type == "cpu":
        torch.set_num_threads(1)
    config = UNetConfig() if device.type == "cuda" else UNetConfig(channels=(64, 128, 256, 256))
    side = 64 if device.type == "cuda" else 16
    unet = UNet(config, choose_attention("auto", device).attend).to(device, dtype).eval().to(memory_format=torch.channels_last)
    if device.type == "cuda":
        unet.join()
    x = torch.randn(4, 4, side, side, device=device, dtype=dtype)
    timesteps, context = torch.full((4,), 500.0, device=device), torch.randn(4, 77, 768, device=device, dtype=dtype)
    loras = [_lora(unet, number) for number in range(max(COUNTS))]

    def forward(rows: list[list[tuple[Adapter, float]]]) -> Callable[[], Tensor]:
        count = len(rows)
        ctx = context_for(rows, [()] * count, None, device)
        return lambda: unet(x[:count], timesteps[:count], context[:count], ctx)

    merged = forward([[]] * 2)  # as fast as with merged weights: they are as large
    calls = {str(count): forward([[(one, 1.0) for one in loras[:count]]] * 2) for count in COUNTS}
    calls |= {"merged": merged, "first": forward([[(loras[0], 1.0)]] * 2), "second": forward([[(loras[1], 1.0)]] * 2)}
    calls["both users"] = forward([[(loras[0], 1.0)]] * 2 + [[(loras[1], 1.0)]] * 2)
    seconds = _in_turns(calls, device)
    how = f"{device.type}, {str(dtype).removeprefix('torch.')}, rank {RANK}, median of {TURNS}"
    yield Figure("merged weights, 2 rows", statistics.median(seconds["merged"]), "s", how)
    for count in COUNTS:
        yield Figure(f"{count} side paths beside merged weights", _ratio(seconds[str(count)], seconds["merged"]), "times", how)
    alone = [a + b for a, b in zip(seconds["first"], seconds["second"], strict=True)]
    yield Figure("two users' LoRAs in one forward beside two alone", _ratio(seconds["both users"], alone), "times", how)
    layers = adaptable_layers(unet)
    yield Figure("switching: merging one LoRA into the weights", _merging(loras[0], layers, device), "s", how)
    yield from _switch(unet, layers, device, dtype, how)


def _in_turns(calls: dict[str, Callable[[], Tensor]], device: torch.device) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(TURNS + 1):
        for name, call in calls.items():
            taken = _timed(call, device)
            if turn:
                seconds[name].append(taken)
    return seconds


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _merging(lora: Adapter, layers: dict[str, torch.nn.Linear | torch.nn.Conv2d], device: torch.device) -> float:
    def merge() -> None:
        for place, delta in lora.deltas.items():
            layers[place].weight.add_(delta.weight(layers[place].weight).to(layers[place].weight))

    return _timed(merge, device)


def _switch(
    unet: UNet, layers: dict[str, torch.nn.Linear | torch.nn.Conv2d], device: torch.device, dtype: torch.dtype, how: str
) -> Iterator[Figure]:
    """From the name of a file that the system has in memory to side paths on the device, and to those read before."""
    stems = lora_names.unet_aliases(layers, len(unet.config.channels), unet.config.res_blocks)
    network = AdaptableNetwork(layers, stems, device, dtype)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "loras").mkdir()
        tensors = {}
        for place, delta in _lora(unet, 0).deltas.items():
            assert isinstance(delta, LowRank)
            stem = "lora_unet_" + place.replace(".", "_")
            tensors |= {f"{stem}.lora_down.weight": delta.down.half().cpu(), f"{stem}.lora_up.weight": delta.up.half().cpu()}
        save_file(tensors, Path(folder) / "loras" / "ink.safetensors")
        read: list[float] = []
        for _ in range(3):
            shelf = Loras([Path(folder)])
            read.append(_timed(lambda shelf=shelf: shelf.read("ink", {"unet": network}, network), device))  # type: ignore[misc]
        again = [_timed(lambda: shelf.read("ink", {"unet": network}, network), device) for _ in range(5)]
    yield Figure("switching: reading a LoRA's file", statistics.median(read), "s", how)
    yield Figure("switching: to a LoRA that was read", statistics.median(again), "s", how)


def _timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of the device; on a CPU those of this process alone."""
    if device.type == "cpu":
        begun = time.process_time()
        call()
        return time.process_time() - begun
    begun = time.perf_counter()
    call()
    torch.cuda.synchronize(device)
    return time.perf_counter() - begun
