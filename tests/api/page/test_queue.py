"""The routes of the queue before a real App: own jobs only, limits with Retry-After, pictures in a zip, changes as events."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from modules.api.server import build_api
from modules.app import App
from modules.engine.messages import Message
from modules.settings import Settings
from tests.api.conftest import BASE
from tests.scripted import ScriptedLink
from tests.strangers import tell_apart
from tests.tiny import tiny_checkpoint

SMALL: dict[str, Any] = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    return folder


@pytest.fixture
def link() -> ScriptedLink:
    return ScriptedLink()


@pytest.fixture
def real_app(models: Path, tmp_path: Path, link: ScriptedLink) -> Iterator[App]:
    settings = Settings(
        data_dir=tmp_path / "data", models_dirs=(models,), outputs_dir=tmp_path / "out", jobs_per_user=3, jobs_in_total=5
    )
    app = App(settings, link)
    app.start()
    link.hello()
    yield app
    app.close()


@pytest.fixture
def visitor(real_app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], TestClient]]:
    tell_apart(monkeypatch)
    server, clients = build_api(real_app), []

    def new() -> TestClient:
        clients.append(TestClient(server, base_url=BASE, raise_server_exceptions=False))
        clients[-1].get("/internal/queue")  # the first answer brings the cookie
        return clients[-1]

    yield new
    for client in clients:
        client.close()


def submit(client: TestClient, **fields: Any) -> str:
    answer = client.post("/internal/jobs", json={**SMALL, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def wait_for(real_app: App, client: TestClient, job: str, done: int) -> dict[str, Any]:
    while (found := client.get(f"/internal/jobs/{job}").json())["done"] < done:
        assert found["state"] not in ("failed", "cancelled"), found["error"]
    return dict(found)


def test_submit_and_see_it_in_the_queue(visitor: Callable[[], TestClient]) -> None:
    mine, yours = visitor(), visitor()
    first, second = submit(mine), submit(mine, count=2)
    submit(yours, prompt="a secret")
    queue = mine.get("/internal/queue").json()
    assert [job["id"] for job in queue["jobs"]] == [first, second]
    assert queue["others"] == {"users": 1, "jobs": 1, "pictures": 1, "seconds": None}
    assert (queue["limits"], queue["paused"], queue["notice"]) == ({"per_user": 3, "total": 5}, False, "")
    assert "secret" not in mine.get("/internal/queue").text


def test_the_same_key_is_the_same_job(visitor: Callable[[], TestClient]) -> None:
    client = visitor()
    ids = {
        client.post("/internal/jobs", json={**SMALL, "seed": -1}, headers={"Idempotency-Key": "k"}).json()["id"]
        for _ in range(3)
    }
    assert len(ids) == 1
    assert len(client.get("/internal/queue").json()["jobs"]) == 1


def test_too_many_get_a_retry_after(visitor: Callable[[], TestClient]) -> None:
    client, other = visitor(), visitor()
    for _ in range(3):
        submit(client)
    refused = client.post("/internal/jobs", json=SMALL)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert "3 is the most" in refused.json()["error"]
    submit(other)
    submit(other)
    refused = other.post("/internal/jobs", json=SMALL)
    assert refused.status_code == 429
    assert "5 is the most" in refused.json()["error"]


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b'{"steps": 0}', "application/json", "steps"),
        (b'{"nonsense": 1}', "application/json", "no such field"),
        (b'{"cfg_scale": NaN}', "application/json", "cfg_scale"),
        (b'{"cfg_scale": 1e999}', "application/json", "cfg_scale"),
        (b'{"prompt": "\\ud800"}', "application/json", None),
        (b"[1]", "application/json", "JSON object"),
        (b"{", "application/json", "not valid JSON"),
        (b"\xff\xfe", "application/json", "not valid JSON"),
        (b"[" * 100_000, "application/json", "nested more than 32"),
        (b"{}", "text/plain", "application/json"),
        (b"a=1", "application/x-www-form-urlencoded", "application/json"),
    ],
)
def test_bad_bodies_are_refused_in_words(visitor: Callable[[], TestClient], body: bytes, kind: str, said: str | None) -> None:
    client = visitor()
    answer = client.post("/internal/jobs", content=body, headers={"content-type": kind})
    if said is None:
        assert answer.status_code == 201, "what no file can carry is left out"
        return
    assert answer.status_code == 422
    assert said in answer.json()["error"]
    assert client.get("/internal/queue").json()["jobs"] == []


def test_order_pause_and_retry(visitor: Callable[[], TestClient], link: ScriptedLink) -> None:
    client = visitor()
    assert client.post("/internal/queue/pause", json={"paused": True}).json() == {"paused": True}
    first, second = submit(client), submit(client)
    assert link.flying() == []
    assert client.post(f"/internal/jobs/{second}/move", json={"to": 0}).json() == {"moved": True}
    assert [job["id"] for job in client.get("/internal/queue").json()["jobs"]] == [second, first]
    client.post("/internal/queue/pause", json={"paused": False})
    assert link.flying() == [f"{second}.0", f"{first}.0"]

    client.post(f"/internal/jobs/{first}/cancel")
    assert client.post(f"/internal/jobs/{first}/move", json={"to": 0}).json() == {"moved": False}
    assert client.post(f"/internal/jobs/{first}/retry").json() == {"retried": True}
    assert client.post(f"/internal/jobs/{first}/remove").json() == {"removed": False}
    client.post(f"/internal/jobs/{first}/cancel")
    assert client.post(f"/internal/jobs/{first}/remove").json() == {"removed": True}
    assert client.get(f"/internal/jobs/{first}").status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [("move", {"to": -1}), ("move", {"to": True}), ("move", {"to": "0"}), ("move", {}), ("move", [])],
)
def test_a_place_that_is_none_is_refused(visitor: Callable[[], TestClient], path: str, body: Any) -> None:
    client = visitor()
    job = submit(client)
    assert client.post(f"/internal/jobs/{job}/{path}", json=body).status_code == 422
    assert client.post("/internal/queue/pause", json={"paused": "yes"}).status_code == 422


@pytest.mark.parametrize("route", ["retry", "remove", "move", "cancel"])
def test_another_users_job_cannot_be_changed(visitor: Callable[[], TestClient], link: ScriptedLink, route: str) -> None:
    mine, yours = visitor(), visitor()
    job = submit(mine)
    for target in (job, "0" * 32):
        assert yours.post(f"/internal/jobs/{target}/{route}", json={"to": 0}).status_code == 404
    for look in ("", "/zip", "/events", "/preview"):
        assert yours.get(f"/internal/jobs/{job}{look}").status_code == 404
    yours.post("/internal/queue/pause", json={"paused": True})
    assert link.flying() == [f"{job}.0"]
    assert mine.get(f"/internal/jobs/{job}").json()["state"] == "running"


def test_all_pictures_of_a_job_in_one_zip(visitor: Callable[[], TestClient], real_app: App, link: ScriptedLink) -> None:
    client = visitor()
    job = submit(client, count=3, prompt="../../evil")
    assert client.get(f"/internal/jobs/{job}/zip").status_code == 404, "there is nothing yet"
    for index in range(3):
        link.done(f"{job}.{index}")
    pictures = wait_for(real_app, client, job, 3)["pictures"]
    answer = client.get(f"/internal/jobs/{job}/zip")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"].startswith('attachment; filename="atelier-')
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [picture["name"] for picture in pictures]
        assert all("/" not in name and ".." not in name and "evil" not in name for name in archive.namelist())
        for picture in pictures:
            assert archive.read(picture["name"]) == client.get(f"/internal/pictures/{job}/{picture['index']}").content

    next(real_app.settings.outputs_dir.rglob(pictures[1]["name"])).unlink()
    with zipfile.ZipFile(io.BytesIO(client.get(f"/internal/jobs/{job}/zip").content)) as archive:
        assert pictures[1]["name"] not in archive.namelist()
        assert pictures[1]["name"] in archive.read("missing.txt").decode()


def test_events_follow_a_job_to_its_end(visitor: Callable[[], TestClient], link: ScriptedLink) -> None:
    client = visitor()
    job = submit(client)
    seen: list[tuple[str, Any]] = []
    name = ""
    with client.stream("GET", f"/internal/jobs/{job}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        link.done(f"{job}.0")
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                seen.append((name, json.loads(line.removeprefix("data: "))))
    assert seen[0][0] == "engine"
    states = [data["state"] for name, data in seen if name == "job"]
    assert states[-1] == "done"
    assert seen[-1][1]["pictures"][0]["index"] == 0


def test_an_app_that_closes_is_an_error(visitor: Callable[[], TestClient], real_app: App) -> None:
    client = visitor()
    real_app.service.changes.closing = True
    assert client.post("/internal/jobs", json=SMALL).status_code == 503


def test_a_program_without_a_cookie_is_given_one(real_app: App) -> None:
    client = TestClient(build_api(real_app), base_url=BASE)
    answer = client.post("/internal/jobs", json=SMALL)
    assert answer.status_code == 201
    assert "set-cookie" in answer.headers


def test_engine_deaths_reach_the_owner_in_words(visitor: Callable[[], TestClient], link: ScriptedLink) -> None:
    client = visitor()
    job = submit(client)
    for _ in range(2):
        link.say(Message("died", {"cause": "the engine was ended by SIGKILL"}))
        link.hello()
    found = client.get(f"/internal/jobs/{job}").json()
    assert found["state"] == "failed"
    assert "SIGKILL" in found["error"]
    assert client.post(f"/internal/jobs/{job}/retry").json() == {"retried": True}


def test_a_quote_is_asked_for_with_a_form_s_fields(
    visitor: Callable[[], TestClient], real_app: App, link: ScriptedLink, models: Path
) -> None:
    client = visitor()
    fields = {**SMALL, "steps": 10, "sampler": "Euler", "whatever": 1}
    first = client.post("/internal/quote", json=fields).json()
    info = real_app.default_checkpoint()
    assert info is not None
    assert (first["seconds"], first["native"]) == (None, [info.defaults.width, info.defaults.height]), "nothing was measured"
    size = (models / "tiny.safetensors").stat().st_size
    assert 0 < first["weights"] <= 2 * size, "float32, of a file of at least 16 bits a number"
    link.say(Message("costs", {"costs": [["predict", "tiny", 64, 64, 2, 0.5], ["load", "tiny", 0, 0, 1, 3.0]]}))
    answer = client.post("/internal/quote", json=fields).json()
    assert (answer["seconds"], answer["beyond"]) == (8.0, False), "ten steps, and loading"
    larger = client.post("/internal/quote", json={**fields, "width": 128}).json()
    assert (larger["seconds"], larger["beyond"]) == (13.0, True)
    for wrong in ({"width": 63}, {"steps": True}, {"checkpoint": "none"}, {"sampler": "none"}, {"source": 3}):
        found = client.post("/internal/quote", json={**fields, **wrong})
        assert found.status_code == 200, "it is being typed"
        assert found.json()["error"]
    enlarging = {"source": "0" * 64, "upscaler_1": "Lanczos"}
    assert client.post("/internal/quote", json={**enlarging, "picture": [64, 48]}).json()["seconds"] == 0, "by a filter"
    for wrong, words in (([64], "picture: must be a width"), ([True, 2], "picture: must be"), ([8000, 4000], "16000x8000")):
        assert words in client.post("/internal/quote", json={**enlarging, "picture": wrong}).json()["error"]
    assert client.get("/internal/jobs").json() == [], "nothing was begun"


def test_a_quote_says_what_memory_it_takes_and_what_would_fit(
    visitor: Callable[[], TestClient], real_app: App, link: ScriptedLink
) -> None:
    client = visitor()
    fields = {**SMALL, "width": 1024, "height": 1024, "sampler": "Euler"}
    unknown = client.post("/internal/quote", json=fields).json()["memory"]
    assert (unknown["room"], unknown["fits"]) == (0, True)
    weights = unknown["weights"]
    room = {"memory": weights + 10**7, "number": 4, "small_number": 4, "vae_number": 4, "kind": "cpu"}
    link.say(Message("hello", {"device": "cpu (test)", "dtype": "float32 (test)", "attention": "sdpa (test)", "room": room}))
    found = client.post("/internal/quote", json=fields).json()["memory"]
    assert (found["fits"], found["possible"], found["room"]) == (False, False, room["memory"])
    width, height = found["size"]
    assert found["said"][0].endswith(f"at most {width} × {height} fits.")
    assert client.post("/internal/quote", json={**fields, "width": width, "height": height}).json()["memory"]["fits"]
    tiny = client.post("/internal/quote", json={**fields, "vae_decoder": "TAESD"}).json()["memory"]
    assert tiny["bytes"] > found["bytes"], "the tiny checkpoint's own VAE is narrower than TAESD"
    small = {**SMALL, "sampler": "Euler"}
    link.say(
        Message(
            "costs",
            {"costs": [[f"memory of {work}", "tiny", 64, 64, rows, 10**6] for work, rows in (("predict", 2), ("decode", 1))]},
        )
    )
    measured = client.post("/internal/quote", json=small).json()["memory"]
    assert (measured["bytes"], measured["measured"]) == (weights + 10**6, True)
