"""What holds for every test: no network beyond this machine, no settings of the person who runs it, few threads."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Generator
from typing import Any

import pytest

# Before anything imports torch, transformers or gradio.  One thread: tiny networks gain nothing from more, and two that wait
# for each other on a busy machine are up to 30 times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
for _name in [name for name in os.environ if name.startswith("ATELIER_")]:
    del os.environ[_name]

_connect = socket.socket.connect


def _connect_locally(self: socket.socket, address: Any) -> None:
    """A test that reaches for another machine fails there and then, also where the network would have answered."""
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise AssertionError(f"a test wanted to connect to {address[0]}:{address[1]}; tests run offline")
    _connect(self, address)


def pytest_configure(config: pytest.Config) -> None:
    gc.set_threshold(10_000, 10, 10)  # Python's 700 is for programs that live with less; a seventh of the run went there
    socket.socket.connect = _connect_locally  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """Importing all tests and their libraries makes two million objects that stay; looking for garbage among them again and
    again took half of the time until the first test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    socket.socket.connect = _connect  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Elsewhere a missing browser skips its tests; in CI, which installs one, that is a failure."""
    report = yield
    if os.environ.get("CI") and report.skipped and item.get_closest_marker("browser"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not accept: {report.longrepr}"
    return report


@pytest.fixture(scope="module", autouse=True)
def _older_objects_are_not_walked() -> None:
    """Garbage is looked for among what the tests of this file make: each full collection, which the engine asks for where
    memory matters, would walk a million objects of libraries and of earlier files, for most of a second."""
    gc.collect()
    gc.freeze()
