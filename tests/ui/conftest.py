"""A served page, and Chromium in front of it.  Every page must stay free of script errors and of requests to other hosts."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn

from modules.server import build_server, listen
from tests.ui.fake_app import FakeApp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 30_000
"""For waiting on states; nothing is measured."""


def served(app: Any, port: int = 0) -> AbstractContextManager[str]:
    """The address of a server around `app`, in a thread of this process."""
    return serving(build_server(app), port)


@contextmanager
def serving(application: Any, port: int = 0) -> Iterator[str]:
    """The address of a server of this ASGI application."""
    listener = listen("127.0.0.1", port)
    config = uvicorn.Config(application, log_level="error", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()


def new_context(browser: Any, **options: Any) -> Any:
    # Without motion: every frame would be painted by the processor that the tests share
    usual = {"viewport": {"width": 1280, "height": 800}, "accept_downloads": True, "reduced_motion": "reduce"}
    context = browser.new_context(**{**usual, **options})
    context.set_default_timeout(TIMEOUT_MS)
    return context


class Watched:
    """Pages of one visitor; remembers what no page may ever do.

    The first page is the one that the context's visitor before left, where there is one: a new window costs Chromium a second.
    """

    def __init__(self, browser: Any, origin: str, context: Any = None, **options: Any) -> None:
        self.context = context or new_context(browser, **options)
        self.origin = origin
        self.sins: list[str] = []
        self._blank = list(self.context.pages)
        self._size: Any = None
        self._listeners: list[tuple[Any, str, Any]] = []
        self._scripted: list[Any] = []
        self.context.on("request", self._on_request)
        self.context.on("weberror", self._on_error)

    def leave(self) -> None:
        """Leave to the next visitor of this context nothing but an empty page and the cached scripts and styles."""
        for page, event, listener in self._listeners:
            page.remove_listener(event, listener)
        self.context.remove_listener("request", self._on_request)
        self.context.remove_listener("weberror", self._on_error)
        self.context.unroute_all(behavior="ignoreErrors")
        self.context.clear_cookies()
        self.context.clear_permissions()
        for page in [*self._scripted, *self.context.pages[1:]]:
            page.close()
        first = (self.context.pages or [self.context.new_page()])[0]
        self._empty(first)
        self.context.clear_cookies()  # what was answered while the pages went

    def _empty(self, page: Any) -> None:
        page.unroute_all(behavior="ignoreErrors")
        empty = f"{self.origin}/empty"  # of the same origin, whose storage for this window nothing else reaches
        page.route(empty, lambda route: route.fulfill(body="", content_type="text/html"))
        page.goto(empty)
        page.unroute_all()
        page.evaluate("sessionStorage.clear()")
        if self._size and page.viewport_size != self._size:
            page.set_viewport_size(self._size)
        session = self.context.new_cdp_session(page)
        kinds = "local_storage,indexeddb,cache_storage,service_workers,file_systems"
        session.send("Storage.clearDataForOrigin", {"origin": self.origin, "storageTypes": kinds})
        session.detach()

    def new_page(self) -> Any:
        """An empty page.  What is listened to there ends with the test; one that is given scripts is not used again."""
        page = self._blank.pop() if self._blank else self.context.new_page()
        self._size = page.viewport_size

        def on(event: str, listener: Any) -> None:
            self._listeners.append((page, event, listener))
            type(page).on(page, event, listener)

        def add_init_script(*script: Any, **path: Any) -> None:
            self._scripted.append(page)
            type(page).add_init_script(page, *script, **path)

        page.on, page.add_init_script = on, add_init_script
        page.on("console", lambda m: m.type == "error" and self._on_console(m))
        return page

    def open(self) -> Any:
        page = self.new_page()
        page.goto(self.origin)
        page.wait_for_selector(".results:not([data-view=loading])")
        page.wait_for_selector("body[data-forms=filled]")
        return page

    def _on_error(self, error: Any) -> None:
        self.sins.append(f"script error: {error.error} {error.error.stack}")

    def _on_request(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and f"{parts.scheme}://{parts.netloc}" != self.origin:
            self.sins.append(f"request to {request.url}")

    def _on_console(self, message: Any) -> None:
        if "Content Security Policy" in message.text or "Refused" in message.text:
            self.sins.append(message.text)


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: browser tests need `apt install chromium`")
    playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need the package playwright")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


class CurrentApp:
    """The App that the running test has made; so that one server, which takes a second to build, does for all tests."""

    def __init__(self, app: FakeApp) -> None:
        self.app = app

    def __getattr__(self, name: str) -> Any:
        return getattr(self.app, name)

    @property
    def model_library(self) -> Any:
        """That of the running test's App also for routes that asked for it once."""
        return _Library(self)


