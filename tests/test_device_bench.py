"""The arithmetic of the device's bench: floors, turns, kernels by kind, and its table."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from modules.diffusion.unet import UNet
from tests.bench import Figure, device
from tests.bench._device.floor import decode_operations, unet_operations
from tests.bench._device.kernels import Kernel, busy, kind
from tests.bench._device.plan import PARTS, Plan, plan
from tests.bench._device.subjects import Subjects
from tests.bench._device.table import read, table
from tests.bench._device.turns import Turns, take_turns


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return plan()


def test_operations_are_those_of_the_layers(on_cpu: Plan) -> None:
    """Counted again from what each layer gets and gives: two per weight and output position, and attention's two products."""
    narrow, counted = replace(on_cpu, narrow=True), 0.0

    class Layers(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal counted
            out = func(*args, **(kwargs or {}))
            if func in (torch.nn.functional.linear, torch.conv2d):
                counted += 2.0 * args[1][0].numel() * out.numel()
            return out

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        nonlocal counted
        counted += 4.0 * q.numel() * k.shape[1]
        return q

    with torch.device("meta"), Layers():
        network = UNet(narrow.unet, attend)
        network(torch.empty(3, 4, 16, 16), torch.empty(3), torch.empty(3, 77, 64))
    assert unet_operations(narrow, 3, 128) == counted
    assert unet_operations(on_cpu, 1, 512) == pytest.approx(0.80e12, rel=0.01), "of the real width"
    assert unet_operations(on_cpu, 1, 1024) > 4.5 * unet_operations(on_cpu, 1, 512), "attention grows with the square"
    assert decode_operations(on_cpu, 1024) > 4 * decode_operations(on_cpu, 512)


def test_the_plan_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert plan().parts == tuple(part for part in PARTS if part != "profile")
    assert set(device.PARTS) == set(PARTS)
    assert plan().for_pictures == ("none", "openvino")
    for name, value in (("PARTS", "unet,profile"), ("ACCELERATORS", "none,compile"), ("SECONDS", "7"), ("NARROW", "1")):
        monkeypatch.setenv(f"ATELIER_BENCH_{name}", value)
    chosen = plan()
    assert chosen.parts == ("unet", "profile")
    assert chosen.for_pictures == ("none", "compile"), "asked for by name"
    assert (chosen.seconds, chosen.narrow) == (7.0, True)
    monkeypatch.setenv("ATELIER_BENCH_PARTS", "unte")
    with pytest.raises(SystemExit, match="unte"):
        plan()


def test_one_that_fails_leaves_the_others_to_be_measured(on_cpu: Plan) -> None:
    calls: list[str] = []

    def fails() -> None:
        raise ValueError("no\nkernel")

    turns = take_turns({"a": lambda: calls.append("a"), "b": fails, "c": lambda: calls.append("c")}, on_cpu, 0.0, warm=0)
    assert turns.failed == {"b": "ValueError: no kernel"}
    assert calls == ["a", "c"] + ["a", "c"] * 3, "in turn"
    figures = list(turns.figures("thing", ("c",)))
    assert [figure.by for figure in figures] == ["a", "c", "b"]
    assert "x c [" in figures[0].how
    assert "ValueError" in figures[2].how


def test_ratios_are_taken_turn_by_turn() -> None:
    """A machine that became three times slower in the last turn changes both medians, and not their ratio."""
    turns = Turns({"a": [1.0, 1.0, 3.0], "b": [2.0, 2.0, 6.0]})
    assert turns.ratio("a", "b") == "0.500 x b [0.500-0.500]"


def test_the_devices_time_is_that_in_which_any_kernel_ran() -> None:
    kernels = [Kernel("b", 50, 20), Kernel("a", 0, 10), Kernel("inside a", 2, 3), Kernel("over the end of b", 60, 30)]
    assert busy(kernels) == pytest.approx((10 + 40) / 1e6)
    assert busy([]) == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x128x64", "convolution"),
        ("void cudnn::ops::nchwToNhwcKernel<__half, __half, float>", "layout copies"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x128", "attention"),
        ("fmha_cutlassF_f16_aligned_64x64_rf_sm80", "attention"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_bias_TNT", "matrix product"),
        ("sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize64x64x64", "matrix product"),
        ("void at::native::(anonymous namespace)::RowwiseMomentsCUDAKernel<c10::Half>", "norm"),
        ("void at::native::elementwise_kernel<128, 4, direct_copy_kernel_cuda>", "layout copies"),
        ("void at::native::vectorized_elementwise_kernel<4, silu_kernel>", "elementwise"),
        ("Memset (Device)", "other"),
    ],
)
def test_kernels_have_a_kind(name: str, expected: str) -> None:
    assert kind(name) == expected


def test_a_part_that_fails_is_a_line(on_cpu: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(plan: Plan, subjects: Subjects) -> None:
        raise RuntimeError("no device")

    monkeypatch.setitem(device.PARTS, "unet", fails)
    monkeypatch.setitem(device.PARTS, "vae", lambda plan, subjects: iter([Figure("decode", 1.0, "ms", by="ours")]))
    chosen = replace(on_cpu, parts=("unet", "vae"), seconds=1e6)
    lines = {figure.what: figure for figure in device._parts(chosen, Subjects(chosen, tmp_path))}
    assert "no device" in lines["unet"].how
    assert lines["decode"].value == 1.0
    late = replace(chosen, seconds=-1.0)
    assert [figure.how for figure in device._parts(late, Subjects(late, tmp_path))] == [device.networks.LATE] * 2


def test_the_table_has_a_column_for_each_program(tmp_path: Path) -> None:
    figures = [
        Figure("device", 2.0, "threads", "CPU"),
        Figure("forward", 1.25, "ms", by="ours"),
        Figure("forward", 2.5, "ms", by="theirs"),
        Figure("kernel conv", 1.0, "ms", by="ours"),
        Figure("left out", float("nan"), "", "not here", by="graphs"),
    ]
    (file := tmp_path / "figures").write_text("".join(json.dumps(asdict(figure)) + "\n" for figure in figures))
    assert list(table(read(file))) == [
        "| what | ours | theirs |",
        "|---|---|---|",
        "| forward, ms | 1.25 | 2.5 |",
        "* device: 2 threads (CPU)",
        "* left out, graphs: not here",
    ]
