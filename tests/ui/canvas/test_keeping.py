"""What becomes of a canvas when the server is away, over a reload, and at the hands of the rest of the page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

import numpy as np
import pytest

from tests.ui.canvas.conftest import Open
from tests.ui.canvas.stand import Easel, Pixels, noise, png, posts_of
from tests.ui.fake_app import FakeApp

pytestmark = pytest.mark.browser

SOURCES = "/internal/sources"


def test_nothing_is_lost_while_the_server_cannot_be_reached(easel: Easel) -> None:
    def away(route: Any) -> None:
        route.abort("connectionrefused")

    # A visit of the page gives the cookie that says whose pictures these are; this bare page has not been given one yet.
    easel.page.request.get(urljoin(easel.page.url, "internal/engine"))
    easel.page.route(f"**{SOURCES}*", away)
    pixels = easel.show(100, 80)
    assert "The server cannot be reached. Nothing is lost" in easel.problem()
    easel.brush(20)
    easel.stroke((50, 40))
    words = easel.page.evaluate("atelier.canvas('inpaint').flush().then(() => '', (error) => error.message)")
    assert "cannot be reached" in words
    easel.page.unroute(f"**{SOURCES}*", away)
    fields = easel.sent()
    np.testing.assert_array_equal(easel.kept(fields["source"]), pixels)
    assert easel.kept(fields["mask"])[40, 50, 0] == 255
    assert easel.page.locator(f"{easel.root} .drawing-problem").is_hidden()


def test_what_the_server_refuses_is_told_in_its_words(easel: Easel) -> None:
    easel.page.route(f"**{SOURCES}", lambda route: route.fulfill(status=422, json={"error": "the picture has too many layers"}))
    easel.show(100, 80)
    assert easel.problem() == "The picture has too many layers."
    easel.do("quiet")
    assert easel.page.locator(f"{easel.root} .drawing-problem").is_hidden()


def test_what_the_server_has_lost_is_sent_again(easel: Easel, app: FakeApp) -> None:
    easel.show(100, 80)
    easel.stroke((50, 40))
    before = easel.sent()
    posts = posts_of(easel.page)
    app.source = lambda source, user: None  # type: ignore[method-assign]
    again = easel.page.evaluate("atelier.canvas('inpaint').flush().then(JSON.parse)")
    assert again == before
    assert posts == [SOURCES, SOURCES]


# ---- over a reload


def test_reload_in_the_middle_brings_everything_back(easel: Easel) -> None:
    pixels = easel.show(400, 300)
    easel.page.keyboard.press("x")
    easel.stroke((300, 200), (380, 280))
    easel.page.keyboard.press("o")
    easel.page.locator(f"{easel.root} .drawing-frame [data-side=left]").press("ArrowLeft")
    easel.page.get_by_role("radio", name="Colour").click()
    easel.choose("rectangle")
    easel.stroke((10, 10), (60, 40))
    easel.page.get_by_role("radio", name="Mask").click()
    easel.choose("lasso")
    easel.stroke((100, 100), (300, 100), (200, 250), steps=2)
    for _ in range(3):
        easel.page.keyboard.press("+")
    easel.brush(33, 0.25)
    before, mask, view = easel.sent(), easel.mask(), easel.page.evaluate("atelier.canvas('inpaint').view()")
    assert before["outpaint_left"] == 8
    easel.stored()

    listen = "document.addEventListener('atelier:canvas', (event) => { window.restored ??= event.detail.restored; })"
    easel.page.add_init_script(listen)
    easel.page.reload()
    again = Easel(easel.page, easel.app)
    assert easel.page.evaluate("window.restored") is True
    posts = posts_of(easel.page)
    again.wait(400, 300)
    np.testing.assert_array_equal(again.mask(), mask)
    assert again.sent() == before
    np.testing.assert_array_equal(again.kept(before["source"])[100:], pixels[100:])
    assert easel.page.evaluate("atelier.canvas('inpaint').view()") == pytest.approx(view)
    assert easel.page.get_attribute(f"{easel.root} [data-tool=lasso]", "aria-pressed") == "true"
    assert easel.page.input_value(f"{easel.root} [data-number=size]") == "33"
    assert len(posts) == 2, "the mask and the picture with the sketch; the picture itself is there"

    again.choose("eraser")
    again.brush(500)
    again.stroke((200, 150))
    assert again.sent()["mask"] is None
    again.stored()
    easel.page.reload()
    assert Easel(easel.page, easel.app).sent()["mask"] is None


def test_other_browser_tabs_have_canvases_of_their_own(open_canvas: Open) -> None:
    first = open_canvas()
    first.show(100, 80)
    first.stored()
    second = open_canvas()
    assert second.page.get_attribute(second.root, "data-state") == "empty"
    second.show(60, 60)
    second.stored()
    first.page.reload()
    Easel(first.page, first.app).wait(100, 80)


def test_without_storage_the_canvas_paints_all_the_same(open_canvas: Open, window: Any) -> None:
    page = window.context.new_page()
    page.add_init_script(
        "Object.defineProperty(window, 'indexedDB', {get() { throw new DOMException('no', 'SecurityError'); }})"
    )
    page.goto(f"{window.origin}/inpaint.html")
    try:
        easel = Easel(page, None)
        easel.show(100, 80)
        easel.stroke((50, 40))
        assert easel.mask()[40, 50] == 255
    finally:
        page.close()


# ---- the page's handle


LOAD = "([name, what, options]) => atelier.canvas(name).load(what, options)"


def keep(app: Any, easel: Easel, pixels: Pixels) -> str:
    """A picture as a source of whoever looks at this page."""
    posted = easel.page.request.post(
        urljoin(easel.page.url, "internal/sources"), data=png(pixels), headers={"content-type": "image/png"}
    )
    return str(posted.json()["id"])


def test_load_keeps_the_mask_and_undo_brings_the_picture_back(easel: Easel, app: FakeApp) -> None:
    easel.show(100, 80)
    easel.brush(20)
    easel.stroke((50, 40))
    first, mask = easel.sent(), easel.mask()
    result = noise(100, 80, 9)
    identity = keep(app, easel, result)
    assert easel.page.evaluate(LOAD, [easel.name, {"id": identity}, {"keepMask": True}])
    after = easel.sent()
    assert (after["source"], after["mask"]) == (identity, first["mask"])
    easel.stroke((20, 20))
    easel.page.keyboard.press("Control+z")
    easel.page.keyboard.press("Control+z")
    easel.page.wait_for_selector(f"{easel.root}[data-state=ready]")
    assert easel.sent() == first
    np.testing.assert_array_equal(easel.mask(), mask)
    easel.page.keyboard.press("Control+y")
    assert easel.sent() == after

    assert easel.page.evaluate(LOAD, [easel.name, {"id": keep(app, easel, noise(64, 64))}, {"keepMask": True}])
    assert easel.sent()["mask"] is None, "a mask of another size means nothing here"
    assert not easel.page.evaluate(LOAD, [easel.name, {"id": "0" * 64}, {}])
    assert "does not have this picture any more" in easel.problem()
    assert easel.page.inner_text(easel.size) == "64 × 64"


def test_load_fills_in_all_of_a_request(easel: Easel, app: FakeApp) -> None:
    mask = np.zeros((80, 100, 3), np.uint8)
    mask[20:50, 30:70] = 255
    fields = {
        "id": keep(app, easel, noise(100, 80)),
        "mask": keep(app, easel, mask),
        "box": [10, 20, 64, 48],
        "outpaint_up": 64,
    }
    assert easel.page.evaluate(LOAD, [easel.name, fields, {}])
    sent = easel.sent()
    assert (sent["source"], sent["box"], sent["outpaint_up"]) == (fields["id"], [10, 20, 64, 48], 64)
    np.testing.assert_array_equal(easel.mask(), mask[..., 0])
    told = easel.page.evaluate("atelier.canvas('inpaint').size()")
    assert told == {"width": 100, "height": 80, "outpaint": {"left": 0, "right": 0, "up": 64, "down": 0}}


def test_accepted_extension_moves_the_mask_along(easel: Easel, app: FakeApp) -> None:
    easel.show(100, 80)
    easel.brush(20)
    easel.stroke((50, 40))
    easel.page.keyboard.press("o")
    easel.page.locator(f"{easel.root} .drawing-frame [data-side=left]").press("ArrowLeft")
    easel.page.locator(f"{easel.root} .drawing-frame [data-side=up]").press("Shift+ArrowUp")
    mask = easel.mask()
    assert easel.page.evaluate(LOAD, [easel.name, {"id": keep(app, easel, noise(108, 144))}, {"keepMask": True}])
    grown = easel.mask()
    np.testing.assert_array_equal(grown[64:, 8:], mask)
    assert not grown[:64].any()
    assert not easel.sent()["outpaint_up"]


def test_component_on_a_page_of_gradio(open_canvas: Open, app: FakeApp) -> None:
    """What is loaded before a tab was opened, and is in the page, waits for it; and Gradio does not wipe the canvas."""
    easel = open_canvas(path="?all")
    easel.show(100, 80)
    easel.brush(20)
    easel.stroke((50, 40))
    identity = keep(app, easel, noise(70, 50))
    easel.page.evaluate("(id) => { window.loading = atelier.canvas('sketch').load({id}); }", identity)
    assert easel.page.evaluate("atelier.canvas('sketch').flush()") == ""
    easel.page.get_by_role("tab", name="sketch").click()
    assert easel.page.evaluate("window.loading")
    assert Easel(easel.page, app, "sketch").sent()["source"] == identity
    easel.page.get_by_role("tab", name="inpaint").click()
    assert easel.mask()[40, 50] == 255
    easel.stroke((20, 20))
    assert easel.mask()[20, 20] == 255


def test_page_hears_what_happens_to_the_picture(easel: Easel) -> None:
    easel.page.evaluate("window.said = []; document.addEventListener('atelier:canvas', (e) => said.push(e.detail))")
    easel.show(100, 80)
    easel.stroke((50, 40))
    easel.do("remove")
    easel.page.wait_for_selector(f"{easel.root}[data-state=empty]")
    said = easel.page.evaluate("said")
    assert [(one["width"], one["hasMask"]) for one in said] == [(100, False), (100, True), (0, False)]
    assert easel.page.evaluate("atelier.canvas('inpaint').flush()") == ""
    easel.do("undo")
    easel.wait(100, 80)
    assert easel.page.evaluate("atelier.canvas('inpaint').hasMask()")


def test_candidates_are_looked_at_and_one_is_accepted(easel: Easel, app: FakeApp) -> None:
    easel.show(100, 80)
    easel.brush(20)
    easel.stroke((50, 40))
    first = easel.sent()
    ids = [keep(app, easel, noise(100, 80, seed)) for seed in (1, 2, 3)]
    easel.page.evaluate("document.addEventListener('atelier:canvas-accepted', (e) => { window.accepted = e.detail.index; })")
    offered = [{"url": f"internal/sources/{identity}", "label": "seed"} for identity in ids]
    easel.page.evaluate("(all) => atelier.canvas('inpaint').setCandidates(all)", offered)
    bar = easel.page.locator(f"{easel.root} .drawing-candidates")
    assert bar.locator(".which").inner_text() == "1 of 3 · seed"
    bar.get_by_role("button", name="Next result").click()
    assert bar.locator(".which").inner_text() == "2 of 3 · seed"
    assert easel.sent() == first, "looking changes nothing"
    bar.get_by_role("button", name="Accept").click()
    bar.wait_for(state="hidden")
    assert easel.page.evaluate("accepted") == 1
    after = easel.sent()
    assert (after["source"], after["mask"]) == (ids[1], first["mask"])
    easel.page.keyboard.press("Control+z")
    assert easel.sent() == first
