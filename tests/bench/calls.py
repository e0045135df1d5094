"""What a call costs beside the work that it asks for: on a kept-alive connection, on a new one, and of a whole API picture.

A served program with the real engine in a thread.  The picture's overhead is the time from the request to its answer less the
engine's, from its first call of the device to the picture's pixels; of that, what the host does between the calls (sampler,
progress, conditioning) is printed too.  The starter model paints unless `ATELIER_BENCH_MODEL` names another checkpoint.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modules.app import App
from modules.engine.messages import Done, Message
from modules.jobs.worker import engine_configuration
from modules.pipelines.ops import DeviceOp
from modules.server import build_server
from modules.settings import Settings
from tests.bench import Figure
from tests.local import LocalLink
from tests.ui.conftest import serving

CALLS = 200
PICTURES = 10
SIDES = (256, 512)
"""Pixels: the starter's own size, and SD 1.5's."""


def measure() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        settings = Settings(data_dir=Path(folder) / "data", outputs_dir=Path(folder) / "outputs")
        link = LocalLink(engine_configuration(settings))
        app = App(settings, link, durable=True)
        app.start()
        try:
            with serving(build_server(app)) as origin:
                address = urlsplit(origin).netloc
                yield from _calls(address)
                for side in SIDES:
                    yield from _pictures(address, link, side)
        finally:
            app.close()


def _calls(address: str) -> Iterator[Figure]:
    kept = http.client.HTTPConnection(address)
    for path in ("/health", "/internal/engine", "/sdapi/v1/progress"):
        yield Figure(f"GET {path}, kept alive", _median(lambda path=path: _get(kept, path)) * 1000, "ms", f"median of {CALLS}")
    yield Figure(
        "GET /health, a connection each", _median(lambda: _get(http.client.HTTPConnection(address), "/health")) * 1000, "ms"
    )


def _pictures(address: str, link: LocalLink, side: int) -> Iterator[Figure]:
    kept = http.client.HTTPConnection(address)
    body: dict[str, Any] = {"prompt": "a red apple", "steps": 10, "seed": 1, "width": side, "height": side}
    if name := os.environ.get("ATELIER_BENCH_MODEL"):
        body["override_settings"] = {"sd_model_checkpoint": name}
    _post(kept, body)  # loads the model
    assert link.engine is not None
    runner, emit = link.engine.runner, link.engine.emit
    calls: list[tuple[float, float]] = []
    finished: list[float] = []
    run = runner.run

    def timed(ops: Sequence[DeviceOp]) -> list[Any]:
        start = time.perf_counter()
        try:
            return run(ops)
        finally:
            calls.append((start, time.perf_counter()))

    def emitted(message: Message) -> None:
        if message.kind == Done.kind:
            finished.append(time.perf_counter())
        emit(message)

    runner.run, link.engine.emit = timed, emitted  # type: ignore[method-assign]
    whole, engine, device = [], [], []
    for seed in range(PICTURES):
        calls.clear()
        start = time.perf_counter()
        _post(kept, {**body, "seed": seed})
        whole.append(time.perf_counter() - start)
        engine.append(finished[-1] - calls[0][0])
        device.append(sum(end - begin for begin, end in calls))
    over = [total - within for total, within in zip(whole, engine, strict=True)]
    host = [within - called for within, called in zip(engine, device, strict=True)]
    size, how = f"{side}x{side}", f"median of {PICTURES}, 10 steps"
    yield Figure(f"one API picture of {size}, request to answer", statistics.median(whole) * 1000, "ms", how)
    yield Figure("of it the engine", statistics.median(engine) * 1000, "ms", "first call of the device to the pixels")
    yield Figure("of that between calls of the device", statistics.median(host) * 1000, "ms")
    yield Figure(f"overhead of an API picture of {size}", statistics.median(over) * 1000, "ms", "aim: 15 on an idle machine")
    runner.run, link.engine.emit = run, emit  # type: ignore[method-assign]


def _median(call: Callable[[], Any]) -> float:
    call()
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    return answer.read()


def _post(connection: http.client.HTTPConnection, body: dict[str, Any]) -> None:
    connection.request("POST", "/sdapi/v1/txt2img", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == 200, said[:500]