class _Library:
    def __init__(self, current: CurrentApp) -> None:
        self._current = current

    def __getattr__(self, name: str) -> Any:
        return getattr(self._current.app.model_library, name)


TABS = ("txt2img", "img2img", "inpaint", "extras", "pnginfo", "gallery", "models", "extensions", "settings")

Stand = tuple[CurrentApp, str, str]


@pytest.fixture(scope="package")
def stands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[tuple[str, ...]], Stand]]:
    """A server for each choice of tabs, made when it is first asked for."""
    with ExitStack() as running:

        @cache
        def stand(tabs: tuple[str, ...]) -> Stand:
            hidden = tuple(name for name in TABS if name not in tabs) if tabs else ()
            current = CurrentApp(FakeApp(tmp_path_factory.mktemp("nobody"), hidden_tabs=hidden))
            address = running.enter_context(served(current))
            return current, address, os.environ["GRADIO_TEMP_DIR"]

        yield stand


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FakeApp]:
    made = FakeApp(tmp_path)
    yield made
    made.gallery.close()


@pytest.fixture
def origin(
    stands: Callable[[tuple[str, ...]], Stand], app: FakeApp, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    marker = request.node.get_closest_marker("tabs")
    current, address, folder = stands(marker.args if marker else ())
    current.app = app
    monkeypatch.setenv("GRADIO_TEMP_DIR", folder)  # another server that was made in this process has changed it
    return address


Visit = Callable[..., Watched]


class Contexts:
    """Browser contexts, which the next test with the same options gets: their cache has the page's scripts, which are a third
    of an opening."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser
        self._free: dict[str, list[Any]] = {}
        self._with_pages: list[Any] = []
        self._taken: list[tuple[Watched, str]] = []

    def visitor(self, origin: str, fresh: bool = False, **options: Any) -> Watched:
        """A visitor without cookies and storage.  `fresh` because the test adds scripts to the context: it is thrown away."""
        kind = "" if fresh else repr(sorted(options.items()))
        free = self._free.get(kind)
        found = Watched(self.browser, origin, free.pop() if free else None, **options)
        self._taken.append((found, kind))
        return found

    def take_back(self) -> list[str]:
        """All visitors leave; answers what their pages did and no page may ever do."""
        taken, self._taken = self._taken, []
        for visitor, kind in taken:
            if kind:
                visitor.leave()
                self._free.setdefault(kind, []).append(visitor.context)
                self._keep_pages(visitor.context)
            else:
                visitor.context.close()
        return [sin for visitor, _ in taken for sin in visitor.sins]

    def _keep_pages(self, context: Any) -> None:
        """An empty page still holds some hundred megabytes: those of the last two contexts stay."""
        self._with_pages = [*(one for one in self._with_pages if one is not context), context]
        while len(self._with_pages) > 2:
            for page in self._with_pages.pop(0).pages:
                page.close()


@pytest.fixture(scope="package")
def contexts(browser: Any) -> Contexts:
    return Contexts(browser)


@pytest.fixture
def visit(contexts: Contexts, origin: str) -> Iterator[Visit]:
    """Makes visitors: each has cookies and storage of its own.  See `Contexts.visitor`."""
    yield lambda **options: contexts.visitor(origin, **options)
    sins = contexts.take_back()
    assert not sins


@pytest.fixture
def page(visit: Visit) -> Any:
    return visit().open()
