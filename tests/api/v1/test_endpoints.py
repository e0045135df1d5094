"""The native API with a real, tiny engine: submit, list, watch, fetch; own jobs only; what /openapi.json and /docs say."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from modules.api.page.jobs import engine_json, job_json
from modules.api.server import build_api
from modules.app import App
from modules.errors import OutputError
from modules.jobs.worker import engine_configuration
from modules.settings import Settings
from tests.api.conftest import BASE
from tests.local import LocalLink
from tests.tiny import tiny_checkpoint

JOB: dict[str, Any] = {"prompt": "a cat", "seed": 5, "steps": 2}


@pytest.fixture(scope="module")
def real_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("v1")
    (folder / "models").mkdir()
    tiny_checkpoint(folder / "models" / "tiny.safetensors")
    settings = Settings(data_dir=folder / "data", models_dirs=(folder / "models",), outputs_dir=folder / "out")
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    yield app
    app.close()


@pytest.fixture(scope="module")
def client(real_app: App) -> Iterator[TestClient]:
    with TestClient(build_api(real_app), base_url=BASE, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def stranger(real_app: App) -> Iterator[TestClient]:
    with TestClient(build_api(real_app), base_url=BASE, raise_server_exceptions=False) as client:
        client.get("/internal/queue")  # a browser, with a cookie of its own
        yield client


def submit(client: TestClient, key: str = "", **fields: Any) -> dict[str, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    answer = client.post("/api/v1/jobs", json={**JOB, **fields}, headers=headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def finished(client: TestClient, real_app: App, job: str) -> dict[str, Any]:
    assert [*real_app.events(job, "local")][-1].over
    return dict(client.get(f"/api/v1/jobs/{job}").json())


def reason(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    return str(answer.json()["error"])


def test_an_estimate_begins_nothing_and_says_what_it_takes(client: TestClient, real_app: App) -> None:
    answer = client.post("/api/v1/estimate", json={"steps": 3})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["native"] == [64, 64]
    assert found["memory"]["bytes"] > found["memory"]["weights"] == found["weights"] > 0
    assert found["memory"]["fits"] is True
    assert found["memory"]["said"][0].startswith("It takes about ")
    assert client.post("/api/v1/estimate", json={"width": 128}).json()["memory"]["bytes"] > found["memory"]["bytes"]
    assert "width" in reason(client.post("/api/v1/estimate", json={"width": 63}), 422)
    enlarging = {"pictures": {"init": "0" * 64}, "upscaler_1": "Lanczos"}
    known = client.post("/api/v1/estimate", json=enlarging).json()
    assert known == {"seconds": 0.0, "beyond": False, "native": None, "weights": 0, "memory": None}, "it needs no checkpoint"
    refused = reason(client.post("/api/v1/estimate", json={**enlarging, "steps": 3}), 422)
    assert refused == "steps: there is no such field of a picture that is only enlarged"
    assert client.get("/api/v1/jobs").json()["jobs"] == []


def test_a_job_from_submitting_to_its_pictures(client: TestClient, real_app: App) -> None:
    job = submit(client, count=2)
    assert job["request"]["sampler"] == "Euler", "the checkpoint's own default"
    done = finished(client, real_app, job["id"])
    assert (done["state"], done["done"], done["progress"], done["error"]) == ("done", 2, 1.0, "")
    assert [picture["seed"] for picture in done["pictures"]] == [5, 6]
    first = done["pictures"][0]
    answer = client.get(first["url"])
    assert answer.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(answer.content))
    assert image.size == (first["width"], first["height"]) == (64, 64)
    assert image.info["parameters"] == first["infotext"] == client.get(first["url"] + "/infotext").text


def test_the_same_key_is_the_same_job(client: TestClient) -> None:
    assert submit(client, "k1", seed=-1)["id"] == submit(client, "k1", seed=-1)["id"]
    assert submit(client, "k2", seed=-1)["id"] != submit(client, "k3", seed=-1)["id"]


def test_the_same_key_with_another_body_is_refused(client: TestClient) -> None:
    first = submit(client, "k4", seed=1)
    other = client.post("/api/v1/jobs", json={**JOB, "seed": 2}, headers={"Idempotency-Key": "k4"})
    assert "Idempotency-Key was used for another request" in reason(other, 422)
    assert submit(client, "k4", seed=1)["id"] == first["id"]


def test_a_job_that_waits_is_not_skipped_and_interrupting_cancels_it(
    client: TestClient, stranger: TestClient, real_app: App
) -> None:
    real_app.pause("local", True)
    job = submit(client, count=2)
    for what in ("skip", "interrupt"):
        assert reason(stranger.post(f"{job['url']}/{what}"), 404)
    assert client.post(f"{job['url']}/skip").json()["state"] == "queued"
    assert client.post(f"{job['url']}/interrupt").json()["state"] == "cancelled"
    real_app.pause("local", False)


def test_a_failed_or_cancelled_job_can_be_tried_again(client: TestClient, stranger: TestClient, real_app: App) -> None:
    real_app.pause("local", True)
    job = submit(client, count=2)
    assert client.post(f"{job['url']}/cancel").json()["state"] == "cancelled"
    assert reason(stranger.post(f"{job['url']}/retry"), 404)
    again = client.post(f"{job['url']}/retry")
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (200, job["id"], "queued")
    real_app.pause("local", False)
    assert finished(client, real_app, job["id"])["state"] == "done"
    done = client.post(f"{job['url']}/retry").json()
    assert (done["state"], done["done"]) == ("done", 2), "of a job that is done, nothing changes"
    assert reason(client.post("/api/v1/jobs/nothing/retry"), 404)


def test_a_full_disk_is_told_without_a_folder(client: TestClient, real_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its submission to the retry of what failed: no answer names where a folder lies."""
    place = str(real_app.outputs.folder.parent)
    real_app.pause("local", True)
    job = submit(client, seed=77)
    real_app.service.live.conclude(
        real_app.service.live.jobs[job["id"]], "failed", f"the picture could not be saved: the disk of {place}/x y is full"
    )
    failed = client.get(job["url"])
    assert (failed.json()["state"], failed.json()["held"]) == ("failed", "")
    assert failed.json()["error"].startswith("the picture could not be saved: the disk of ")

    def full(need: int = 0) -> None:
        raise OutputError(f"the disk of {place} is full; make room")

    with monkeypatch.context() as patch:
        patch.setattr(real_app.outputs, "check_writable", full)
        refused = [client.post(f"{job['url']}/retry"), client.post("/api/v1/jobs", json=JOB)]
        for answer in refused:
            assert "is full; make room" in reason(answer, 507)
        real_app.service.hold.look_again()
        waiting = client.get("/api/v1/jobs").json()
    real_app.service.hold.look_again()
    real_app.pause("local", False)
    assert client.post(f"{job['url']}/retry").json()["state"] in ("queued", "running", "done")
    assert finished(client, real_app, job["id"])["state"] == "done"
    for text in (failed.text, json.dumps(waiting), *(answer.text for answer in refused)):
        assert place not in text


