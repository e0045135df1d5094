"""Thousands of bodies and pictures that are nearly right, in this process: whatever comes, no answer is a 5xx.

Repeats exactly: each run draws the same cases.  `ATELIER_FUZZ` times as many when that is set, for a night's run.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from PIL import Image

from modules.api.server import build_api
from modules.app import App
from modules.errors import RequestError
from modules.images.decode import decode
from modules.jobs.worker import engine_configuration
from modules.settings import Settings
from tests.local import LocalLink
from tests.security import pictures
from tests.security.routes import walk

TIMES = int(os.environ.get("ATELIER_FUZZ", "1"))
BODIES, MUTANTS = 5000 * TIMES, 2000 * TIMES

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 63, 64, 2**31, 2**63, 2**64, -(2**63), 1e308, 5e-324, 0.5, "", "x", "20", "\x00", "\ud800"),
    *(
        "a" * 3000,
        "../../etc/passwd",
        "http://127.0.0.1/",
        "data:image/png;base64,",
        "💥" * 50,
        "\u202e",
        "NaN",
        "[a:b:0.5]" * 50,
    ),
    *(
        [],
        [[]],
        [None] * 50,
        {},
        {"": {}},
        {"a": {"b": {"c": []}}},
        [{"path": "/etc/passwd"}],
        {"path": "/etc/passwd"},
        ["x"] * 200,
    ),
]
SMALL = base64.b64encode(pictures.png(8, 8)).decode()
PAINTING = {
    "prompt": "a cat",
    "negative_prompt": "",
    "styles": [],
    "seed": 7,
    "steps": 1,
    "cfg_scale": 5,
    "width": 63,
    "height": 64,
    "sampler_name": "Euler",
    "scheduler": "Karras",
    "batch_size": 1,
    "n_iter": 1,
    "denoising_strength": 0.5,
    "enable_hr": False,
    "override_settings": {"sd_model_checkpoint": "tiny"},
    "alwayson_scripts": {"x": {"args": []}},
    "script_args": [1],
    "init_images": [SMALL],
    "mask": SMALL,
    "mask_blur": 4,
    "inpainting_fill": 1,
    "resize_mode": 0,
    "infotext": "x\nSteps: 3",
}
SEEDS: dict[str, Any] = {
    "/sdapi/v1/txt2img": PAINTING,
    "/sdapi/v1/img2img": PAINTING,
    "/sdapi/v1/png-info": {"image": SMALL},
    "/sdapi/v1/interrogate": {"image": SMALL, "model": "clip"},
    "/sdapi/v1/extra-single-image": {"image": SMALL, "upscaling_resize": 1, "upscaler_1": "None", "resize_mode": 0},
    "/sdapi/v1/extra-batch-images": {"imageList": [{"data": SMALL, "name": "a"}], "upscaling_resize": 1},
    "/sdapi/v1/options": {"CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": "tiny", "outdir_samples": "/tmp"},
    "/controlnet/detect": {"controlnet_module": "none", "controlnet_input_images": [SMALL]},
    "/internal/progress": {"id_task": "x", "id_live_preview": 0, "live_preview": True},
    "/internal/jobs": {
        "prompt": "a cat",
        "width": 63,
        "height": 64,
        "steps": 1,
        "styles": ["x"],
        "box": [0, 0, 1, 1],
        "source": "f" * 64,
    },
    "/api/v1/jobs": {"prompt": "a cat", "width": 63, "height": 64, "steps": 1, "mask": "0" * 64, "source": "f" * 64},
    "/api/v1/forever": {"prompt": "a cat", "width": 63, "height": 64, "steps": 1, "seed": 7},
    "/api/v1/estimate": {"width": 63, "height": 64, "steps": 1, "vae_decoder": "TAESD", "hires": {"width": 128}},
    "/internal/prompt/check": {"prompt": "(a:1.2) [b:c:0.5]", "negative_prompt": "", "styles": [], "steps": 5},
    "/internal/quote": {"width": 63, "height": 64, "steps": 1, "count": 1, "cfg_scale": 7, "source": "f" * 64},
    "/internal/queue/pause": {"paused": True},
    "/internal/jobs/{job_id}/move": {"to": 0, "before": "x"},
}
KEPT = ("width",)
"""Stays as it is: a width that nobody paints, so that no request gets as far as the engine."""


def cases(seed: Any, rng: random.Random) -> bytes:
    """A body near `seed`: fields replaced, added, removed, renamed, nested; now and then cut or with foreign bytes."""
    value = json.loads(json.dumps(seed)) if isinstance(seed, dict) else {"x": 1}
    for _ in range(rng.randint(1, 4)):
        name = rng.choice(list(value) or ["x"])
        act = rng.randrange(6)
        if name in KEPT:
            continue
        if act == 0:
            value.pop(name, None)
        elif act == 1:
            value[rng.choice(["", "x" * 300, "__class__", "prompt", "user", "width ", "\ud800"])] = rng.choice(ODD)
        elif act == 2:
            value[name] = [value.get(name)] * rng.randint(0, 5)
        elif act == 3:
            value[name] = {"data": value.get(name), "name": rng.choice(ODD)}
        else:
            value[name] = rng.choice(ODD)
    data = json.dumps(rng.choice([value, value, value, value, value, [value]])).encode()
    if rng.random() < 0.1:
        data = mutated(data, rng)
    return data


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, a piece cut out, doubled or the end missing."""
    copy = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at, act = rng.randrange(len(copy) + 1), rng.randrange(5)
        span = slice(at, at + rng.choice([1, 1, 2, 4, 16, 64]))
        if act == 0 and copy:
            copy[span] = bytes(rng.randrange(256) for _ in copy[span])
        elif act == 1:
            del copy[span]
        elif act == 2:
            copy[at:at] = copy[span]
        elif act == 3:
            copy[span] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80", b""])
        elif rng.random() < 0.3:
            del copy[at:]
    return bytes(copy)


