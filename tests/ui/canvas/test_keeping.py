"""What becomes of a canvas when the server is away, over a reload, and at the hands of the rest of the page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

import numpy as np
import pytest

from tests.ui.canvas.conftest import Open
from tests.ui.canvas.stand import CanvasPage, Pixels, noise, png, posts_of
from tests.ui.fake_app import FakeApp

pytestmark = pytest.mark.browser

SOURCES = "/internal/sources"


def test_nothing_is_lost_while_the_server_cannot_be_reached(canvas: CanvasPage) -> None:
    def away(route: Any) -> None:
        route.abort("connectionrefused")

    # A visit of the page gives the cookie that says whose pictures these are; this bare page has not been given one yet.
    canvas.page.request.get(urljoin(canvas.page.url, "internal/engine"))
    canvas.page.route(f"**{SOURCES}*", away)
    pixels = canvas.show(100, 80)
    assert "The server cannot be reached. Nothing is lost" in canvas.problem()
    canvas.brush(20)
    canvas.stroke((50, 40))
    words = canvas.page.evaluate("atelier.canvas('inpaint').flush().then(() => '', (error) => error.message)")
    assert "cannot be reached" in words
    canvas.page.unroute(f"**{SOURCES}*", away)
    fields = canvas.sent()
    np.testing.assert_array_equal(canvas.kept(fields["source"]), pixels)
    assert canvas.kept(fields["mask"])[40, 50, 0] == 255
    assert canvas.page.locator(f"{canvas.root} .drawing-problem").is_hidden()


def test_what_the_server_refuses_is_told_in_its_words(canvas: CanvasPage) -> None:
    canvas.page.route(
        f"**{SOURCES}", lambda route: route.fulfill(status=422, json={"error": "the picture has too many layers"})
    )
    canvas.show(100, 80)
    assert canvas.problem() == "The picture has too many layers."
    canvas.do("quiet")
    assert canvas.page.locator(f"{canvas.root} .drawing-problem").is_hidden()


def test_what_the_server_has_lost_is_sent_again(canvas: CanvasPage, app: FakeApp) -> None:
    canvas.show(100, 80)
    canvas.stroke((50, 40))
    before = canvas.sent()
    posts = posts_of(canvas.page)
    app.upload_path = lambda source, user: None  # type: ignore[method-assign]
    again = canvas.page.evaluate("atelier.canvas('inpaint').flush().then(JSON.parse)")
    assert again == before
    assert posts == [SOURCES, SOURCES]


# ---- over a reload


def test_reload_in_the_middle_brings_everything_back(canvas: CanvasPage) -> None:
    pixels = canvas.show(400, 300)
    canvas.page.keyboard.press("x")
    canvas.stroke((300, 200), (380, 280))
    canvas.page.keyboard.press("o")
    canvas.extend("left", "ArrowLeft")
    canvas.page.get_by_role("radio", name="Colour").click()
    canvas.choose("rectangle")
    canvas.stroke((10, 10), (60, 40))
    canvas.page.get_by_role("radio", name="Mask").click()
    canvas.choose("lasso")
    canvas.stroke((100, 100), (300, 100), (200, 250), steps=2)
    for _ in range(3):
        canvas.page.keyboard.press("+")
    canvas.brush(33, 0.25)
    before, mask, view = canvas.sent(), canvas.mask(), canvas.page.evaluate("atelier.canvas('inpaint').view()")
    assert before["outpaint_left"] == 8
    canvas.stored()

    listen = "document.addEventListener('atelier:canvas', (event) => { window.restored ??= event.detail.restored; })"
    canvas.page.add_init_script(listen)
    canvas.page.reload()
    again = CanvasPage(canvas.page, canvas.app)
    assert canvas.page.evaluate("window.restored") is True
    posts = posts_of(canvas.page)
    again.wait(400, 300)
    np.testing.assert_array_equal(again.mask(), mask)
    assert again.sent() == before
    np.testing.assert_array_equal(again.kept(before["source"])[100:], pixels[100:])
    assert canvas.page.evaluate("atelier.canvas('inpaint').view()") == pytest.approx(view)
    assert canvas.page.get_attribute(f"{canvas.root} [data-tool=lasso]", "aria-pressed") == "true"
    assert canvas.page.input_value(f"{canvas.root} [data-number=size]") == "33"
    assert len(posts) == 2, "the mask and the picture with the sketch; the picture itself is there"

    again.choose("eraser")
    again.brush(500)
    again.stroke((200, 150))
    assert again.sent()["mask"] is None
    again.stored()
    canvas.page.reload()
    assert CanvasPage(canvas.page, canvas.app).sent()["mask"] is None


def test_other_browser_tabs_have_canvases_of_their_own(open_canvas: Open) -> None:
    first = open_canvas()
    first.show(100, 80)
    first.stored()
    second = open_canvas()
    assert second.page.get_attribute(second.root, "data-state") == "empty"
    second.show(60, 60)
    second.stored()
    first.page.reload()
    CanvasPage(first.page, first.app).wait(100, 80)


def test_without_storage_the_canvas_paints_all_the_same(open_canvas: Open, window: Any) -> None:
    page = window.new_page()
    page.add_init_script(
        "Object.defineProperty(window, 'indexedDB', {get() { throw new DOMException('no', 'SecurityError'); }})"
    )
    page.goto(f"{window.origin}/inpaint.html")
    canvas = CanvasPage(page, None)
    canvas.show(100, 80)
    canvas.stroke((50, 40))
    assert canvas.mask()[40, 50] == 255


# ---- the page's handle


LOAD = "([name, what, options]) => atelier.canvas(name).load(what, options)"


def keep(app: Any, canvas: CanvasPage, pixels: Pixels) -> str:
    """A picture as an upload of the user of this page."""
    posted = canvas.page.request.post(
        urljoin(canvas.page.url, "internal/sources"), data=png(pixels), headers={"content-type": "image/png"}
    )
    return str(posted.json()["id"])


def test_load_keeps_the_mask_and_undo_brings_the_picture_back(canvas: CanvasPage, app: FakeApp) -> None:
    canvas.show(100, 80)
    canvas.brush(20)
    canvas.stroke((50, 40))
    first, mask = canvas.sent(), canvas.mask()
    result = noise(100, 80, 9)
    identity = keep(app, canvas, result)
    assert canvas.page.evaluate(LOAD, [canvas.name, {"id": identity}, {"keepMask": True}])
    after = canvas.sent()
    assert (after["source"], after["mask"]) == (identity, first["mask"])
    canvas.stroke((20, 20))
    canvas.page.keyboard.press("Control+z")
    canvas.page.keyboard.press("Control+z")
    canvas.page.wait_for_selector(f"{canvas.root}[data-state=ready]")
    assert canvas.sent() == first
    np.testing.assert_array_equal(canvas.mask(), mask)
    canvas.page.keyboard.press("Control+y")
    assert canvas.sent() == after

    assert canvas.page.evaluate(LOAD, [canvas.name, {"id": keep(app, canvas, noise(64, 64))}, {"keepMask": True}])
    assert canvas.sent()["mask"] is None, "a mask of another size means nothing here"
    assert not canvas.page.evaluate(LOAD, [canvas.name, {"id": "0" * 64}, {}])
    assert "does not have this picture any more" in canvas.problem()
    assert canvas.page.inner_text(canvas.size) == "64 × 64"


def test_load_fills_in_all_of_a_request(canvas: CanvasPage, app: FakeApp) -> None:
    mask = np.zeros((80, 100, 3), np.uint8)
    mask[20:50, 30:70] = 255
    fields = {
        "id": keep(app, canvas, noise(100, 80)),
        "mask": keep(app, canvas, mask),
        "box": [10, 20, 64, 48],
        "outpaint_up": 64,
    }
    assert canvas.page.evaluate(LOAD, [canvas.name, fields, {}])
    sent = canvas.sent()
    assert (sent["source"], sent["box"], sent["outpaint_up"]) == (fields["id"], [10, 20, 64, 48], 64)
    np.testing.assert_array_equal(canvas.mask(), mask[..., 0])
    told = canvas.page.evaluate("atelier.canvas('inpaint').size()")
    assert told == {"width": 100, "height": 80, "outpaint": {"left": 0, "right": 0, "up": 64, "down": 0}}


def test_accepted_extension_moves_the_mask_along(canvas: CanvasPage, app: FakeApp) -> None:
    canvas.show(100, 80)
    canvas.brush(20)
    canvas.stroke((50, 40))
    canvas.page.keyboard.press("o")
    canvas.extend("left", "ArrowLeft")
    canvas.extend("up", "Shift+ArrowUp")
    mask = canvas.mask()
    assert canvas.page.evaluate(LOAD, [canvas.name, {"id": keep(app, canvas, noise(108, 144))}, {"keepMask": True}])
    grown = canvas.mask()
    np.testing.assert_array_equal(grown[64:, 8:], mask)
    assert not grown[:64].any()
    assert not canvas.sent()["outpaint_up"]


def test_component_on_a_page_of_gradio(open_canvas: Open, app: FakeApp) -> None:
    """What is loaded before a tab was opened, and is in the page, waits for it; and Gradio does not wipe the canvas."""
    canvas = open_canvas(path="?all")
    canvas.show(100, 80)
    canvas.brush(20)
    canvas.stroke((50, 40))
    identity = keep(app, canvas, noise(70, 50))
    canvas.page.evaluate("(id) => { window.loading = atelier.canvas('sketch').load({id}); }", identity)
    assert canvas.page.evaluate("atelier.canvas('sketch').flush()") == ""
    canvas.page.get_by_role("tab", name="sketch").click()
    assert canvas.page.evaluate("window.loading")
    assert CanvasPage(canvas.page, app, "sketch").sent()["source"] == identity
    canvas.page.get_by_role("tab", name="inpaint").click()
    assert canvas.mask()[40, 50] == 255
    canvas.stroke((20, 20))
    assert canvas.mask()[20, 20] == 255


def test_page_hears_what_happens_to_the_picture(canvas: CanvasPage) -> None:
    canvas.page.evaluate("window.said = []; document.addEventListener('atelier:canvas', (e) => said.push(e.detail))")
    canvas.show(100, 80)
    canvas.stroke((50, 40))
    canvas.do("remove")
    canvas.page.wait_for_selector(f"{canvas.root}[data-state=empty]")
    said = canvas.page.evaluate("said")
    assert [(one["width"], one["hasMask"]) for one in said] == [(100, False), (100, True), (0, False)]
    assert canvas.page.evaluate("atelier.canvas('inpaint').flush()") == ""
    canvas.do("undo")
    canvas.wait(100, 80)
    assert canvas.page.evaluate("atelier.canvas('inpaint').hasMask()")


def test_candidates_are_looked_at_and_one_is_accepted(canvas: CanvasPage, app: FakeApp) -> None:
    canvas.show(100, 80)
    canvas.brush(20)
    canvas.stroke((50, 40))
    first = canvas.sent()
    ids = [keep(app, canvas, noise(100, 80, seed)) for seed in (1, 2, 3)]
    canvas.page.evaluate("document.addEventListener('atelier:canvas-accepted', (e) => { window.accepted = e.detail.index; })")
    offered = [{"url": f"internal/sources/{identity}", "label": "seed"} for identity in ids]
    canvas.page.evaluate("(all) => atelier.canvas('inpaint').setCandidates(all)", offered)
    bar = canvas.page.locator(f"{canvas.root} .drawing-candidates")
    assert bar.locator(".which").inner_text() == "1 of 3 · seed"
    bar.get_by_role("button", name="Next result").click()
    assert bar.locator(".which").inner_text() == "2 of 3 · seed"
    assert canvas.sent() == first, "looking changes nothing"
    bar.get_by_role("button", name="Accept").click()
    bar.wait_for(state="hidden")
    assert canvas.page.evaluate("accepted") == 1
    after = canvas.sent()
    assert (after["source"], after["mask"]) == (ids[1], first["mask"])
    canvas.page.keyboard.press("Control+z")
    assert canvas.sent() == first
