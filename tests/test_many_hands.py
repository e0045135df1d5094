"""A hundred jobs of eight users at once, over HTTP on loopback: each done once, device seconds shared, control never waits.

The server is the real one without the page, the engine runs in this process with a tiny model.  Times are printed, not judged.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from modules.api.server import build_api
from modules.app import App
from modules.jobs.worker import engine_configuration
from modules.server import listen
from modules.settings import Settings
from tests.local import LocalLink
from tests.strangers import tell_apart
from tests.tiny import tiny_checkpoint

USERS, EACH = 8, 12


@pytest.fixture
def served_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[App, str]]:
    tell_apart(monkeypatch)
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    folders = {"data_dir": tmp_path / "data", "models_dirs": (tmp_path,), "outputs_dir": tmp_path / "out"}
    settings = Settings(**folders, jobs_per_user=EACH)  # type: ignore[arg-type]
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(build_api(app), log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield app, f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=30)
    listener.close()
    app.close()


class Bill:
    """Device seconds by user, and what they were when the first user had everything."""

    def __init__(self, app: App) -> None:
        assert isinstance(app.link, LocalLink)
        assert app.link.engine is not None
        self.seconds: Counter[str] = Counter()
        self.longest = 0.0
        self.shares = app.link.engine.shares
        charge = self.shares.charge

        def noted(rows: Mapping[str, int], seconds: float) -> None:
            self.longest = max(self.longest, seconds)
            for user, own in rows.items():
                self.seconds[user] += seconds * own / sum(rows.values())
            charge(rows, seconds)

        self.shares.charge = noted  # type: ignore[method-assign]


async def one_user(address: str, number: int, control: list[float], bill: Bill) -> tuple[list[str], Counter[str]]:
    """Submit everything at once, then look at it until it is done.  Returns the jobs' ids and the bill at that moment."""
    async with httpx.AsyncClient(base_url=address, timeout=300) as client:
        await client.get("/internal/queue")
        side = 64 if number % 2 else 96
        fields = {"prompt": f"user {number}", "steps": 2, "width": side, "height": side, "sampler": "Euler"}
        answers = await asyncio.gather(
            *(client.post("/internal/jobs", json={**fields, "seed": 1000 * number + n}) for n in range(EACH))
        )
        assert {answer.status_code for answer in answers} == {201}, answers[0].text
        refused = await client.post("/internal/jobs", json=fields)
        assert refused.status_code in (201, 429)
        if refused.status_code == 201:  # some jobs were done by then
            answers.append(refused)
        else:
            assert int(refused.headers["retry-after"]) >= 1
        while True:
            start = time.monotonic()
            queue = (await client.get("/internal/queue")).json()
            control.append(time.monotonic() - start)
            if not queue["jobs"]:
                return [answer.json()["id"] for answer in answers], Counter(bill.seconds)
            await asyncio.sleep(0.1)


def test_a_hundred_jobs_of_eight_users(served_app: tuple[App, str]) -> None:
    app, address = served_app
    bill, control = Bill(app), list[float]()

    async def everybody() -> list[Any]:
        return await asyncio.gather(*(one_user(address, number, control, bill) for number in range(USERS)))

    start = time.monotonic()
    results = asyncio.run(everybody())
    seconds = time.monotonic() - start

    ids = [job for jobs, _ in results for job in jobs]
    assert len(ids) == len(set(ids)) >= USERS * EACH
    digests = []
    for job in map(app.store.get, ids):
        assert job is not None
        assert (job.state, len(job.pictures), job.error) == ("done", 1, "")
        path = app.outputs.folder / job.pictures[0].path
        assert hashlib.sha256(path.read_bytes()).hexdigest() == job.pictures[0].sha256
        digests.append(path)
    assert sorted(app.outputs.folder.rglob("*.png")) == sorted(digests), "each once"

    # As long as everybody still had work, everybody had the same seconds, whatever a picture cost.
    first = min((at for _, at in results), key=lambda at: sum(at.values()))
    shares = sorted(first.values())
    assert len(shares) == USERS
    assert shares[0] >= 0.5 * sum(shares) / USERS, f"device seconds by user: {shares}"

    control.sort()
    print(
        f"\n{len(ids)} jobs in {seconds:.1f} s; control p50 {1000 * control[len(control) // 2]:.0f} ms, "
        f"p99 {1000 * control[int(0.99 * len(control))]:.0f} ms; device seconds by user "
        + ", ".join(f"{share:.1f}" for share in shares)
    )


def test_a_client_that_hangs_up_still_gets_its_picture(served_app: tuple[App, str]) -> None:
    """As A1111's API: the job was accepted, so it is done, though its client has gone."""
    _, address = served_app
    cookie = httpx.get(f"{address}/internal/queue").headers["set-cookie"].partition(";")[0]
    body = json.dumps({"prompt": "gone", "steps": 2, "width": 64, "height": 64}).encode()
    host, port = address.removeprefix("http://").split(":")
    head = (
        f"POST /internal/jobs HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + body)
    deadline = time.monotonic() + 120
    while True:
        jobs = httpx.get(f"{address}/internal/jobs", headers={"cookie": cookie}).json()
        if jobs and jobs[0]["state"] == "done":
            break
        assert time.monotonic() < deadline, jobs
        time.sleep(0.05)
    assert (len(jobs), jobs[0]["done"], jobs[0]["request"]["prompt"]) == (1, 1, "gone")