async def call(server: FastAPI, path: str, body: bytes, kind: str) -> int:
    """One POST straight into the application, its guard included; the status."""
    status, sent = 0, False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    headers = [
        (b"host", b"127.0.0.1:7860"),
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cookie", b"atelier_7860=" + b"f" * 32),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 7860),
        "state": {},
    }
    await asyncio.wait_for(server(scope, receive, send), 60)  # type: ignore[arg-type]
    return status


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[FastAPI]:
    """Our routes before a real App, with an engine in a thread."""
    folder = tmp_path_factory.mktemp("fuzz")
    settings = Settings(data_dir=folder / "data", models_dirs=(models,), outputs_dir=folder / "out")
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    yield build_api(app)
    app.close()


def test_no_body_makes_a_5xx(server: FastAPI) -> None:
    paths = sorted({way.path for way in walk(server.routes) if way.method == "POST"} - RAW)
    assert set(SEEDS) <= set(paths), "a seed for a route that is not there"
    rng = random.Random(20261122)

    async def all_of_them() -> list[tuple[str, int, bytes]]:
        wrong = []
        for number in range(BODIES):
            path = paths[number % len(paths)]
            body = cases(SEEDS.get(path), rng)
            status = await call(server, path.replace("{job_id}", "0" * 32), body, "application/json")
            if not 200 <= status < 500:
                wrong.append((path, status, body[:300]))
        return wrong

    assert asyncio.run(all_of_them()) == []


RAW = {"/internal/sources", "/internal/read", "/api/v1/sources"}
"""Routes that take a picture as it is."""


def sound() -> list[bytes]:
    """Whole pictures of every kind that is read, with texts and profiles."""
    image = Image.open(io.BytesIO(pictures.png(24, 20)))
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a cat\nSteps: 3", 6
    return [
        pictures.long_text(0) + b"",
        pictures.png(24, 20, "P"),
        pictures.png(24, 20, "RGBA"),
        pictures.many_frames(3),
        pictures.text_bomb(b"zTXt", 2, 0),
        pictures.exif_loop(),
        pictures.encoded(image, "JPEG", exif=exif, quality=80),
        pictures.encoded(image.convert("CMYK"), "JPEG"),
        pictures.encoded(image, "JPEG", progressive=True),
        pictures.encoded(image, "WEBP", exif=exif),
        pictures.encoded(image, "WEBP", lossless=True),
        pictures.encoded(image, "AVIF"),
    ]


def mutants() -> Iterator[bytes]:
    rng, wholes = random.Random(7), sound()
    for number in range(MUTANTS):
        yield mutated(wholes[number % len(wholes)], rng)


@pytest.mark.filterwarnings("ignore")
def test_no_picture_is_more_than_refused() -> None:
    """Each comes out loaded, within the bounds, or with a reason."""
    read = 0
    for data in mutants():
        try:
            image = decode(data)
        except RequestError:
            pass
        else:
            read += 1
            assert image.mode in ("RGB", "RGBA")
            image.load()
    assert 0 < read < MUTANTS


@pytest.mark.filterwarnings("ignore")
def test_no_picture_makes_a_5xx(server: FastAPI, tmp_path: Path) -> None:
    async def all_of_them() -> list[tuple[str, int]]:
        wrong = []
        for number, data in enumerate(mutants()):
            if number % 4 == 3:
                path, kind = "/sdapi/v1/png-info", "application/json"
                body = json.dumps({"image": base64.b64encode(data).decode()}).encode()
            else:
                path, kind, body = sorted(RAW)[number % 4], "image/png", data
            status = await call(server, path, body, kind)
            if not 200 <= status < 500:
                wrong.append((path, status))
        return wrong

    assert asyncio.run(all_of_them()) == []