def test_a_held_job_says_why(client: TestClient, real_app: App) -> None:
    real_app.pause("local", True)
    job = submit(client)
    real_app.service.hold.begin("the picture could not be saved: the disk of /srv/house/out is full; make room")
    said = "the picture could not be saved: the disk of out is full; make room"
    assert (client.get(job["url"]).json()["state"], client.get(job["url"]).json()["held"]) == ("queued", said)
    assert engine_json(real_app.engine())["message"] == f"Nothing is begun: {said}"
    view = real_app.job(job["id"], "local")
    assert view is not None
    assert job_json(view)["held"] == said, "what the page is told"
    real_app.service.hold.end()
    real_app.pause("local", False)
    assert finished(client, real_app, job["id"])["held"] == ""


def test_a_picture_from_a_picture_with_a_mask(client: TestClient, real_app: App) -> None:
    ids = []
    for colour in ((200, 30, 30), (255, 255, 255)):
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
        answer = client.post("/api/v1/sources", content=buffer.getvalue(), headers={"content-type": "image/png"})
        assert answer.status_code == 201, answer.text
        assert (answer.json()["width"], answer.json()["height"]) == (64, 64)
        ids.append(answer.json()["id"])
    job = submit(client, source=ids[0], mask=ids[1], denoising_strength=0.5, mask_blur_x=0)
    done = finished(client, real_app, job["id"])
    assert done["state"] == "done", done["error"]
    assert (done["request"]["source"], done["request"]["mask"]) == tuple(ids)


