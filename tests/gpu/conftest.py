"""Tests of a real device: skipped where torch finds no CUDA.  `TEST_DEVICE=cpu` runs them on the processor, to try them out.

They need torch and what README.md lists, none of the packages that serve the page.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torch says of a machine's other packages is no failure of ours
    import torch

HERE = Path(__file__).parent

DEVICE = os.environ.get("TEST_DEVICE", "cuda")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs the device; no warning is an error there, as libraries differ from card to card."""
    ours = [item for item in items if HERE in item.path.parents]
    missing = bool(ours) and _missing()
    for item in ours:
        item.add_marker(pytest.mark.filterwarnings("default"))
        if missing:
            item.add_marker(pytest.mark.skip(reason="torch finds no CUDA device (TEST_DEVICE=cpu runs these on the processor)"))


def _missing() -> bool:
    return DEVICE == "cuda" and not torch.cuda.is_available()


@pytest.fixture(scope="session")
def place() -> str:
    """A value of the setting --device."""
    return DEVICE


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if DEVICE == "cuda" else torch.device(DEVICE)
