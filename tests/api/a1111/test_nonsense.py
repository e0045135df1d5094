"""Bodies that nobody would send on purpose: every answer is a plain one, never a 5xx, and never without an end."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from modules.api.a1111.requests import PictureBody, TextBody
from modules.api.server import build_api
from modules.app import App
from modules.settings import Settings
from tests.api.a1111.conftest import as_text, png
from tests.api.conftest import BASE
from tests.scripted import EagerLink

BODIES = 160
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 8, 64, 101, 2**31, 2**63, 10**40, 0.5, -0.0, 1e308, float("nan"), float("inf"), 20.5),
    *(
        "",
        "20",
        " 7 ",
        "nan",
        "1e999",
        "\ud800",
        "\x00",
        "a" * 40_000,
        "../../etc/passwd",
        "http://127.0.0.1:9/x",
        "None",
        "Euler a",
    ),
    *("[a:b:0.5] " * 50, "(" * 500, "<lora:../../x:1>", "__../x__", "%s%n", "data:image/png;base64,", "9" * 5000),
    *([], {}, [[]], [1, "a", None], {"args": []}, {"a": {"b": {}}}, ["x"] * 200),
]


@pytest.fixture(scope="module")
def eager(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder, link = tmp_path_factory.mktemp("nonsense"), EagerLink()
    app = App(Settings(data_dir=folder / "data", models_dirs=(models,), outputs_dir=folder / "out"), link)
    app.start()
    link.hello()
    with TestClient(build_api(app), base_url=BASE, raise_server_exceptions=False) as client:
        yield client
    app.close()


def routes() -> dict[str, list[str]]:
    """Paths that take a body, and fields that they know."""
    extras = ["image", "imageList", "resize_mode", "upscaling_resize", "upscaling_resize_w", "upscaler_1", "gfpgan_visibility"]
    return {
        "/sdapi/v1/txt2img": list(TextBody.model_fields),
        "/sdapi/v1/img2img": list(PictureBody.model_fields),
        "/sdapi/v1/extra-single-image": extras,
        "/sdapi/v1/extra-batch-images": extras,
        "/sdapi/v1/png-info": ["image"],
        "/sdapi/v1/interrogate": ["image", "model"],
        "/sdapi/v1/options": ["sd_model_checkpoint", "CLIP_stop_at_last_layers", "s_churn", "temp_dir", "emphasis", "nonsense"],
        "/internal/progress": ["id_task", "id_live_preview", "live_preview"],
        "/controlnet/detect": ["controlnet_images"],
        "/sdapi/v1/interrupt": ["x"],
        "/sdapi/v1/skip": ["x"],
        "/api/v1/jobs": ["prompt", "source", "mask", "box", "count", "checkpoint", "sampler", "styles", "width"],
    }


@pytest.mark.parametrize("seed", range(4))
def test_no_body_makes_the_server_fail(eager: TestClient, seed: int) -> None:
    rng, picture = random.Random(seed), as_text(png())
    known = routes()
    for _ in range(BODIES // 4):
        path = rng.choice([*known, "/sdapi/v1/txt2img", "/sdapi/v1/img2img"])
        body: Any = {"width": 64, "height": 64, "steps": 1, "init_images": [picture], "image": picture}
        if path == "/api/v1/jobs":
            body = {"width": 64, "height": 64, "steps": 1}
        for field in rng.sample(known[path], rng.randint(0, min(2, len(known[path])))):
            body[field] = rng.choice(ODD)
        if rng.random() < 0.05:
            body = rng.choice(ODD)
        answer = eager.post(path, content=json.dumps(body).encode(), headers={"content-type": "application/json"})
        assert answer.status_code < 500, (path, body, answer.text)
        said = answer.json()
        if answer.status_code >= 400:
            assert said["error"], (path, body)
            assert len(answer.text) < 6_000, "what was sent is not echoed"
