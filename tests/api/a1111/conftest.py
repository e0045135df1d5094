"""A1111's API before a real App: with a real, tiny engine in a thread, or with an engine whose words the test says."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from modules.api.server import build_api
from modules.app import App
from modules.jobs.worker import engine_configuration
from modules.server import listen
from modules.settings import Settings
from tests.api.conftest import BASE
from tests.local import LocalLink
from tests.scripted import ScriptedLink
from tests.tiny import tiny_checkpoint
from tests.tiny_upscalers import TINY_RRDB, tiny_upscaler

SMALL: dict[str, Any] = {"prompt": "a cat", "seed": 5, "steps": 2, "width": 64, "height": 64}

Visitor = Callable[..., TestClient]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api-models")
    tiny_checkpoint(folder / "tiny.safetensors")
    (folder / "sub").mkdir()
    tiny_checkpoint(folder / "sub" / "other.safetensors", seed=1)
    tiny_upscaler(folder / "ESRGAN" / "Sharp 2x.safetensors")
    tiny_upscaler(folder / "ESRGAN" / "RealESRGAN_x4plus.safetensors", TINY_RRDB)
    return folder


@pytest.fixture(scope="session")
def painting(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Paints for real, in milliseconds; shared by all tests that do not change it."""
    folder = tmp_path_factory.mktemp("painting")
    settings = Settings(data_dir=folder / "data", models_dirs=(models,), outputs_dir=folder / "out")
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    yield app
    app.close()


@pytest.fixture(scope="session")
def api(painting: App) -> Iterator[TestClient]:
    with TestClient(build_api(painting), base_url=BASE, raise_server_exceptions=False) as client:
        client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "tiny"})
        yield client


@pytest.fixture
def link() -> ScriptedLink:
    return ScriptedLink()


@pytest.fixture
def real_app(models: Path, tmp_path: Path, link: ScriptedLink) -> Iterator[App]:
    """Paints what the test says, when it says it."""
    settings = Settings(
        data_dir=tmp_path / "data", models_dirs=(models,), outputs_dir=tmp_path / "out", jobs_per_user=4, jobs_in_total=6
    )
    app = App(settings, link)
    app.start()
    link.hello()
    yield app
    app.close()


@pytest.fixture
def visitor(real_app: App) -> Iterator[Visitor]:
    """Makes clients before one server: a program without a cookie, or a browser with one of its own."""
    server, clients = build_api(real_app), []

    def new(browser: bool = False) -> TestClient:
        clients.append(TestClient(server, base_url=BASE, raise_server_exceptions=False))
        if browser:
            clients[-1].get("/internal/queue")
        return clients[-1]

    yield new
    for client in clients:
        client.close()


@contextmanager
def served(app: App) -> Iterator[str]:
    """The address of a real server around `app`'s routes, in a thread of this process."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(build_api(app), log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()


def png(size: tuple[int, int] = (64, 64), colour: Any = (200, 40, 40), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def as_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def opened(text: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    image.load()
    return image


def detail(answer: Any, status: int = 422) -> str:
    """Why a call was refused; in A1111's shape."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert list(body) == ["error", "detail", "body", "errors"]
    assert body["body"] == ""
    return str(body["detail"])
