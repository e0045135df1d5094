"""Watching and stopping, per caller: nobody sees or stops anybody else's work, whatever it is called."""

from __future__ import annotations

import base64
import io
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from modules.app import App
from modules.engine.messages import Message
from modules.settings import Settings
from tests.api.a1111.conftest import SMALL, Visitor, detail, served
from tests.scripted import ScriptedLink

IDLE = {
    "skipped": False,
    "interrupted": False,
    "stopping_generation": False,
    "job": "",
    "job_count": 0,
    "job_timestamp": "0",
    "job_no": 0,
    "sampling_step": 0,
    "sampling_steps": 0,
}


@pytest.fixture
def others(real_app: App) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool
        for job in real_app.store.unfinished():  # of a test that failed: its calls are to be answered
            real_app.cancel(job.id, job.user)


class Call:
    """txt2img in a thread of its own, until it is answered."""

    def __init__(self, pool: ThreadPoolExecutor, client: TestClient, real_app: App, user: str, **fields: Any) -> None:
        """Begins; with the engine, unless the queue is paused."""
        before = {job.id for job in real_app.jobs(user)}
        self.answer: Future[Any] = pool.submit(client.post, "/sdapi/v1/txt2img", json={**SMALL, **fields})
        wait_until(lambda: self.answer.done() or len(real_app.jobs(user)) > len(before))
        [self.job] = {job.id for job in real_app.jobs(user)} - before
        wait_until(lambda: all(job.state != "queued" or job.paused for job in real_app.jobs(user)))


def browser_user(real_app: App, client: TestClient) -> str:
    """The name that a browser's jobs are kept under."""
    client.post("/internal/jobs", json=SMALL)
    [job] = [job for job in real_app.store.unfinished() if job.user != "local"]
    real_app.cancel(job.id, job.user)
    return job.user


def progress(client: TestClient, **query: Any) -> dict[str, Any]:
    answer = client.get("/sdapi/v1/progress", params=query)
    assert answer.status_code == 200
    return dict(answer.json())


def task(client: TestClient, name: str, **fields: Any) -> dict[str, Any]:
    answer = client.post("/internal/progress", json={"id_task": name, **fields})
    assert answer.status_code == 200
    return dict(answer.json())


def see(link: ScriptedLink, task: str) -> None:
    link.say(Message("preview", {"task": task, "step": 1, "width": 8, "height": 8}, bytes(8 * 8 * 3)))


def test_progress_is_the_caller_s_own(visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor) -> None:
    mine, yours = visitor(), visitor(browser=True)
    assert progress(mine) == {"progress": 0.0, "eta_relative": 0.0, "state": IDLE, "current_image": None, "textinfo": None}
    call = Call(others, mine, real_app, "local", n_iter=2, steps=4)
    link.step(f"{call.job}.0", 3, 4)
    see(link, f"{call.job}.0")

    said = progress(mine)
    assert said["progress"] == 0.375
    assert said["state"] | {"job_timestamp": ""} == {
        **IDLE, "job": "Picture 1 out of 2", "job_count": 2, "job_timestamp": "", "sampling_step": 3, "sampling_steps": 4,
    }  # fmt: skip
    assert Image.open(io.BytesIO(base64.b64decode(said["current_image"]))).size == (8, 8)
    assert progress(mine, skip_current_image=True)["current_image"] is None
    assert progress(yours)["state"] == IDLE

    link.done(f"{call.job}.0")
    link.done(f"{call.job}.1")
    assert call.answer.result().status_code == 200
    assert progress(mine)["progress"] == 0


