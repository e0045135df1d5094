"""`doctor --check` on a CUDA device."""

from __future__ import annotations

import json

import pytest
import torch

from modules.engine.check import __main__ as check
from modules.settings import ROOT


@pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 is not for a processor; tests/engine/test_check.py is")
def test_the_device_passes(device: torch.device, capsys: pytest.CaptureFixture[str]) -> None:
    """Every attention back end, number format and accelerator; the starter in float16 above all."""
    code = check.main(["--device", str(device), "--json", "--models-dir", str(ROOT / "models"), "--seconds", "300"])
    found = {one["what"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    print(*[f"{one['state']:<8} {what}: {one['found']}" for what, one in found.items()], sep="\n")
    assert [what for what, one in found.items() if one["state"] == "missing"] == []
    assert code == 0
    assert {"atelier-starter float32", "atelier-starter float16", "narrow float16", "math float16"} <= set(found)
