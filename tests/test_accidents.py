"""The real server as processes: killed in the middle, asked to stop, started twice.  What was accepted comes out, once.

One test, because every start takes seconds: a second server is refused, the first is killed while it paints, the next one is
stopped politely, and the last one finishes everything.
"""

from __future__ import annotations

import io
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modules.settings import ROOT
from tests.tiny import tiny_checkpoint

PATIENCE = 240
"""Seconds after which a test gives up; nothing is measured."""


class Server:
    """A server on a folder of its own, as `webui.py serve` starts it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder, self.cookie = folder, ""
        self.process: subprocess.Popen[str] | None = None
        tiny_checkpoint(folder / "models" / "tiny.safetensors")

    def command(self, port: int) -> list[str]:
        places = [f"--{name}-dir={self.folder / name}" for name in ("data", "models", "outputs")]
        return [sys.executable, "-m", "modules.cli", f"--port={port}", "--no-browser", "--device=cpu", "--exact", *places]

    def start(self) -> None:
        """Start it and wait until its address is printed."""
        self.process = subprocess.Popen(
            self.command(self.port), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines: queue.Queue[str] = queue.Queue()
        said = []

        def read(stream: Any) -> None:
            for line in stream:
                lines.put(line)
            lines.put("")

        threading.Thread(target=read, args=(self.process.stdout,), daemon=True).start()
        while "Atelier is at http" not in (line := lines.get(timeout=PATIENCE)):
            said.append(line)
            assert line, "".join(said)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"content-type": "application/json"} | ({"cookie": self.cookie} if self.cookie else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            if not self.cookie:
                self.cookie = answer.headers["set-cookie"].partition(";")[0]
            return json.load(answer)

    def send(self, picture: Image.Image) -> str:
        """Keep a picture to start from; its id."""
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        headers = {"content-type": "image/png", "cookie": self.cookie}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/internal/sources", buffer.getvalue(), headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return str(json.load(answer)["id"])

    def wait(self, job: str, ready: Any) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while not ready(found := self.ask(f"/internal/jobs/{job}")):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return dict(found)

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return code


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    for name in ("data", "models", "outputs"):
        (tmp_path / name).mkdir()
    running = Server(tmp_path)
    yield running
    if running.process is not None:
        running.end(signal.SIGKILL)


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


@pytest.mark.skipif(os.name == "nt", reason="kills as Unix does")
def test_what_was_accepted_comes_out_once_whatever_happens(server: Server) -> None:
    fields = {"prompt": "a cat", "steps": 12, "width": 64, "height": 64, "sampler": "Euler a", "cfg_scale": 5.0}
    server.start()
    server.ask("/internal/queue")
    jobs = [server.ask("/internal/jobs", {**fields, "seed": 100 * n, "count": 3})["id"] for n in range(4)]
    source, mask = Image.linear_gradient("L").resize((64, 64)).convert("RGB"), Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    start = {"source": server.send(source), "mask": server.send(mask), "mask_blur_x": 0, "mask_blur_y": 0}
    part = server.ask("/internal/jobs", {**fields, **start, "seed": 500})["id"]
    cancelled = server.ask("/internal/jobs", {**fields, "seed": 900})["id"]
    assert server.ask(f"/internal/jobs/{cancelled}/cancel", {}) == {"cancelled": True}

    second = subprocess.run(server.command(0), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert second.returncode not in (0, -signal.SIGKILL)
    assert "another Atelier is using" in second.stderr
    assert "Traceback" not in second.stderr

    server.wait(jobs[0], lambda job: job["step"] >= 2 or job["done"])
    assert server.end(signal.SIGKILL) == -signal.SIGKILL

    server.start()
    left = [job["id"] for job in server.ask("/internal/queue")["jobs"]]
    assert left == [job for job in [*jobs, part] if job in left], "the order is kept"
    assert server.ask(f"/internal/jobs/{cancelled}")["state"] == "cancelled"
    last = server.wait(jobs[3], lambda job: job["step"] >= 1 or job["done"])
    assert server.end(signal.SIGTERM) == 0, "a polite end, with whatever was under way put back"
    assert last["state"] in ("running", "done")

    server.start()
    for number, job in enumerate(jobs):
        found = server.wait(job, lambda job: job["state"] in ("done", "failed"))
        assert (found["state"], found["done"], found["error"]) == ("done", 3, "")
        assert [picture["seed"] for picture in found["pictures"]] == [100 * number + index for index in range(3)]
    found = server.wait(part, lambda job: job["state"] in ("done", "failed"))
    assert (found["state"], found["error"]) == ("done", ""), "the pictures that it starts from were still there"
    painted = next((server.folder / "outputs").rglob("*-500.png"))
    with Image.open(painted) as image:
        assert image.convert("RGB").crop((32, 0, 64, 64)).tobytes() == source.crop((32, 0, 64, 64)).tobytes()
        assert image.convert("RGB").crop((0, 0, 32, 64)).tobytes() != source.crop((0, 0, 32, 64)).tobytes()
    files = [path.relative_to(server.folder / "outputs") for path in (server.folder / "outputs").rglob("*") if path.is_file()]
    assert len([path for path in files if path.parts[0] != "sources"]) == 13, "each picture once, and nothing else"
    assert {path.stem for path in files if path.parts[0] == "sources"} == {start["source"], start["mask"]}
    again = server.ask("/internal/jobs", {**fields, "seed": 0, "count": 3})["id"]
    server.wait(again, lambda job: job["state"] == "done")
    for seed in range(3):
        interrupted, undisturbed = sorted((server.folder / "outputs").rglob(f"*-{seed:03d}-{seed}.png"))
        assert pixels(interrupted) == pixels(undisturbed), "the accidents changed not a bit"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        server.ask("/internal/jobs/" + "0" * 32)
    assert server.end(signal.SIGTERM) == 0
