"""Settings of an App with tiny checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules.settings import Settings
from tests.tiny import tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    tiny_checkpoint(folder / "other.safetensors", seed=1)
    return folder


@pytest.fixture
def settings(tiny_folder: Path, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", models_dirs=(tiny_folder,), outputs_dir=tmp_path / "out")