def test_pictures_by_role_and_a_second_pass(client: TestClient, real_app: App) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (10, 200, 30)).save(buffer, "PNG")
    kept = client.post("/api/v1/sources", content=buffer.getvalue(), headers={"content-type": "image/png"}).json()["id"]
    done = finished(client, real_app, submit(client, pictures={"init": kept}, denoising_strength=0.5)["id"])
    assert done["state"] == "done", done["error"]
    assert (done["request"]["pictures"], done["request"]["source"], done["request"]["mask"]) == ({"init": kept}, kept, None)
    again = {name: value for name, value in done["request"].items() if name != "checkpoint"}
    assert finished(client, real_app, submit(client, **again)["id"])["state"] == "done", "an answer's request may be sent again"

    done = finished(client, real_app, submit(client, width=64, height=64, hires={"width": 128, "height": 96})["id"])
    assert (done["pictures"][0]["width"], done["pictures"][0]["height"]) == (128, 96)
    assert done["request"]["hires"]["upscaler"] == "Latent"
    refused = client.post("/api/v1/jobs", json={**JOB, "hires": {"width": 100, "height": 96}})
    assert "hires.width: must be a multiple of 8" in reason(refused, 422)


def test_pages_of_the_list(client: TestClient, real_app: App) -> None:
    for seed in range(3):
        submit(client, seed=seed)
    everything = [job["id"] for job in client.get("/api/v1/jobs?limit=200").json()["jobs"]]
    pages, cursor = [], ""
    while cursor is not None:
        page = client.get("/api/v1/jobs", params={"limit": 2, "cursor": cursor}).json()
        assert 0 < len(page["jobs"]) <= 2
        pages += [job["id"] for job in page["jobs"]]
        cursor = page["next"]
    assert pages == everything
    assert everything == [job.id for job in real_app.jobs("local", 200)]
    assert client.get("/api/v1/jobs?cursor=gone").json() == {"jobs": [], "next": None}


def test_cancelling(client: TestClient, real_app: App) -> None:
    real_app.pause("local", True)
    job = submit(client)
    assert client.post(f"{job['url']}/cancel").json()["state"] == "cancelled"
    assert client.post(f"{job['url']}/cancel").json()["state"] == "cancelled", "twice does no harm"
    real_app.pause("local", False)


def test_events_tell_the_job_until_it_is_over(client: TestClient) -> None:
    job = submit(client, steps=3)
    with client.stream("GET", f"{job['url']}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    names = [line for line in lines if line.startswith("event: ")]
    said = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert set(names) == {"event: job"}
    assert said[-1]["state"] == "done"
    assert said[-1]["pictures"][0]["url"].startswith(job["url"])


def test_another_users_jobs_are_not_seen(client: TestClient, stranger: TestClient, real_app: App) -> None:
    job = finished(client, real_app, submit(client)["id"])
    for path in ("", "/events", "/pictures/0", "/pictures/0/infotext"):
        assert reason(stranger.get(job["url"] + path), 404)
    assert reason(stranger.post(job["url"] + "/cancel"), 404)
    assert stranger.get("/api/v1/jobs").json()["jobs"] == []
    assert stranger.get("/api/v1/jobs", params={"cursor": job["id"]}).json()["jobs"] == []


def test_a_picture_that_was_removed_is_missing(client: TestClient, real_app: App) -> None:
    job = finished(client, real_app, submit(client)["id"])
    real_app.jobs("local", 1)[0].pictures[0].path.unlink()
    assert "any more" in reason(client.get(job["pictures"][0]["url"]), 404)
    assert reason(client.get(f"{job['url']}/pictures/7"), 404)
    assert reason(client.get(f"{job['url']}/pictures/x"), 422)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"steps": 0}, "steps: must be a whole number from 1 to 150"),
        ({"nonsense": 1}, "nonsense: there is no such field"),
        ({"sampler": "Gone"}, "sampler 'Gone' is not here"),
        ({"checkpoint": "gone"}, "checkpoint 'gone' is not here"),
        ({"checkpoint": True}, "checkpoint: must be the name of one, as text; True was given"),
        ({"checkpoint": ["tiny"], "source": "0" * 64}, "checkpoint: must be the name of one"),
        ({"source": "0" * 64}, "source"),
        ({"source": "../x"}, "64 hexadecimal digits"),
    ],
)
def test_what_makes_no_sense_is_refused(client: TestClient, fields: dict[str, Any], words: str) -> None:
    assert words in reason(client.post("/api/v1/jobs", json={**JOB, **fields}), 422)


