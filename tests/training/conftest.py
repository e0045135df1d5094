"""What several tests of the trainer begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules.training.__main__ import main


@pytest.fixture(scope="package")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A starter at the smallest sizes, hardly trained, and so without the stage that is tested."""
    folder = tmp_path_factory.mktemp("starter")
    arguments = ["--smoke", "--device", "cpu", "--work", str(folder / "work")]
    for stage in ("render", "autoencoder", "cache", "polish", "denoiser"):
        assert main([stage, *arguments]) == 0
    file = folder / "starter.safetensors"
    assert main(["export", *arguments, "--model", str(file)]) == 0
    return file
