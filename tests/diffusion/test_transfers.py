"""Numbers on their way to a device; and that nothing between a picture's steps is written so that a GPU is waited for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import torch

from modules.diffusion.transfers import numbers, sent

ROOT = Path(__file__).parents[2] / "modules"
ALLOWED = {
    ("diffusion/preview.py", "cpu"): "a map is fitted once for each model, before its pictures",
    ("diffusion/samplers/dpm.py", "float"): "DPM adaptive's steps depend on its error",
    ("diffusion/takeover.py", "tensor"): "an example, before a network is taken over",
    ("pipelines/generate.py", "cpu"): "on a host thread",
    ("pipelines/reference.py", "cpu"): "the reference runner shares nothing and may wait",
    ("diffusion/transfers.py", "tensor"): "where there is nothing to wait for",
    ("pipelines/ops.py", "bool"): "Check.now, for devices that are immediate",
}


def waiting(tree: ast.AST) -> Iterator[str]:
    """Calls that read a tensor on the host, or make one on a device from pageable memory."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if isinstance(node.func, ast.Attribute) and name in ("cpu", "item", "tolist", "nonzero"):
            yield name
        if name in ("tensor", "as_tensor") and any(keyword.arg == "device" for keyword in node.keywords):
            yield name
        inner = node.args[0].func if node.args and isinstance(node.args[0], ast.Call) else None
        reduced = isinstance(inner, ast.Attribute) and inner.attr in ("all", "any", "sqrt", "max", "min", "mean", "sum")
        if name in ("bool", "float") and reduced:
            yield name


def test_what_waits_for_the_device_is_known() -> None:
    found = {
        (str(path.relative_to(ROOT)), call)
        for room in ("diffusion", "pipelines")
        for path in (ROOT / room).rglob("*.py")
        for call in waiting(ast.parse(path.read_text("utf-8")))
    }
    assert found == set(ALLOWED), "a GPU is waited for in a new place, or no more in a known one"


def test_numbers_arrive_as_they_were_sent() -> None:
    cpu = torch.device("cpu")
    levels, timesteps = numbers([[14.6, 0.5], [999, 3.25]], cpu, torch.float32)
    assert levels.tolist() == [torch.tensor(14.6).item(), 0.5]
    assert timesteps.tolist() == [999.0, 3.25]
    assert numbers([1, 2], cpu).dtype == torch.int64
    tensor = torch.ones(2)
    assert sent(tensor, cpu) is tensor
    assert sent(tensor, cpu, torch.bfloat16).dtype == torch.bfloat16