def test_a_second_pass_is_a_further_job_of_each_picture(
    visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor
) -> None:
    """A1111's clients work out the progress from job_no, job_count and the steps of the pass that runs."""
    client = visitor()
    second = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "hr_second_pass_steps": 3, "denoising_strength": 0.5}
    call = Call(others, client, real_app, "local", n_iter=2, steps=4, **second)
    numbers = ("job_no", "job_count", "sampling_step", "sampling_steps")

    def state() -> tuple[int, ...]:
        return tuple(progress(client)["state"][name] for name in numbers)

    assert state() == (0, 4, 0, 4)
    link.step(f"{call.job}.0", 4, 7, stage=0, stages=2)
    assert state() == (0, 4, 4, 4)
    link.step(f"{call.job}.0", 5, 7, stage=1, stages=2)
    assert state() == (1, 4, 1, 3)
    link.done(f"{call.job}.0")
    real_app.service.settle()
    assert state() == (2, 4, 0, 4)
    link.step(f"{call.job}.1", 6, 7, stage=1, stages=2)
    assert state() == (3, 4, 2, 3)
    link.done(f"{call.job}.1")
    assert call.answer.result().status_code == 200


def test_asking_for_progress_keeps_previews_being_made(
    visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor
) -> None:
    client = visitor()
    call = Call(others, client, real_app, "local")
    progress(client, skip_current_image=True)
    assert [m.data["tasks"] for m in link.sent if m.kind == "watch" and m.data["tasks"]] == []
    progress(client)
    assert [m.data["tasks"] for m in link.sent if m.kind == "watch"][-1] == [f"{call.job}.0"]
    link.done(f"{call.job}.0")
    call.answer.result()


def finish(link: ScriptedLink) -> None:
    """The engine decodes what it was told to finish."""
    for task in link.tasks("finish"):
        if task in link.flying():
            link.done(task)


def test_interrupt_answers_what_is_finished_and_what_is_not(
    visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor
) -> None:
    mine, yours = visitor(), visitor(browser=True)
    user = browser_user(real_app, yours)
    call, other = Call(others, mine, real_app, "local", n_iter=3), Call(others, yours, real_app, user)
    link.done(f"{call.job}.0")
    wait_until(lambda: real_app.jobs("local")[0].done == 1)
    assert mine.post("/sdapi/v1/interrupt").json() == {}
    assert link.tasks("finish") == [f"{call.job}.1", f"{call.job}.2"]
    assert [progress(one)["state"]["interrupted"] for one in (mine, yours)] == [True, False]
    finish(link)
    answer = call.answer.result()
    assert answer.status_code == 200
    assert len(answer.json()["images"]) == 3
    assert json.loads(answer.json()["info"])["all_seeds"] == [5, 6, 7]

    assert mine.post("/sdapi/v1/interrupt").json() == {}, "nothing of mine is left to stop"
    assert link.flying() == [f"{other.job}.0"]
    link.done(f"{other.job}.0")
    assert other.answer.result().status_code == 200


def test_interrupt_before_anything_is_finished(
    visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor
) -> None:
    """As A1111: clients take the first picture of the answer."""
    client = visitor()
    call = Call(others, client, real_app, "local")
    client.post("/sdapi/v1/interrupt")
    finish(link)
    answer = call.answer.result().json()
    assert len(answer["images"]) == 1
    assert json.loads(answer["info"])["all_seeds"] == [5]


def test_skip_goes_on_with_the_next_picture(
    visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor
) -> None:
    mine, yours = visitor(), visitor(browser=True)
    call = Call(others, mine, real_app, "local", n_iter=2)
    link.step(f"{call.job}.0")
    assert yours.post("/sdapi/v1/skip").json() is None
    assert link.flying() == [f"{call.job}.0", f"{call.job}.1"]
    assert mine.post("/sdapi/v1/skip").json() is None
    assert link.tasks("finish") == [f"{call.job}.0"]
    state = progress(mine)["state"]
    assert (state["skipped"], state["interrupted"]) == (True, False)
    finish(link)
    wait_until(lambda: not progress(mine)["state"]["skipped"])
    link.done(f"{call.job}.1")
    assert json.loads(call.answer.result().json()["info"])["all_seeds"] == [5, 6]


