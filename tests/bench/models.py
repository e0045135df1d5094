"""The list of 5,000 model files over HTTP: how long a page of it and a typed search take, cold, while files are read, and after
a restart.  The goals: a page in 200 ms, a search in 50 ms."""

from __future__ import annotations

import json
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from modules.api.server import build_api
from modules.app import App
from modules.settings import Settings
from tests.bench import Figure
from tests.scripted import ScriptedLink

FILES = 5000
STYLES = ("ink", "pixel", "watercolour", "clay", "neon", "charcoal", "poster", "anime")
_STEM = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def measure() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as place:
        folder = Path(place)
        start = time.perf_counter()
        _make(folder / "models")
        yield Figure("files made", FILES / (time.perf_counter() - start), "files/s")
        yield from _server(folder, "first start")
        yield from _server(folder, "restart")


def _server(folder: Path, what: str) -> Iterator[Figure]:
    """One run of the server over the folder, from its first list on."""
    settings = Settings(data_dir=folder / "data", models_dirs=(folder / "models",), outputs_dir=folder / "outputs")
    app = App(settings, ScriptedLink(), durable=True)
    app.start()
    try:
        with TestClient(build_api(app), base_url="http://127.0.0.1:7860") as client:
            seconds, page = _ask(client, kind="lora")
            yield Figure("first list", seconds * 1000, "ms", f"{what}, {page['unread']} of {page['total']} not read yet")
            start, meanwhile = time.perf_counter(), []
            while page["unread"]:
                taken, page = _ask(client, kind="lora")
                meanwhile.append(taken * 1000)
            yield Figure("all files read", time.perf_counter() - start + seconds, "s", what)
            if meanwhile:
                yield Figure("list meanwhile", statistics.median(meanwhile), "ms", f"{what}, longest {max(meanwhile):.0f}")
            began = time.process_time()
            pages = [_ask(client, kind="lora", offset=60 * number)[0] * 1000 for number in range(30)]
            yield Figure("list, computing alone", (time.process_time() - began) / 30 * 1000, "ms", f"{what}, client included")
            yield Figure("list", statistics.median(pages), "ms", f"{what}, longest of 30 {max(pages):.0f}")
            typed = "watercolour trees 12"
            searches = [_ask(client, kind="lora", q=typed[:end])[0] * 1000 for end in range(1, len(typed) + 1)]
            yield Figure("search", statistics.median(searches), "ms", f"{what}, as typed, longest {max(searches):.0f}")
            names = _timed(client, "/internal/prompt/names") * 1000
            yield Figure("names for completion", names, "ms", what)
    finally:
        app.close()


def _ask(client: TestClient, **query: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = client.get("/internal/models", params=query)
    seconds = time.perf_counter() - start
    assert answer.status_code == 200, answer.text
    return seconds, answer.json()


def _timed(client: TestClient, path: str) -> float:
    start = time.perf_counter()
    assert client.get(path).status_code == 200
    return time.perf_counter() - start


def _make(models: Path) -> None:
    """LoRAs with a real header's metadata, half of them with A1111's and a fifth with civitai's neighbours, in 40 folders."""
    tags = {"5_data": {f"tag {number}": 1000 - number for number in range(400)}}
    for number in range(FILES):
        folder = models / "loras" / f"group {number % 5}" / STYLES[number % 8]
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{STYLES[number % 8]}_{number}"
        metadata = {
            "ss_base_model_version": ("sd_v1", "sdxl_base_v1-0")[number % 2],
            "ss_network_dim": "8",
            "ss_tag_frequency": json.dumps(tags),
            "ss_output_name": f"{name}-trained",
        }
        tensors = {f"{_STEM}{layer}.lora_down.weight": (1, 4) for layer in range(200)}
        (folder / f"{name}.safetensors").write_bytes(_file(metadata, tensors))
        if number % 2:
            notes = {"activation text": f"{name}, trees", "preferred weight": 0.8, "notes": "made for a measurement " * 5}
            (folder / f"{name}.json").write_text(json.dumps(notes))
        if number % 5 == 0:
            info = {"baseModel": "SD 1.5", "trainedWords": ["trees"], "model": {"name": name, "description": "<p>x</p>" * 200}}
            (folder / f"{name}.civitai.info").write_text(json.dumps(info))


def _file(metadata: dict[str, str], shapes: dict[str, tuple[int, ...]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * shape[1]
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)
