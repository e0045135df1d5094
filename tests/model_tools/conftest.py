"""A models folder with tiny checkpoints, and tools that run in the test's own process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modules.model_tools.places import Places
from modules.model_tools.requests import parse
from modules.model_tools.tools import carry_out
from modules.model_tools.work import Work
from tests.tiny import tiny_checkpoint

Do = Callable[..., Work]


@pytest.fixture(scope="package")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three checkpoints of one form: a, b and c."""
    folder = tmp_path_factory.mktemp("tiny-models")
    for seed, name in enumerate("abc"):
        tiny_checkpoint(folder / f"{name}.safetensors", seed=seed)
    return folder


@pytest.fixture
def models(tmp_path: Path, tiny_files: Path) -> Path:
    """A models folder of the test's own, with links to the three."""
    folder = tmp_path / "models"
    (folder / "loras").mkdir(parents=True)
    for name in "abc":
        (folder / f"{name}.safetensors").hardlink_to(tiny_files / f"{name}.safetensors")
    return folder


@pytest.fixture
def do(models: Path, tmp_path: Path) -> Do:
    """Carries out a tool's request from its fields."""

    def run(**fields: Any) -> Work:
        order = Places([models]).order(parse(fields), "run", tmp_path / "hashes.json")
        work = Work(order)
        carry_out(work)
        return work

    return run
