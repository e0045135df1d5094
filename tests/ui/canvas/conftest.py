"""One server and one browser window for all tests of the canvas; each test has a fake App and a browser tab of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.ui.canvas.stand import CanvasPage, canvases
from tests.ui.conftest import Contexts, CurrentApp, Watched
from tests.ui.fake_app import FakeApp

Open = Callable[..., CanvasPage]


@pytest.fixture(scope="package")
def canvas_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CurrentApp, str]]:
    current = CurrentApp(FakeApp(tmp_path_factory.mktemp("nobody")))
    with canvases(current) as address:
        yield current, address


@pytest.fixture(scope="package")
def windows(browser: Any) -> Contexts:
    return Contexts(browser)


@pytest.fixture
def window(windows: Contexts, canvas_stand: tuple[CurrentApp, str]) -> Iterator[Watched]:
    yield windows.visitor(canvas_stand[1], has_touch=True)
    windows.take_back()


@pytest.fixture
def open_canvas(window: Watched, canvas_stand: tuple[CurrentApp, str], app: FakeApp) -> Iterator[Open]:
    """Opens a browser tab with the canvas of this name, alone on a page or on the page at `path`."""
    canvas_stand[0].app = app

    def open_one(name: str = "inpaint", path: str = "") -> CanvasPage:
        page = window.new_page()
        page.goto(f"{window.origin}/{path or name + '.html'}")
        return CanvasPage(page, app, name)

    yield open_one
    assert not window.sins


@pytest.fixture
def canvas(open_canvas: Open) -> CanvasPage:
    return open_canvas()
