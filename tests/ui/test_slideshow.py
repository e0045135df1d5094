"""The slideshow, the shipped extension: its tab, and its page in Chromium with pictures that come and go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from modules.api.guard.access import rule_for
from modules.api.server import build_api
from modules.extensions.testing import loaded
from modules.settings import ROOT
from tests.gallery.conftest import SECONDS, painted
from tests.ui.conftest import Watched, served
from tests.ui.fake_app import FakeApp

FOLDER = ROOT / "extensions" / "slideshow"


@pytest.fixture(autouse=True)
def extension() -> Iterator[None]:
    with loaded(FOLDER):
        yield


def test_its_routes_are_for_viewers_and_ask_no_other_address(app: FakeApp) -> None:
    with TestClient(build_api(app), base_url="http://127.0.0.1:7860") as client:  # type: ignore[arg-type]
        page = client.get("/extensions/slideshow")
        assert page.headers["content-type"].startswith("text/html")
        for file in ("slides.js", "slides.css"):
            assert f"slideshow/{file}" in page.text
            assert client.get(f"/extensions/slideshow/{file}").status_code == 200
        assert client.get("/extensions/slideshow/web.py").status_code == 404
        assert client.get("/extensions/slideshow/..%2Ffreeu%2Fweb.py").status_code in (400, 403, 404)
    for path in ("/extensions/slideshow", "/extensions/slideshow/slides.js"):
        assert rule_for("GET", path).least == "viewer"
    assert rule_for("POST", "/extensions/slideshow").least == "user"
    assert rule_for("DELETE", "/extensions/slideshow").least == "administrator"
    for file in FOLDER.iterdir():
        if file.suffix in (".js", ".css", ".html"):
            assert "://" not in file.read_text("utf-8"), file.name


def shown(page: Any) -> int:
    return int(page.evaluate("document.body.dataset.picture"))


def wait_shown(page: Any, prompt: str) -> None:
    page.wait_for_function("(text) => document.querySelector('#stage img.shown')?.alt === text", arg=prompt)


@pytest.mark.browser
def test_a_whole_screen_of_pictures_that_come_and_go(browser: Any, tmp_path: Path) -> None:
    app = FakeApp(tmp_path)
    folder = app.settings.outputs_dir
    with served(app) as address:
        visitor = Watched(browser, address)
        page = visitor.new_page()
        page.clock.install()
        page.goto(f"{address}/extensions/slideshow?seconds=3600")
        page.wait_for_function("document.querySelector('#message').textContent.startsWith('There are no pictures yet')")

        def look() -> None:
            app.gallery.rescan(SECONDS)
            page.clock.fast_forward(5_000)  # when it looks again; time goes on by itself too

        for number, prompt in enumerate(("a red fox", "a dog", "an <b>owl</b>")):
            painted(folder / f"{number}.png", prompt, seed=number + 50, size=(64, 96), age=number)
        look()
        wait_shown(page, "a red fox")
        page.keyboard.press("ArrowRight")
        wait_shown(page, "a dog")
        page.keyboard.press("i")
        page.wait_for_selector("#caption:text-is('a dog')")
        page.clock.fast_forward(3_600_000)
        wait_shown(page, "an <b>owl</b>")
        page.wait_for_selector("#caption:text-is('an <b>owl</b>')")
        assert page.locator("#caption b").count() == 0

        page.keyboard.press(" ")
        page.wait_for_selector("#play:text-is('Go on')")
        page.clock.fast_forward(3_600_000)
        assert page.get_attribute("#stage img.shown", "alt") == "an <b>owl</b>"
        page.keyboard.press(" ")
        painted(folder / "new.png", "a new one", seed=99, size=(64, 64), age=-60)
        look()
        wait_shown(page, "a new one")
        page.wait_for_selector("#place:text-is('1 of 4')")

        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        box = page.locator("#stage img.shown").bounding_box()
        assert (box["width"], box["height"]) == (390, 844)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"
        page.click("#after")
        wait_shown(page, "a red fox")

        page.goto(f"{address}/#slideshow")
        page.wait_for_selector("#slideshow_area form")
        page.fill("#slideshow_area [name=q]", "dog")
        with visitor.context.expect_page() as opened:
            page.click("#slideshow_area button")
        show = opened.value
        wait_shown(show, "a dog")
        assert "q=dog" in show.url
        assert visitor.sins == []
        visitor.context.close()
    app.gallery.close()
