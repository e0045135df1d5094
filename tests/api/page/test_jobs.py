"""The page's routes: what they tell, to whom, and in which form."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import pytest
from PIL import Image
from starlette.testclient import TestClient

from modules.errors import OutputError
from modules.request import parse_request
from tests.ui.fake_app import FakeApp


def user_of(client: TestClient, app: FakeApp) -> str:
    """The user that the server takes this client for: seen by what it calls the App with."""
    seen: list[str] = []
    original = app.jobs
    app.jobs = lambda user, *rest: seen.append(user) or original(user, *rest)  # type: ignore[method-assign,func-returns-value]
    client.get("/internal/jobs")
    app.jobs = original  # type: ignore[method-assign]
    return seen[0]


@pytest.mark.parametrize("seed", [2**53 + 1, 2**64 - 1])
def test_seeds_beyond_javascript_s_numbers_go_as_texts_and_come_back(seed: int, client: TestClient, app: FakeApp) -> None:
    job = app.submit({"prompt": "a rocket", "seed": seed, "variation_seed": seed}, user_of(client, app)).id
    app.finish_picture(job)
    answer = client.get(f"/internal/jobs/{job}").json()
    assert (answer["request"]["seed"], answer["request"]["variation_seed"]) == (str(seed), str(seed))
    assert (answer["pictures"][0]["seed"], answer["request"]["steps"]) == (str(seed), 20)
    assert parse_request(answer["request"]).seed == seed


def test_job_tells_all_that_the_page_shows(client: TestClient, app: FakeApp) -> None:
    job = app.submit({"prompt": "a rocket", "seed": 7, "count": 2, "steps": 10}, user_of(client, app)).id
    app.step(job, 5)
    app.finish_picture(job)
    answer = client.get(f"/internal/jobs/{job}").json()
    assert answer["state"] == "running"
    assert (answer["count"], answer["done"], answer["steps"], answer["progress"]) == (2, 1, 10, 0.5)
    assert answer["request"]["prompt"] == "a rocket"
    assert answer["pictures"][0]["seed"] == 7
    assert (answer["pictures"][0]["prompt"], answer["pictures"][0]["negative_prompt"]) == ("a rocket", "")
    assert answer["settings"] == []
    assert answer["pictures"][0]["infotext"].startswith("a rocket\nSteps: 10")
    assert answer["engine"]["state"] == "ready"
    assert "path" not in answer["pictures"][0], "where files lie is nobody's business"


def test_jobs_are_listed_newest_first_and_counted(client: TestClient, app: FakeApp) -> None:
    user = user_of(client, app)
    ids = [app.submit({}, user).id for _ in range(3)]
    assert [job["id"] for job in client.get("/internal/jobs").json()] == ids[::-1]
    assert [job["id"] for job in client.get("/internal/jobs?limit=1").json()] == ids[2:]
    for nonsense in ("-1", "x", "9" * 30, ""):
        assert len(client.get(f"/internal/jobs?limit={nonsense}").json()) == 3


def test_one_s_own_job_is_skipped_and_interrupted(client: TestClient, app: FakeApp) -> None:
    user = user_of(client, app)
    job, theirs = app.submit({"count": 3}, user).id, app.submit({"count": 3}, "another user").id
    for each in (job, theirs):
        app.step(each, 2)
    assert client.post(f"/internal/jobs/{job}/skip").json() == {"skipped": True}
    assert (app.records[job][1].state, app.records[job][1].done) == ("running", 1)
    assert client.post(f"/internal/jobs/{job}/interrupt").json() == {"interrupted": True}
    assert (app.records[job][1].state, app.records[job][1].done) == ("done", 2), "what was painted is kept"
    assert client.post(f"/internal/jobs/{job}/skip").json() == {"skipped": False}
    assert client.post(f"/internal/jobs/{job}/interrupt").json() == {"interrupted": False}
    for what in ("skip", "interrupt"):
        assert client.post(f"/internal/jobs/{theirs}/{what}").status_code == 404
    assert app.records[theirs][1].done == 0


def test_preview_comes_once_per_revision(client: TestClient, app: FakeApp) -> None:
    job = app.submit({}, user_of(client, app)).id
    path = f"/internal/jobs/{job}/preview"
    assert client.get(path).status_code == 204
    assert app.looked.is_set(), "asking marks the job as watched"
    app.step(job, 1)
    answer = client.get(path)
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(BytesIO(answer.content)).size == (128, 128)
    rev = answer.headers["x-preview-rev"]
    assert client.get(f"{path}?rev={rev}").status_code == 204
    app.step(job, 2)
    assert client.get(f"{path}?rev={rev}").status_code == 200


def test_picture_is_the_file_itself(client: TestClient, app: FakeApp) -> None:
    job = app.submit({"prompt": "a rocket"}, user_of(client, app)).id
    app.finish_picture(job)
    file = app.records[job][1].pictures[0].path
    shown, saved = client.get(f"/internal/pictures/{job}/0"), client.get(f"/internal/pictures/{job}/0?download=1")
    assert shown.content == saved.content == file.read_bytes()
    assert shown.headers["content-type"] == "image/png"
    assert shown.headers["content-disposition"] == f'inline; filename="{file.name}"'
    assert saved.headers["content-disposition"] == f'attachment; filename="{file.name}"'
    again = client.get(f"/internal/pictures/{job}/0", headers={"if-none-match": shown.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_thumbnail_is_small_and_gone_files_are_missing(client: TestClient, app: FakeApp) -> None:
    job = app.submit({"width": 1024, "height": 512}, user_of(client, app)).id
    app.finish_picture(job)
    answer = client.get(f"/internal/pictures/{job}/0/thumbnail")
    assert Image.open(BytesIO(answer.content)).size == (256, 128)

    job = app.submit({}, user_of(client, app)).id
    app.finish_picture(job)
    app.records[job][1].pictures[0].path.write_bytes(b"not a picture any more")
    assert client.get(f"/internal/pictures/{job}/0/thumbnail").status_code == 404
    app.records[job][1].pictures[0].path.unlink()
    assert client.get(f"/internal/pictures/{job}/0").status_code == 404


def test_cancel_acts_once(client: TestClient, app: FakeApp) -> None:
    job = app.submit({}, user_of(client, app)).id
    assert client.post(f"/internal/jobs/{job}/cancel").json() == {"cancelled": True}
    assert client.post(f"/internal/jobs/{job}/cancel").json() == {"cancelled": False}
    assert app.records[job][1].state == "cancelled"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/internal/jobs/{job}"),
        ("GET", "/internal/jobs/{job}/preview"),
        ("POST", "/internal/jobs/{job}/cancel"),
        ("GET", "/internal/pictures/{job}/0"),
        ("GET", "/internal/pictures/{job}/0?download=1"),
        ("GET", "/internal/pictures/{job}/0/thumbnail"),
    ],
)
def test_another_users_job_does_not_exist(browser_of: Callable[[], TestClient], app: FakeApp, method: str, path: str) -> None:
    owner, stranger = browser_of(), browser_of()
    job = app.submit({}, user_of(owner, app)).id
    app.step(job, 1)
    app.finish_picture(job)
    unknown = stranger.request(method, path.format(job="nonsense"))
    foreign = stranger.request(method, path.format(job=job))
    assert unknown.status_code == foreign.status_code == 404
    assert unknown.content == foreign.content
    assert stranger.get("/internal/jobs").json() == []
    assert owner.request(method, path.format(job=job)).status_code == 200


@pytest.mark.parametrize(
    "path", ["/internal/pictures/job1/x", "/internal/pictures/../../etc/passwd", "/internal/nothing", "/nothing"]
)
def test_unknown_paths_are_plain_404(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "error" in answer.json()


def test_engine_checkpoints_and_health(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok", "engine": "ready"}
    assert client.get("/internal/engine").json()["attention"] == "sdpa (no xformers on cpu)"
    first = client.get("/internal/checkpoints").json()[0]
    assert first["name"] == "stickers"
    assert first["defaults"]["sampler"] == "DPM++ 2M"
    assert "path" not in first


def test_no_answer_tells_where_files_lie(client: TestClient, app: FakeApp) -> None:
    """The cause stays, with the name of the folder; the way to it is nobody's business."""
    cause = f"the disk of {app.settings.outputs_dir} is full; make room, or choose another folder with --outputs-dir"
    job = app.submit({}, user_of(client, app)).id
    app.fail(job, cause)
    told = client.get(f"/internal/jobs/{job}").json()["error"]
    assert told == "the disk of outputs is full; make room, or choose another folder with --outputs-dir"

    def full(*_: object, **__: object) -> None:
        raise OutputError(cause)

    app.submit = full  # type: ignore[method-assign,assignment]
    answer = client.post("/internal/jobs", json={"prompt": "x"})
    assert answer.status_code == 507
    assert answer.json()["error"] == told

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("/home/user/secret.py")

    app.submit = broken  # type: ignore[method-assign,assignment]
    answer = client.post("/internal/jobs", json={"prompt": "x"})
    assert answer.status_code == 500
    assert answer.json() == {"error": "Something went wrong; the log has the details."}