def test_tasks_are_watched_by_the_name_that_the_caller_gave(
    visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor
) -> None:
    mine, yours = visitor(), visitor(browser=True)
    nothing = {
        "active": False, "queued": False, "completed": False, "progress": None, "eta": None,
        "live_preview": None, "id_live_preview": -1, "textinfo": None,
    }  # fmt: skip
    assert task(mine, "task(abc)") == nothing
    call = Call(others, mine, real_app, "local", force_task_id="task(abc)")
    link.step(f"{call.job}.0", 1, 2)
    see(link, f"{call.job}.0")
    wait_until(lambda: task(mine, "task(abc)")["active"])
    said = task(mine, "task(abc)")
    assert said["progress"] == 0.5
    assert said["live_preview"].startswith("data:image/jpeg;base64,")
    assert task(mine, "task(abc)", id_live_preview=said["id_live_preview"])["live_preview"] is None
    assert task(mine, "task(abc)", live_preview=False)["live_preview"] is None
    assert mine.get("/internal/pending-tasks").json() == {"size": 1, "tasks": ["task(abc)"]}
    assert task(mine, call.job)["active"], "a job's id will do"

    assert task(yours, "task(abc)") == nothing
    assert task(yours, call.job) == nothing
    assert yours.get("/internal/pending-tasks").json() == {"size": 0, "tasks": []}

    link.done(f"{call.job}.0")
    call.answer.result()
    assert task(mine, "task(abc)") == nothing | {"completed": True}
    assert mine.get("/internal/pending-tasks").json() == {"size": 0, "tasks": []}


def test_a_script_is_watched_by_its_name_too(
    visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor
) -> None:
    client = visitor()
    script = {"script_name": "prompt matrix", "script_args": [], "prompt": "a|b", "force_task_id": "task(grid)"}
    answer = others.submit(client.post, "/sdapi/v1/txt2img", json={**SMALL, **script})
    wait_until(lambda: len(link.flying()) == 2)
    first, second = link.flying()
    link.step(first, 1, 2)
    wait_until(lambda: task(client, "task(grid)")["active"])
    said = task(client, "task(grid)")
    assert (said["completed"], said["textinfo"]) == (False, "Prompt matrix: 0 of 2")
    assert 0 < said["progress"] < 1
    assert client.get("/internal/pending-tasks").json() == {"size": 1, "tasks": ["task(grid)"]}, "its cells are one call"
    link.done(first)
    link.done(second)
    assert answer.result().status_code == 200
    assert task(client, "task(grid)")["completed"]


def test_the_queue_s_status_is_gradio_s_and_the_caller_s_own(
    visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor
) -> None:
    """Cyanic SD for Krita asks there, before anything else, whether a server answers."""
    mine, yours = visitor(), visitor(browser=True)
    idle = {
        "msg": "estimation", "rank": None, "queue_size": 0, "avg_event_process_time": None,
        "avg_event_concurrent_process_time": None, "rank_eta": None, "queue_eta": 0.0,
    }  # fmt: skip
    assert mine.get("/queue/status").json() == idle
    call = Call(others, mine, real_app, "local", n_iter=2)
    assert mine.get("/queue/status").json()["queue_size"] == 1
    assert yours.get("/queue/status").json() == idle
    mine.post("/sdapi/v1/interrupt")
    finish(link)
    call.answer.result()
    assert mine.get("/queue/status").json() == idle


def test_the_same_name_again_is_another_call(
    visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor
) -> None:
    client = visitor()
    for _ in range(2):
        call = Call(others, client, real_app, "local", force_task_id="always the same")
        link.done(f"{call.job}.0")
        call.answer.result()
    assert len(real_app.jobs("local")) == 2


def test_a_queue_that_does_not_move_says_why(
    visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor
) -> None:
    client = visitor()
    real_app.pause("local", True)
    call = Call(others, client, real_app, "local", force_task_id="t")
    said = progress(client)
    assert (said["textinfo"], said["progress"] > 0, said["state"]["job_count"]) == ("Your queue is paused.", True, 1)
    wait_until(lambda: task(client, "t")["queued"])
    client.post("/sdapi/v1/interrupt")
    assert call.answer.result().json()["images"] == []


