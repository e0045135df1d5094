"""Texts that would like to be pages: prompts, pictures' texts, models' names and descriptions, in the real browser (S4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.security import pictures
from tests.security.instance import RunningInstance, Visitor, opened, settled
from tests.tiny import TINY_METADATA, tiny_checkpoint
from tests.ui.conftest import CHROMIUM, FLAGS

pytestmark = pytest.mark.browser

EVIL = (
    "<img src=x onerror=window.__x=1><script>window.__x=1</script>\"'><svg onload=window.__x=1>{{constructor}}"
    "[a](javascript:window.__x=1)"
)
TABS = ("txt2img", "img2img", "inpaint", "pnginfo")


@pytest.fixture(scope="module")
def haunted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningInstance]:
    """A instance whose model calls itself a script."""
    models = tmp_path_factory.mktemp("haunted-models")
    named = {
        "modelspec.title": EVIL,
        "atelier.description": EVIL,
        "atelier.prompts": '["' + "<img src=x onerror=window.__x=1>" + '"]',
    }
    tiny_checkpoint(models / "<img src=x onerror=window.__x=1>.safetensors", metadata={**TINY_METADATA, **named})
    folder = tmp_path_factory.mktemp("haunted") / "home"
    with opened(folder, models) as running:
        yield running


@pytest.fixture(scope="module")
def page(haunted: RunningInstance) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: browser tests need `apt install chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = chromium.new_context()
        context.set_default_timeout(90_000)
        yield context.new_page()
        chromium.close()


def test_s4_no_text_becomes_a_page(haunted: RunningInstance, page: Any) -> None:
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda request: asked.append(request.url) if "127.0.0.1" not in request.url and request.url[:4] == "http" else None,
    )
    visitor = Visitor(haunted)
    assert visitor.ask("/", headers=[("Accept", "text/html")]).status == 200
    address = f"http://127.0.0.1:{haunted.port}"
    page.context.add_cookies([{"name": name, "value": value, "url": address} for name, value in visitor.cookies.items()])
    request = {"prompt": EVIL, "negative_prompt": EVIL, "width": 64, "height": 64, "steps": 1}
    job = visitor.post("/internal/jobs", {**request, "checkpoint": "<img src=x onerror=window.__x=1>"}).json()["id"]
    assert settled(visitor, job)["state"] == "done"
    texts = pictures.text_bomb(b"zTXt", 0)
    read = visitor.ask("/internal/read", "POST", [("Content-Type", "image/png")], body=texts)
    assert read.status == 200

    for tab in TABS:  # each loads the page, as its addresses differ in more than what is behind the #
        page.goto(f"{address}/?{tab}#{tab}")
        page.wait_for_selector(".results:not([data-view=loading])", state="attached")
        assert page.evaluate("window.__x") is None, tab
    page.goto(f"{address}/?pnginfo#txt2img")
    page.fill("#txt2img_prompt textarea", EVIL)
    page.wait_for_function("document.body.innerText.includes('onerror')")
    assert page.evaluate("window.__x") is None
    assert page.evaluate('document.querySelectorAll(\'img[src="x"], svg[onload], a[href^="javascript"]\').length') == 0
    assert asked == []


def test_s4_a_script_that_gets_in_by_a_hole_does_not_run(haunted: RunningInstance, page: Any) -> None:
    """The second wall: the policy.  An attribute and an inline script put into the page by hand stay dead."""
    if page.url == "about:blank":
        page.goto(f"http://127.0.0.1:{haunted.port}/")
        page.wait_for_selector(".results:not([data-view=loading])")
    page.evaluate(
        """() => {
            document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.__x=1'>");
            const script = document.createElement("script");
            script.textContent = "window.__x = 2";
            document.body.append(script);
        }"""
    )
    page.wait_for_function("[...document.images].some((one) => one.getAttribute('src') === 'x' && one.complete)")
    assert page.evaluate("window.__x") is None
