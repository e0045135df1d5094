from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from modules.images.infotext import GenerationInfo
from modules.images.outputs import Outputs
from modules.request import Txt2Img

# No test may depend on how fast the machine is.
settings.register_profile("atelier", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("atelier")


def make_info(**fields: Any) -> GenerationInfo:
    request = Txt2Img(**{"prompt": "a cat", "seed": 7, "width": 64, "height": 64, "checkpoint": "sub/model", **fields})
    return GenerationInfo(request, "model", "0123456789", "Karras", "Atelier 0.1.0")


@pytest.fixture
def info() -> GenerationInfo:
    return make_info()


@pytest.fixture
def pixels() -> bytes:
    """64x64 RGB8 that no compression makes small."""
    return random.Random(7).randbytes(64 * 64 * 3)


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return Outputs(tmp_path / "outputs")
