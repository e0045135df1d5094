"""The frame beyond the picture, the box for "only masked", and everything by keyboard alone."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from tests.ui.canvas.conftest import Open
from tests.ui.canvas.stand import Easel, Pixels, noise, png

pytestmark = pytest.mark.browser


def frame(easel: Easel) -> list[int]:
    sent = easel.sent()
    return [sent[f"outpaint_{side}"] for side in ("left", "right", "up", "down")]


def drag(easel: Easel, handle: str, dx: float, dy: float) -> None:
    """Move a handle by so many pixels of the picture."""
    scale = easel.page.evaluate("(n) => atelier.canvas(n).view().scale", easel.name)
    box = easel.page.locator(f"{easel.root} {handle}").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse = easel.page.mouse
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + dx * scale, y + dy * scale, steps=5)
    mouse.up()


def test_frame_is_dragged_beyond_the_picture_by_eights(easel: Easel) -> None:
    easel.show(400, 300)
    easel.choose("extend")
    easel.page.keyboard.press("-")
    easel.page.keyboard.press("-")
    easel.page.keyboard.press("-")
    drag(easel, ".drawing-frame [data-side=left]", -61, 40)
    assert frame(easel) == [64, 0, 0, 0]
    drag(easel, ".drawing-frame [data-side='right down']", 42, 22)
    assert frame(easel) == [64, 40, 0, 24]
    assert easel.page.inner_text(easel.size) == "400 × 300 → 504 × 324"
    drag(easel, ".drawing-frame [data-side=left]", 300, 0)  # not into the picture
    assert frame(easel) == [0, 40, 0, 24]

    top = easel.page.get_by_role("slider", name="Extend the top")
    top.press("ArrowUp")
    for _ in range(20):
        top.press("Shift+ArrowUp")
    assert frame(easel) == [0, 40, 1024, 24]
    assert top.get_attribute("aria-valuetext") == "1024 pixels"
    for _ in range(21):
        easel.page.keyboard.press("Control+z")
    assert frame(easel)[2] < 1024
    easel.choose("brush")
    easel.brush(20)
    easel.stroke((200, 150))
    assert easel.mask().shape == (300, 400), "the mask is of the picture; what is added is painted anyway"


def test_page_sets_the_frame_and_hears_of_it(easel: Easel) -> None:
    easel.show(100, 80)
    easel.page.evaluate("window.said = []; document.addEventListener('atelier:canvas', (e) => said.push(e.detail.outpaint))")
    easel.page.evaluate("atelier.canvas('inpaint').setOutpaint({left: 100, up: 5000})")
    assert frame(easel) == [104, 0, 1024, 0]
    easel.page.evaluate("atelier.canvas('inpaint').setOutpaint({left: 104, up: 1024, down: 3})")  # as it is
    assert easel.page.evaluate("said") == [{"left": 104, "right": 0, "up": 1024, "down": 0}]
    easel.page.keyboard.press("Control+z")
    assert frame(easel) == [0, 0, 0, 0]


def test_box_is_drawn_moved_resized_and_removed(easel: Easel) -> None:
    easel.show(400, 300)
    easel.choose("box")
    easel.stroke((100.2, 80.3), (200.1, 180.2))
    assert easel.sent()["box"] == [100, 80, 100, 100]
    drag(easel, ".drawing-box-body", 40, -30)
    x, y, width, height = easel.sent()["box"]
    assert (width, height) == (100, 100)
    assert (x, y) == (pytest.approx(140, abs=1), pytest.approx(50, abs=1))
    drag(easel, ".drawing-box [data-side='right down']", 500, 500)
    assert easel.sent()["box"] == [x, y, 400 - x, 300 - y]
    drag(easel, ".drawing-box [data-side=left]", 1000, 0)
    assert easel.sent()["box"] == [384, y, 16, 300 - y]
    easel.page.keyboard.press("Control+z")
    easel.page.get_by_role("button", name="Move the box", exact=True).press("ArrowLeft")
    assert easel.sent()["box"] == [x - 1, y, 400 - x, 300 - y]
    easel.page.keyboard.press("Delete")
    assert easel.sent()["box"] == [0, 0, 0, 0]
    easel.page.keyboard.press("Control+z")
    assert easel.sent()["box"] == [x - 1, y, 400 - x, 300 - y]
    easel.stroke((10, 10), (15, 15))  # too small to be meant
    assert easel.sent()["box"] == [x - 1, y, 400 - x, 300 - y]
    easel.page.get_by_role("button", name="Remove the box").click()
    assert easel.sent()["box"] == [0, 0, 0, 0]


def test_all_by_keyboard(easel: Easel) -> None:
    easel.show(300, 200)
    press = easel.page.keyboard.press
    easel.page.evaluate("document.activeElement.blur()")
    for _ in range(30):
        press("Tab")
        if easel.page.evaluate("document.activeElement.matches('.drawing-stage')"):
            break
    else:
        pytest.fail("the stage is not reached by Tab")
    press("r")
    for _ in range(3):
        press("ArrowLeft")
    press("Enter")
    press("Shift+ArrowRight")
    press("Shift+ArrowDown")
    press("Enter")
    mask = easel.mask()
    y, x = np.nonzero(mask)
    step = round(4 / easel.page.evaluate("atelier.canvas('inpaint').view().scale"))
    assert (x.min(), x.max() + 1) == (150 - 3 * step, 150 + 7 * step)
    assert (y.min(), y.max() + 1) == (100, 100 + 10 * step)
    assert (mask[y.min() : y.max() + 1, x.min() : x.max() + 1] == 255).all()

    press("e")
    for _ in range(25):
        press("[")
    press("Enter")
    press("Shift+ArrowLeft")
    press("Escape")
    np.testing.assert_array_equal(easel.mask(), mask)
    press("Enter")
    press("Shift+ArrowLeft")
    press("Enter")
    assert easel.mask().sum() < mask.sum()
    press("Control+z")
    np.testing.assert_array_equal(easel.mask(), mask)
    press("Delete")
    assert easel.sent()["mask"] is None
    said = easel.page.inner_text(f"{easel.root} .drawing-said")
    assert said == "Mask cleared"


def test_help_tells_the_keys_of_this_canvas_and_goes_again(open_canvas: Open) -> None:
    easel = open_canvas("picture")
    easel.show(80, 60)
    easel.page.focus(easel.stage)
    easel.page.keyboard.press("?")
    dialog = easel.page.get_by_role("dialog", name="Keys of the canvas")
    assert "zoom" in dialog.inner_text()
    assert "eraser" not in dialog.inner_text()
    easel.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert easel.page.evaluate("document.activeElement.matches('.drawing-stage')")
    easel.stroke((20, 20), (60, 40))  # looks, paints nothing
    assert easel.sent()["mask"] is None


def test_every_control_has_a_name(easel: Easel) -> None:
    easel.show(80, 60)
    easel.choose("box")
    easel.stroke((10, 10), (60, 50))
    nameless = easel.page.evaluate(
        """(root) => [...document.querySelectorAll(root + " :is(button, input, [tabindex], [role])")]
          .filter((node) => node.getClientRects().length && !node.ariaHidden)
          .filter((node) => !(node.ariaLabel || node.textContent.trim() || node.labels?.length))
          .map((node) => node.outerHTML)""",
        easel.root,
    )
    assert nameless == []
    stops = easel.page.evaluate(
        "(root) => document.querySelectorAll(root + ' .drawing-tools button[tabindex=\"0\"]').length", easel.root
    )
    assert stops == 1, "a toolbar is one stop of the Tab key"
    easel.page.locator(f"{easel.root} [data-tool=box]").press("ArrowUp")
    assert easel.page.evaluate("document.activeElement.dataset.tool") == "fill"


def test_keys_are_left_to_whoever_writes(easel: Easel) -> None:
    easel.show(80, 60)
    easel.page.mouse.move(*easel.at(40, 30))
    easel.page.focus("#words input")
    easel.page.keyboard.type("beri?[]")
    assert easel.page.input_value("#words input") == "beri?[]"
    assert easel.page.get_attribute(f"{easel.root} [data-tool=brush]", "aria-pressed") == "true"
    assert easel.sent()["mask"] is None


def test_nothing_is_painted_while_results_are_looked_at(easel: Easel) -> None:
    easel.show(100, 80)
    easel.page.evaluate("(data) => atelier.canvas('inpaint').setCandidates([{url: data}])", url_of(noise(100, 80, 4)))
    easel.page.wait_for_selector(f"{easel.stage}[data-staging]")
    easel.stroke((20, 20), (50, 50))
    easel.page.keyboard.press("i")
    assert easel.sent()["mask"] is None
    easel.page.keyboard.press("Escape")
    easel.page.wait_for_selector(f"{easel.stage}:not([data-staging])")
    easel.stroke((20, 20), (50, 50))
    assert easel.sent()["mask"] is not None


def url_of(pixels: Pixels) -> str:
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def test_mask_can_be_hidden_and_shown_in_another_colour(easel: Easel) -> None:
    easel.drop((png(np.zeros((100, 100, 3), np.uint8)), "black.png", "image/png"))
    easel.wait(100, 100)
    easel.brush(60)
    easel.page.fill(f"{easel.root} [data-set=maskColour]", "#00ff00")
    easel.page.fill(f"{easel.root} [data-set=maskOpacity]", "1")
    easel.stroke((50, 50))

    def seen() -> list[int]:
        x, y = easel.at(60, 60)
        easel.page.mouse.move(0, 0)
        return list(
            easel.page.evaluate(
                """async ([stage, x, y]) => {
                  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
                  const canvas = document.querySelector(stage + " .drawing-layers"), place = canvas.getBoundingClientRect();
                  return [...canvas.getContext("2d").getImageData(x - place.left, y - place.top, 1, 1).data];
                }""",
                [easel.stage, x, y],
            )
        )

    assert seen() in ([0, 255, 0, 255], [89, 255, 89, 255]), "in stripes of two tones"
    easel.page.keyboard.press("h")
    assert seen()[3] == 0
    assert easel.mask()[60, 60] == 255, "hidden is not gone"
    easel.page.keyboard.press("h")
    easel.page.fill(f"{easel.root} [data-set=maskOpacity]", "0.5")
    assert seen()[3] == 128
