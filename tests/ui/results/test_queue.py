"""The line on the page, in Chromium: one's own jobs in order, what one can do to them, and others as a load without a name."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from tests.strangers import tell_apart
from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img")]

PROMPT = "#txt2img_prompt textarea"
GENERATE = "#txt2img_generate"


def submit(page: Any, app: FakeApp, prompt: str) -> str:
    number = len(app.records) + 1
    page.fill(PROMPT, prompt)
    page.click(GENERATE)
    return app.wait_for_job(number)


def line(page: Any, jobs: list[str]) -> None:
    """Wait until the line shows exactly these, in this order."""
    page.wait_for_function(
        "(jobs) => JSON.stringify([...document.querySelectorAll('.queue ol li')].map((li) => li.dataset.job)) === jobs",
        arg=str(jobs).replace("'", '"').replace(" ", ""),
    )


def press(page: Any, job: str, words: str) -> None:
    page.click(f".queue li[data-job='{job}'] button:text-is('{words}')")


def test_one_job_needs_no_line_and_two_have_one(page: Any, app: FakeApp) -> None:
    first = submit(page, app, "a lake")
    page.wait_for_selector("body[data-busy]")
    assert page.is_hidden(".queue")
    second = submit(page, app, "a <b>wood</b>")
    line(page, [first, second])
    assert "a <b>wood</b>" in page.inner_text(f".queue li[data-job='{second}']"), "words are words"
    assert "Next" in page.inner_text(f".queue li[data-job='{first}'] .when")
    assert "1 ahead" in page.inner_text(f".queue li[data-job='{second}'] .when")
    app.step(first, 5)
    page.wait_for_selector(f".queue li[data-job='{first}'] .when:text-matches('25 % · about 4 s|25 % · about 5 s')")


def test_owners_order_cancel_and_try_again(page: Any, app: FakeApp) -> None:
    jobs = [submit(page, app, words) for words in ("one", "two", "three")]
    line(page, jobs)
    press(page, jobs[2], "Earlier")
    line(page, [jobs[0], jobs[2], jobs[1]])
    press(page, jobs[0], "Later")
    line(page, [jobs[2], jobs[0], jobs[1]])
    press(page, jobs[1], "Cancel")
    line(page, [jobs[2], jobs[0]])
    assert app.records[jobs[1]][1].state == "cancelled"
    page.wait_for_selector(f".queue ul li[data-job='{jobs[1]}']")
    press(page, jobs[1], "Try again")
    page.wait_for_selector(f".queue ol li[data-job='{jobs[1]}']")
    assert app.records[jobs[1]][1].state == "queued"

    app.fail(jobs[0], "the device has not enough memory for this picture; choose a smaller size")
    page.wait_for_selector(f".queue ul li[data-job='{jobs[0]}'] >> text=not enough memory")
    press(page, jobs[0], "Remove")
    page.wait_for_selector(f".queue li[data-job='{jobs[0]}']", state="detached")
    assert jobs[0] not in app.records


def test_a_full_disk_is_reported_on_every_job_that_waits_for_it(page: Any, app: FakeApp) -> None:
    first, second = submit(page, app, "one"), submit(page, app, "two")
    line(page, [first, second])
    app.step(first, 5)
    app.hold("the disk of out is full; make room")
    for job in (first, second):
        page.wait_for_selector(f".queue li[data-job='{job}'] .when:text-is('Waiting: the disk of out is full; make room')")
    page.wait_for_selector(".job-what:text-is('Waiting: the disk of out is full; make room')")
    app.hold("")
    page.wait_for_selector(f".queue li[data-job='{first}'] .when:text-matches('25 %')")


def test_pausing_holds_everything_and_goes_on(page: Any, app: FakeApp) -> None:
    first, second = submit(page, app, "one"), submit(page, app, "two")
    line(page, [first, second])
    page.click(".queue button:text-is('Pause all')")
    page.wait_for_selector(".queue h2:text-is('Your jobs, paused')")
    assert "Paused" in page.inner_text(f".queue li[data-job='{second}'] .when")
    page.reload()
    page.wait_for_selector(".queue h2:text-is('Your jobs, paused')")
    page.click(".queue button:text-is('Go on')")
    page.wait_for_selector(".queue h2:text-is('Your jobs')")
    assert not app.paused


def test_others_are_a_load_without_a_name(visit: Visit, app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    tell_apart(monkeypatch)
    other, mine = visit().open(), visit().open()
    submit(other, app, "a secret")
    submit(mine, app, "my lake")
    mine.wait_for_selector(".queue .others:text-is('Others: 1 picture, about 2 min')")
    assert "secret" not in mine.content()


def test_five_reloads_and_a_second_tab_in_the_middle_submit_nothing_twice(visit: Visit, app: FakeApp) -> None:
    visitor = visit()
    page = visitor.open()
    first, second = submit(page, app, "one"), submit(page, app, "two")
    for step in range(5):
        app.step(first, 2 + step)
        page.reload()
        line(page, [first, second])
    tab = visitor.open()
    line(tab, [first, second])
    app.finish_picture(first)
    app.step(second, 3)
    app.finish_picture(second)
    for one in (page, tab):
        one.wait_for_selector("body:not([data-busy])")
        one.wait_for_function("document.querySelectorAll('.filmstrip img').length === 2")
    assert len(app.records) == 2


def test_a_jobs_pictures_come_in_one_zip(page: Any, app: FakeApp) -> None:
    page.fill("#txt2img_count input[type=number]", "3")
    job = submit(page, app, "many")
    for _ in range(3):
        app.finish_picture(job)
    page.wait_for_selector("#result_zip:text-is('Download all 3')")
    with page.expect_download() as download:
        page.click("#result_zip")
    data = download.value.path().read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == [f"{job}-{index}.png" for index in range(3)]


def test_what_happened_to_the_job_list_is_reported(app: FakeApp, visit: Visit) -> None:
    app.notice = "The job list was damaged (file is not a database). It was kept as jobs.sqlite.damaged-1."
    page = visit().open()
    page.wait_for_selector(".queue .notice:text('jobs.sqlite.damaged-1')")
