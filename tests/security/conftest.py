from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.instance import RunningInstance, Visitor, opened
from tests.security.routes import Way, all_ways
from tests.tiny import tiny_checkpoint


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    return folder


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[RunningInstance]:
    """A local instance, one for all tests."""
    with opened(tmp_path_factory.mktemp("house") / "home", models) as running:
        yield running


@pytest.fixture
def browser(instance: RunningInstance) -> Visitor:
    """A browser of its own, with the page's cookie."""
    visitor = Visitor(instance)
    assert visitor.ask("/", headers=[("Accept", "text/html")]).status == 200
    assert visitor.cookies
    return visitor


@pytest.fixture(scope="session")
def ways(tmp_path_factory: pytest.TempPathFactory) -> list[Way]:
    return all_ways(tmp_path_factory.mktemp("ways"))