def test_a_job_that_fails_says_why(visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor) -> None:
    client = visitor()
    call = Call(others, client, real_app, "local")
    link.failed(f"{call.job}.0", "the device has not enough memory for this picture; choose a smaller size")
    assert "choose a smaller size" in detail(call.answer.result())

    call = Call(others, client, real_app, "local")
    link.say(Message("gave_up", {"cause": "no torch"}))
    assert "no torch" in detail(call.answer.result(), 503)


def test_a_job_that_is_removed_is_answered(
    visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = visitor()
    call = Call(others, client, real_app, "local")
    monkeypatch.setattr(real_app, "job", lambda *_: None)
    real_app.cancel(call.job, "local")
    assert "removed" in detail(call.answer.result())


def test_too_many_get_a_retry_after(visitor: Visitor, real_app: App, link: ScriptedLink, others: ThreadPoolExecutor) -> None:
    client = visitor()
    calls = [Call(others, client, real_app, "local") for _ in range(4)]
    refused = client.post("/sdapi/v1/txt2img", json=SMALL)
    assert "4 is the most" in detail(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1

    def stopped() -> bool:
        client.post("/sdapi/v1/interrupt")
        finish(link)
        return all(call.answer.done() for call in calls)

    wait_until(stopped)
    assert all(call.answer.result().status_code == 200 for call in calls)


def test_an_app_that_closes_is_an_error(visitor: Visitor, real_app: App) -> None:
    real_app.service.changes.closing = True
    assert "closing" in detail(visitor().post("/sdapi/v1/txt2img", json=SMALL), 503)


def test_a_disk_that_is_full_says_so(visitor: Visitor, real_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
    assert "full" in detail(visitor().post("/sdapi/v1/txt2img", json=SMALL), 507)


def test_who_hangs_up_leaves_the_job_running(real_app: App, link: ScriptedLink) -> None:
    with served(real_app) as address:
        with called(address, SMALL):
            wait_until(lambda: bool(link.flying()))
        [job] = real_app.jobs("local")
        link.done(f"{job.id}.0")
        assert [view.state for view in real_app.events(job.id, "local")][-1] == "done"
        assert real_app.jobs("local")[0].pictures[0].path.is_file()


def test_fifty_calls_wait_without_a_thread_and_control_answers_meanwhile(
    models: Path, tmp_path: Path, link: ScriptedLink
) -> None:
    """More calls than threads: were each to hold one, nothing would answer any more."""
    app = App(Settings(data_dir=tmp_path / "d", models_dirs=(models,), outputs_dir=tmp_path / "o", jobs_per_user=60), link)
    app.start()
    link.hello()
    with served(app) as address, ExitStack() as lines:
        calls = [lines.enter_context(called(address, {**SMALL, "send_images": False})) for _ in range(50)]
        wait_until(lambda: len(app.jobs("local", 100)) == 50)
        with connected(address) as control:  # a route that needs one of the 40 threads itself
            control.sendall(f"GET /sdapi/v1/sd-models HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
            assert b'"model_name":"tiny"' in b"".join(iter(lambda: control.recv(65536), b""))

        def finish() -> bool:
            for each in link.flying():
                link.done(each)
            return all(job.over for job in app.jobs("local", 100))

        wait_until(finish)
        for call in calls:
            assert call.recv(12) == b"HTTP/1.1 200"
    app.close()


def test_a_server_that_stops_tells_who_waits(real_app: App, link: ScriptedLink) -> None:
    with served(real_app) as address:
        call = called(address, SMALL)
        wait_until(lambda: bool(link.flying()))
    with call:
        said = b"".join(iter(lambda: call.recv(65536), b""))
    assert said.startswith(b"HTTP/1.1 503")
    assert b"stays in the queue" in said
    assert real_app.jobs("local")[0].state == "running"


def connected(address: str) -> socket.socket:
    host, _, port = address.partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def called(address: str, body: dict[str, Any]) -> socket.socket:
    """A line on which txt2img was asked, and whose answer nobody has read yet."""
    line, data = connected(address), json.dumps(body).encode()
    head = f"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
    line.sendall(head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return line


def wait_until(true: Callable[[], bool]) -> None:
    """For states that come by themselves; the limit is for a program that hangs."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
