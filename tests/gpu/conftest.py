"""Tests that need a CUDA device; elsewhere they are skipped.  `python -m pytest tests/gpu` needs no server, page or browser."""

from __future__ import annotations

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torch says of a machine's other packages is no failure of ours
    import torch

    HERE = torch.cuda.is_available()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "gpu":
            item.add_marker(pytest.mark.filterwarnings("default"))  # torch warns of kernels that a card does not have
            if not HERE:
                item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())
