"""Finding pictures again in Chromium: older pages of the strip, searching, deleting."""

from __future__ import annotations

from typing import Any

import pytest

from modules.queue.owners import OWNER
from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img")]


def painted(app: FakeApp, count: int, prompt: str = "star") -> list[str]:
    jobs = []
    for number in range(1, count + 1):
        job = app.submit({"prompt": f"{prompt} {number}", "width": 64, "height": 64}, OWNER).id
        app.finish_picture(job)
        jobs.append(job)
    return jobs


def titles(page: Any) -> list[str]:
    return list(
        page.eval_on_selector_all(".filmstrip .tile", "(tiles) => tiles.map((tile) => tile.getAttribute('aria-label'))")
    )


def test_the_strip_reaches_the_oldest_picture(app: FakeApp, visit: Visit) -> None:
    painted(app, 130)
    page = visit().open()
    page.wait_for_selector(".tile img")
    assert len(titles(page)) < 130, "not all at once"
    for known in (60, 120):
        page.wait_for_function("(n) => document.querySelectorAll('.filmstrip .tile').length >= n", arg=known)
        page.evaluate("() => { const strip = document.querySelector('.filmstrip'); strip.scrollLeft = strip.scrollWidth; }")
    page.wait_for_function("() => document.querySelectorAll('.filmstrip .tile').length === 130")
    assert titles(page)[-1].endswith("star 1")
    page.click(".filmstrip .tile >> nth=129")
    page.wait_for_selector(".picture-info .title:text-is('star 1')")
    page.click("#txt2img_generate")  # the list anew: what was fetched of older ones stays
    app.wait_for_job(131)
    page.wait_for_function("() => document.querySelectorAll('.filmstrip .tile').length === 131")


def test_words_of_prompts_find_pictures_and_escape_shows_all_again(app: FakeApp, visit: Visit) -> None:
    [old] = painted(app, 1, "a Blue whale")
    painted(app, 70)
    page = visit().open()
    page.click(".filmstrip .find")
    page.keyboard.type("whale BLUE")
    page.wait_for_function("() => document.querySelectorAll('.filmstrip .tile').length === 1")
    page.click(".filmstrip .tile")
    page.wait_for_selector(f"#result_picture[src*='{old}/']")
    page.fill(".finder input", "nothing of the kind")
    page.wait_for_selector(".finder .none:text-is('Nothing found')")
    page.focus(".finder input")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.querySelectorAll('.filmstrip .tile').length >= 60")
    assert page.is_hidden(".finder input")


def test_a_picture_is_deleted_with_its_file_after_a_question(app: FakeApp, visit: Visit) -> None:
    kept, gone = painted(app, 2)
    path = app.records[gone][1].pictures[0].path
    page = visit().open()
    page.wait_for_selector(f"#result_picture[src*='{gone}/']")
    page.click("#result_delete")
    page.wait_for_selector("dialog.confirm")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog.confirm", state="detached")
    assert path.exists()
    page.click("#result_delete")
    page.click("dialog.confirm >> text='Delete'")
    page.wait_for_selector(f"#result_picture[src*='{kept}/']")
    assert not path.exists()
    assert gone not in app.records
    assert page.locator(".filmstrip .tile").count() == 1


def test_one_of_several_pictures_is_deleted_by_the_delete_key(app: FakeApp, visit: Visit) -> None:
    job = app.submit({"prompt": "twins", "count": 2, "width": 64, "height": 64}, OWNER).id
    for _ in range(2):
        app.finish_picture(job)
    page = visit().open()
    page.wait_for_selector(".picture-grid")
    page.focus(".filmstrip .tile >> nth=1")
    page.keyboard.press("Delete")
    page.click("dialog.confirm >> text='Delete'")
    page.wait_for_function("() => document.querySelectorAll('.filmstrip .tile').length === 1")
    assert [picture.index for picture in app.records[job][1].pictures] == [0]
