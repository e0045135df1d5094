"""Our routes without Gradio, before a real_app without an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from modules.api.server import build_api
from tests.strangers import tell_apart
from tests.ui.fake_app import FakeApp

BASE = "http://127.0.0.1:7860"


@pytest.fixture
def app(tmp_path: Path) -> FakeApp:
    return FakeApp(tmp_path)


@pytest.fixture
def browser_of(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], TestClient]]:
    """Makes HTTP clients that are users of their own, before one server."""
    tell_apart(monkeypatch)
    server = build_api(app)  # type: ignore[arg-type]
    clients: list[TestClient] = []

    def new() -> TestClient:
        clients.append(TestClient(server, base_url=BASE, raise_server_exceptions=False))
        return clients[-1]

    yield new
    for client in clients:
        client.close()


@pytest.fixture
def client(browser_of: Callable[[], TestClient]) -> TestClient:
    return browser_of()