def test_bodies_that_are_none(client: TestClient) -> None:
    assert "application/json" in reason(client.post("/api/v1/jobs", content=b"{}", headers={"content-type": "text/plain"}), 415)
    assert "JSON object" in reason(client.post("/api/v1/jobs", json=[1]), 422)
    before = client.get("/api/v1/jobs").json()["jobs"][0]["id"]
    for headers in ({}, {"content-type": "application/json"}):
        assert "the request has no body" in reason(client.post("/api/v1/jobs", headers=headers), 422)
    assert client.get("/api/v1/jobs").json()["jobs"][0]["id"] == before, "nothing was accepted"
    assert "picture itself" in reason(client.post("/api/v1/sources", json={}), 415)
    assert "not a picture" in reason(
        client.post("/api/v1/sources", content=b"hello", headers={"content-type": "image/png"}), 422
    )
    long_key = {"Idempotency-Key": "k" * 300}
    assert "200 is the most" in reason(client.post("/api/v1/jobs", json=JOB, headers=long_key), 422)
    assert "limit" in reason(client.get("/api/v1/jobs?limit=0"), 422)
    assert reason(client.get("/api/v1/nothing"), 404)
    assert reason(client.delete("/api/v1/jobs"), 405)


def test_what_there_is(client: TestClient, real_app: App) -> None:
    [model] = client.get("/api/v1/models").json()
    assert (model["name"], model["problem"], model["defaults"]["sampler"]) == ("tiny", "", "Euler")
    assert "path" not in model
    samplers = {sampler["name"]: sampler for sampler in client.get("/api/v1/samplers").json()}
    assert samplers["DPM++ 2M"]["schedule"] == "Karras"
    assert samplers["Euler a"]["options"] == ["eta", "s_noise"]
    schedules = {schedule["name"] for schedule in client.get("/api/v1/schedules").json()}
    assert {"Automatic", "Karras"} <= schedules
    assert client.get("/api/v1/limits").json() == client.get("/sdapi/v1/limits").json()


def test_the_description_is_complete(client: TestClient) -> None:
    said = client.get("/openapi.json").json()
    assert all(
        path.startswith(("/api/v1/", "/sdapi/v1/", "/controlnet/", "/internal/p", "/queue/status")) for path in said["paths"]
    )
    for path, methods in said["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert {"401", "403", "404", "413", "415", "422", "429", "503", "507"} <= set(operation["responses"]), where
            refusals = {
                answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                for status, answer in operation["responses"].items()
                if status >= "400"
            }
            assert refusals == ({"ErrorResponse"} if path.startswith("/api/") else {"A1111ErrorResponse"}), where
            assert refusals <= said["components"]["schemas"].keys(), where
            assert operation["tags"] == (["Atelier"] if path.startswith("/api/") else ["A1111"]), where
            body = operation.get("requestBody", {}).get("content", {})
            assert all("$ref" not in json.dumps(content["schema"]) for content in body.values()), where
    [native] = [said["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]]
    assert {"prompt", "denoising_strength", "source"} <= set(native["schema"]["anyOf"][1]["properties"])
    theirs = said["paths"]["/sdapi/v1/img2img"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert (theirs["steps"]["default"], theirs["inpaint_full_res"]["default"]) == (50, True)
    operations = [operation["operationId"] for methods in said["paths"].values() for operation in methods.values()]
    assert len(operations) == len(set(operations))


def test_the_examples_of_the_description_can_be_submitted(client: TestClient) -> None:
    said = client.get("/openapi.json").json()["paths"]
    words = said["/api/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["examples"]["words"]["value"]
    assert client.post("/api/v1/jobs", json={**words, "steps": 1}).status_code == 201
    example = said["/sdapi/v1/txt2img"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert client.post("/sdapi/v1/txt2img", json={**example, "steps": 1}).status_code == 200


def test_the_docs_page_contacts_no_other_host(client: TestClient) -> None:
    answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "<script" not in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    for path in client.get("/openapi.json").json()["paths"]:
        assert f"<code>{path}</code>" in answer.text.replace("{", "{").replace("&#x27;", "'")


def test_a_file_beside_the_list_is_no_picture_of_ours(client: TestClient, real_app: App, tmp_path: Path) -> None:
    """A link that was put in a picture's place is not followed."""
    job = finished(client, real_app, submit(client)["id"])
    secret = tmp_path / "secret.txt"
    secret.write_text("CANARY")
    path = real_app.jobs("local", 1)[0].pictures[0].path
    path.unlink()
    path.symlink_to(secret)
    answer = client.get(job["pictures"][0]["url"])
    assert answer.status_code == 404
    assert "CANARY" not in answer.text
