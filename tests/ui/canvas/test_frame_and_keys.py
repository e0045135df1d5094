"""The frame beyond the picture, the box for "only masked", and everything by keyboard alone."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from tests.ui.canvas.conftest import Open
from tests.ui.canvas.stand import CanvasPage, Pixels, noise, png

pytestmark = pytest.mark.browser


def frame(canvas: CanvasPage) -> list[int]:
    sent = canvas.sent()
    return [sent[f"outpaint_{side}"] for side in ("left", "right", "up", "down")]


def drag(canvas: CanvasPage, handle: str, dx: float, dy: float) -> None:
    """Move a handle by so many pixels of the picture."""
    scale = canvas.page.evaluate("(n) => atelier.canvas(n).view().scale", canvas.name)
    box = canvas.page.locator(f"{canvas.root} {handle}").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse = canvas.page.mouse
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + dx * scale, y + dy * scale, steps=5)
    mouse.up()


def test_frame_is_dragged_beyond_the_picture_by_eights(canvas: CanvasPage) -> None:
    canvas.show(400, 300)
    canvas.choose("extend")
    canvas.page.keyboard.press("-")
    canvas.page.keyboard.press("-")
    canvas.page.keyboard.press("-")
    drag(canvas, ".drawing-frame [data-side=left]", -61, 40)
    assert frame(canvas) == [64, 0, 0, 0]
    drag(canvas, ".drawing-frame [data-side='right down']", 42, 22)
    assert frame(canvas) == [64, 40, 0, 24]
    assert canvas.page.inner_text(canvas.size) == "400 × 300 → 504 × 324"
    drag(canvas, ".drawing-frame [data-side=left]", 300, 0)  # not into the picture
    assert frame(canvas) == [0, 40, 0, 24]

    top = canvas.page.get_by_role("slider", name="Extend the top")
    top.wait_for()
    top.press("ArrowUp")
    for _ in range(20):
        top.press("Shift+ArrowUp")
    assert frame(canvas) == [0, 40, 1024, 24]
    assert top.get_attribute("aria-valuetext") == "1024 pixels"
    for _ in range(21):
        canvas.page.keyboard.press("Control+z")
    assert frame(canvas)[2] < 1024
    canvas.choose("brush")
    canvas.brush(20)
    canvas.stroke((200, 150))
    assert canvas.mask().shape == (300, 400), "the mask is of the picture; what is added is painted anyway"


def test_page_sets_the_frame_and_hears_of_it(canvas: CanvasPage) -> None:
    canvas.show(100, 80)
    canvas.page.evaluate("window.said = []; document.addEventListener('atelier:canvas', (e) => said.push(e.detail.outpaint))")
    canvas.page.evaluate("atelier.canvas('inpaint').setOutpaint({left: 100, up: 5000})")
    assert frame(canvas) == [104, 0, 1024, 0]
    canvas.page.evaluate("atelier.canvas('inpaint').setOutpaint({left: 104, up: 1024, down: 3})")  # as it is
    assert canvas.page.evaluate("said") == [{"left": 104, "right": 0, "up": 1024, "down": 0}]
    canvas.page.keyboard.press("Control+z")
    assert frame(canvas) == [0, 0, 0, 0]


def test_box_is_drawn_moved_resized_and_removed(canvas: CanvasPage) -> None:
    canvas.show(400, 300)
    canvas.choose("box")
    canvas.stroke((100.2, 80.3), (200.1, 180.2))
    assert canvas.sent()["box"] == [100, 80, 100, 100]
    drag(canvas, ".drawing-box-body", 40, -30)
    x, y, width, height = canvas.sent()["box"]
    assert (width, height) == (100, 100)
    assert (x, y) == (pytest.approx(140, abs=1), pytest.approx(50, abs=1))
    drag(canvas, ".drawing-box [data-side='right down']", 500, 500)
    assert canvas.sent()["box"] == [x, y, 400 - x, 300 - y]
    drag(canvas, ".drawing-box [data-side=left]", 1000, 0)
    assert canvas.sent()["box"] == [384, y, 16, 300 - y]
    canvas.page.keyboard.press("Control+z")
    canvas.page.get_by_role("button", name="Move the box", exact=True).press("ArrowLeft")
    assert canvas.sent()["box"] == [x - 1, y, 400 - x, 300 - y]
    canvas.page.keyboard.press("Delete")
    assert canvas.sent()["box"] == [0, 0, 0, 0]
    canvas.page.keyboard.press("Control+z")
    assert canvas.sent()["box"] == [x - 1, y, 400 - x, 300 - y]
    canvas.stroke((10, 10), (15, 15))  # too small to be meant
    assert canvas.sent()["box"] == [x - 1, y, 400 - x, 300 - y]
    canvas.page.get_by_role("button", name="Remove the box").click()
    assert canvas.sent()["box"] == [0, 0, 0, 0]


def test_all_by_keyboard(canvas: CanvasPage) -> None:
    canvas.show(300, 200)
    press = canvas.page.keyboard.press
    canvas.page.evaluate("document.activeElement.blur()")
    for _ in range(30):
        press("Tab")
        if canvas.page.evaluate("document.activeElement.matches('.drawing-viewport')"):
            break
    else:
        pytest.fail("the viewport is not reached by Tab")
    press("r")
    for _ in range(3):
        press("ArrowLeft")
    press("Enter")
    press("Shift+ArrowRight")
    press("Shift+ArrowDown")
    press("Enter")
    mask = canvas.mask()
    y, x = np.nonzero(mask)
    step = round(4 / canvas.page.evaluate("atelier.canvas('inpaint').view().scale"))
    assert (x.min(), x.max() + 1) == (150 - 3 * step, 150 + 7 * step)
    assert (y.min(), y.max() + 1) == (100, 100 + 10 * step)
    assert (mask[y.min() : y.max() + 1, x.min() : x.max() + 1] == 255).all()

    press("e")
    for _ in range(25):
        press("[")
    press("Enter")
    press("Shift+ArrowLeft")
    press("Escape")
    np.testing.assert_array_equal(canvas.mask(), mask)
    press("Enter")
    press("Shift+ArrowLeft")
    press("Enter")
    assert canvas.mask().sum() < mask.sum()
    press("Control+z")
    np.testing.assert_array_equal(canvas.mask(), mask)
    press("Delete")
    assert canvas.sent()["mask"] is None
    said = canvas.page.inner_text(f"{canvas.root} .drawing-said")
    assert said == "Mask cleared"


def test_help_tells_the_keys_of_this_canvas_and_goes_again(open_canvas: Open) -> None:
    canvas = open_canvas("picture")
    canvas.show(80, 60)
    canvas.page.focus(canvas.viewport)
    canvas.page.keyboard.press("?")
    dialog = canvas.page.get_by_role("dialog", name="Keys of the canvas")
    assert "zoom" in dialog.inner_text()
    assert "eraser" not in dialog.inner_text()
    canvas.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert canvas.page.evaluate("document.activeElement.matches('.drawing-viewport')")
    canvas.stroke((20, 20), (60, 40))  # looks, paints nothing
    assert canvas.sent()["mask"] is None


def test_every_control_has_a_name(canvas: CanvasPage) -> None:
    canvas.show(80, 60)
    canvas.choose("box")
    canvas.stroke((10, 10), (60, 50))
    nameless = canvas.page.evaluate(
        """(root) => [...document.querySelectorAll(root + " :is(button, input, [tabindex], [role])")]
          .filter((node) => node.getClientRects().length && !node.ariaHidden)
          .filter((node) => !(node.ariaLabel || node.textContent.trim() || node.labels?.length))
          .map((node) => node.outerHTML)""",
        canvas.root,
    )
    assert nameless == []
    stops = canvas.page.evaluate(
        "(root) => document.querySelectorAll(root + ' .drawing-tools button[tabindex=\"0\"]').length", canvas.root
    )
    assert stops == 1, "a toolbar is one stop of the Tab key"
    canvas.page.locator(f"{canvas.root} [data-tool=box]").press("ArrowUp")
    assert canvas.page.evaluate("document.activeElement.dataset.tool") == "fill"


def test_keys_are_left_to_text_fields(canvas: CanvasPage) -> None:
    canvas.show(80, 60)
    canvas.page.mouse.move(*canvas.at(40, 30))
    canvas.page.focus("#words input")
    canvas.page.keyboard.type("beri?[]")
    assert canvas.page.input_value("#words input") == "beri?[]"
    assert canvas.page.get_attribute(f"{canvas.root} [data-tool=brush]", "aria-pressed") == "true"
    assert canvas.sent()["mask"] is None


def test_nothing_is_painted_while_results_are_looked_at(canvas: CanvasPage) -> None:
    canvas.show(100, 80)
    canvas.page.evaluate("(data) => atelier.canvas('inpaint').setCandidates([{url: data}])", url_of(noise(100, 80, 4)))
    canvas.page.wait_for_selector(f"{canvas.viewport}[data-candidate]")
    canvas.stroke((20, 20), (50, 50))
    canvas.page.keyboard.press("i")
    assert canvas.sent()["mask"] is None
    canvas.page.keyboard.press("Escape")
    canvas.page.wait_for_selector(f"{canvas.viewport}:not([data-candidate])")
    canvas.stroke((20, 20), (50, 50))
    assert canvas.sent()["mask"] is not None


def url_of(pixels: Pixels) -> str:
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def test_mask_can_be_hidden_and_shown_in_another_colour(canvas: CanvasPage) -> None:
    canvas.drop((png(np.zeros((100, 100, 3), np.uint8)), "black.png", "image/png"))
    canvas.wait(100, 100)
    canvas.brush(60)
    canvas.page.fill(f"{canvas.root} [data-set=maskColour]", "#00ff00")
    canvas.page.fill(f"{canvas.root} [data-set=maskOpacity]", "1")
    canvas.stroke((50, 50))

    def seen() -> list[int]:
        x, y = canvas.at(60, 60)
        canvas.page.mouse.move(0, 0)
        return list(
            canvas.page.evaluate(
                """async ([viewport, x, y]) => {
                  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
                  const canvas = document.querySelector(viewport + " .drawing-layers"), place = canvas.getBoundingClientRect();
                  return [...canvas.getContext("2d").getImageData(x - place.left, y - place.top, 1, 1).data];
                }""",
                [canvas.viewport, x, y],
            )
        )

    assert seen() in ([0, 255, 0, 255], [89, 255, 89, 255]), "in stripes of two tones"
    canvas.page.keyboard.press("h")
    assert seen()[3] == 0
    assert canvas.mask()[60, 60] == 255, "hidden is not gone"
    canvas.page.keyboard.press("h")
    canvas.page.fill(f"{canvas.root} [data-set=maskOpacity]", "0.5")
    assert seen()[3] == 128
