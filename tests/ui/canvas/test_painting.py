"""What is painted on the canvas, read back from the mask that reaches the server."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ui.canvas.conftest import Open
from tests.ui.canvas.stand import CanvasPage, Pixels, png, same

pytestmark = pytest.mark.browser

WATCH = """([viewport, name]) => {
  window.path = [];
  const see = (event) => {
    const view = atelier.canvas(name).view(), place = document.querySelector(viewport).getBoundingClientRect();
    const all = event.type === "pointermove" ? event.getCoalescedEvents() : [event];
    if (event.buttons) for (const e of all) window.path.push(
      [(e.clientX - place.left - view.x) / view.scale, (e.clientY - place.top - view.y) / view.scale]);
  };
  for (const type of ["pointerdown", "pointermove"]) document.querySelector(viewport).addEventListener(type, see, true);
}"""


def watched_path(canvas: CanvasPage) -> list[list[float]]:
    return list(canvas.page.evaluate("window.path.splice(0)"))


def covered(path: list[list[float]], size: float, hardness: float, width: int, height: int) -> Pixels:
    """What a brush covers, from the distance of every pixel's centre to every line of its path."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    nearest = np.full((height, width), np.inf)
    for (x0, y0), (x1, y1) in zip(path, path[1:] or path, strict=False):
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        t = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / (length or 1), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - t * (x1 - x0), y - y0 - t * (y1 - y0)))
    radius = size / 2
    outer, inner = radius + 0.5, max(0.0, min(hardness * radius, radius - 0.5))
    share = np.clip((outer - nearest) / (outer - inner), 0, 1)
    if hardness < 1:
        share = share**2 * (3 - 2 * share)
    return np.round(255 * share).astype(np.uint8)


def test_stroke_covers_what_is_near_its_path_and_nothing_else(canvas: CanvasPage) -> None:
    canvas.show()
    canvas.page.evaluate(WATCH, [canvas.viewport, canvas.name])
    for size, hardness in ((41, 1.0), (40, 0.5), (60, 0.0), (1, 1.0)):
        canvas.brush(size, hardness)
        canvas.stroke((60, 50), (150, 100), (140, 170), (200, 40))
        same(canvas.mask(), covered(watched_path(canvas), size, hardness, 300, 200))
        canvas.do("wipe")


def test_strokes_of_one_mask_join_without_a_seam_and_erasing_takes_away(canvas: CanvasPage) -> None:
    canvas.show()
    canvas.page.evaluate(WATCH, [canvas.viewport, canvas.name])
    canvas.brush(50, 0.3)
    canvas.stroke((60, 60), (200, 60))
    first = covered(watched_path(canvas), 50, 0.3, 300, 200)
    canvas.stroke((100, 20), (100, 150))
    both = np.maximum(first, covered(watched_path(canvas), 50, 0.3, 300, 200))
    same(canvas.mask(), both)

    canvas.page.keyboard.press("e")
    canvas.brush(30, 1.0)
    canvas.stroke((100, 60), (160, 60))
    left = np.minimum(both, 255 - covered(watched_path(canvas), 30, 1.0, 300, 200))
    same(canvas.mask(), left)

    canvas.page.keyboard.press("b")
    canvas.stroke((100, 120), (100, 140), button="right")
    same(canvas.mask(), np.minimum(left, 255 - covered(watched_path(canvas), 30, 1.0, 300, 200)))


def test_strokes_begin_and_end_beside_the_picture(canvas: CanvasPage) -> None:
    canvas.show(320, 120)
    canvas.brush(20)
    canvas.page.evaluate(WATCH, [canvas.viewport, canvas.name])
    canvas.stroke((40, -12), (40, 132), steps=8)
    path = watched_path(canvas)
    assert path[0][1] < 0
    assert path[-1][1] > 120
    mask = canvas.mask()
    same(mask, covered(path, 20, 1.0, 320, 120))
    assert (mask[:, 40] == 255).all()


def test_straight_line_from_the_last_stroke_with_shift(canvas: CanvasPage) -> None:
    canvas.show()
    canvas.brush(10)
    canvas.stroke((50, 50), (52, 50))
    canvas.page.keyboard.down("Shift")
    canvas.stroke((250, 150))
    canvas.page.keyboard.up("Shift")
    mask = canvas.mask()
    assert mask[100, 151] == 255
    assert mask[100, 120] == 0


def test_rectangle_lasso_and_fill(canvas: CanvasPage) -> None:
    canvas.show()
    canvas.choose("rectangle")
    canvas.stroke((20.2, 30.1), (80.1, 90.2))
    expected = np.zeros((200, 300), np.uint8)
    expected[30:90, 20:80] = 255
    same(canvas.mask(), expected)

    canvas.stroke((60, 60), (400, 400), button="right")
    expected[60:, 60:] = 0
    same(canvas.mask(), expected)

    canvas.choose("lasso")
    canvas.stroke((150, 20), (290, 20), (290, 180), steps=1)
    mask = canvas.mask()
    y, x = np.mgrid[0:200, 0:300] + 0.5
    depth = np.minimum.reduce([y - 20, 290 - x, (x - 150) * 160 / 140 + 20 - y])  # how far within the triangle
    assert (mask[depth > 3] == 255).all()
    assert (mask[(depth < -3) & (expected == 0)] == 0).all()

    canvas.choose("brush")
    canvas.brush(6)
    canvas.stroke((100, 120), (140, 120), (140, 180), (100, 180), (100, 120))
    assert canvas.mask()[150, 120] == 0
    canvas.choose("fill")
    canvas.stroke((120, 150))
    mask = canvas.mask()
    assert (mask[118:182, 98:142] == 255).all(), "up to the outline's own middle, without a seam"
    assert mask[190, 120] == 0
    assert mask[150, 80] == 0
    canvas.stroke((120, 150), button="right")
    assert canvas.mask()[150, 120] == 0


def test_fill_takes_the_whole_slope_of_a_large_soft_line(canvas: CanvasPage) -> None:
    canvas.show(900, 700)
    canvas.brush(600, 0.0)
    canvas.stroke((450, 350))
    assert canvas.mask()[350, 640] not in (0, 255)
    canvas.choose("fill")
    canvas.stroke((5, 5))
    assert (canvas.mask() == 255).all()


def test_invert_and_clear(canvas: CanvasPage) -> None:
    canvas.show()
    canvas.brush(50, 0.5)
    canvas.stroke((100, 100), (200, 100))
    before = canvas.mask()
    canvas.do("invert")
    same(canvas.mask(), 255 - before)
    canvas.page.keyboard.press("i")
    same(canvas.mask(), before)
    canvas.do("wipe")
    assert canvas.sent()["mask"] is None


# ---- pen and fingers


def test_pen_pressure_is_the_width_of_the_stroke(canvas: CanvasPage) -> None:
    canvas.show()
    canvas.brush(80)
    pen = canvas.page.context.new_cdp_session(canvas.page)

    def send(kind: str, x: float, y: float, force: float) -> None:
        place = canvas.at(x, y)
        held = {"button": "left", "buttons": 1, "clickCount": 1, "pointerType": "pen", "force": force}
        pen.send("Input.dispatchMouseEvent", {"type": kind, "x": place[0], "y": place[1], **held})

    send("mousePressed", 60, 100, 0.25)
    for x in range(70, 241, 10):
        send("mouseMoved", x, 100, 0.25 if x < 150 else 1.0)
    send("mouseReleased", 240, 100, 0.0)
    mask = canvas.mask()
    assert abs(int((mask[:, 100] > 127).sum()) - 20) <= 2
    assert abs(int((mask[:, 220] > 127).sum()) - 80) <= 2


def test_one_finger_paints_two_zoom_and_paint_nothing(canvas: CanvasPage) -> None:
    canvas.show()
    canvas.brush(20)
    touch = canvas.page.context.new_cdp_session(canvas.page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        places = [dict(zip(("x", "y", "id"), (*canvas_places[point], i), strict=True)) for i, point in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    canvas_places = {(x, y): canvas.at(x, y) for x in range(0, 300, 10) for y in range(0, 200, 10)}
    send("touchStart", (50, 50))
    for x in (70, 100, 130, 150):
        send("touchMove", (x, 50))
    send("touchEnd")
    mask = canvas.mask()
    assert mask[50, 100] == 255
    assert mask[80, 100] == 0

    before = canvas.page.evaluate("atelier.canvas('inpaint').view()")
    send("touchStart", (100, 100))
    send("touchMove", (110, 100))
    send("touchStart", (110, 100), (200, 100))
    send("touchMove", (80, 100), (230, 100))
    send("touchMove", (60, 100), (240, 100))
    send("touchEnd")
    after = canvas.page.evaluate("atelier.canvas('inpaint').view()")
    assert after["scale"] == pytest.approx(2 * before["scale"], rel=0.02)
    same(canvas.mask(), mask)
    assert canvas.page.locator(f"{canvas.root} [data-do=undo]").get_attribute("aria-disabled") == "false"
    canvas.do("undo")  # one step, the stroke of the first finger
    assert canvas.sent()["mask"] is None


# ---- looking closer


def test_wheel_zooms_at_the_pointer_and_strokes_fall_where_it_is(canvas: CanvasPage) -> None:
    canvas.show(400, 300)
    canvas.brush(8)
    place = tuple(map(round, canvas.at(300, 200)))
    point = canvas.under(*place)
    canvas.page.mouse.move(*place)
    for _ in range(4):
        canvas.page.mouse.wheel(0, -240)
    zoom = f"{canvas.root} .drawing-zoom"
    canvas.page.wait_for_function("(s) => parseFloat(document.querySelector(s).textContent) > 400", arg=zoom)
    assert canvas.at(*point) == pytest.approx(place, abs=0.01)
    canvas.stroke((300, 200), (310, 200))
    mask = canvas.mask()
    y, x = np.nonzero(mask)
    assert (x.min(), x.max()) == (pytest.approx(296, abs=1), pytest.approx(313, abs=1))
    assert (y.min(), y.max()) == (pytest.approx(196, abs=1), pytest.approx(203, abs=1))

    canvas.page.keyboard.down("Space")
    canvas.stroke((300, 200), (320, 215))
    canvas.page.keyboard.up("Space")
    assert canvas.at(320, 215) != pytest.approx(place, abs=1)
    canvas.stroke((320, 200), (310, 190), button="middle")
    same(canvas.mask(), mask)
    canvas.page.keyboard.press("0")
    assert canvas.page.evaluate("atelier.canvas('inpaint').view().scale") < 3
    canvas.page.keyboard.press("1")
    canvas.page.wait_for_function("(s) => document.querySelector(s).textContent === '100 %'", arg=zoom)


def test_keys_and_wheel_set_the_brush(canvas: CanvasPage) -> None:
    canvas.show()
    canvas.brush(64, 0.5)

    def number(name: str) -> float:
        canvas.page.evaluate("new Promise(requestAnimationFrame)")
        return float(canvas.page.input_value(f"{canvas.root} [data-number={name}]"))

    canvas.page.keyboard.press("]")
    assert number("size") == 72
    canvas.page.keyboard.press("[")
    assert number("size") == 63
    canvas.page.keyboard.press("}")
    assert number("hardness") == 60
    canvas.page.keyboard.press("{")
    assert number("hardness") == 50
    canvas.page.mouse.move(*canvas.at(100, 100))
    canvas.page.keyboard.down("Shift")
    canvas.page.mouse.wheel(0, -120)
    canvas.page.keyboard.up("Shift")
    more = "([s, n]) => Number(document.querySelector(s).value) > n"
    canvas.page.wait_for_function(more, arg=[f"{canvas.root} [data-number=size]", 63])
    canvas.page.keyboard.down("Alt")
    canvas.page.mouse.wheel(0, -120)
    canvas.page.keyboard.up("Alt")
    canvas.page.wait_for_function(
        "(s) => Number(document.querySelector(s).value) > 50", arg=f"{canvas.root} [data-number=hardness]"
    )
    canvas.page.fill(f"{canvas.root} [data-number=size]", "99999")
    canvas.page.keyboard.press("Tab")
    assert number("size") == 1024


# ---- colours


def test_colours_are_sent_as_part_of_the_picture(canvas: CanvasPage) -> None:
    pixels = canvas.show()
    original = canvas.sent()["source"]
    np.testing.assert_array_equal(canvas.kept(original), pixels)

    canvas.page.get_by_role("radio", name="Colour").click()
    canvas.page.fill(f"{canvas.root} [data-set=colour]", "#1040c0")
    canvas.choose("rectangle")
    canvas.stroke((50, 40), (100, 80))
    fields = canvas.sent()
    assert fields["mask"] is None
    expected = pixels.copy()
    expected[40:80, 50:100] = (0x10, 0x40, 0xC0)
    np.testing.assert_array_equal(canvas.kept(fields["source"]), expected)

    canvas.choose("brush")
    canvas.brush(30, 0.0)
    canvas.stroke((200, 100), (240, 100))
    soft = canvas.kept(canvas.sent()["source"]).astype(int)
    assert np.abs(soft[100, 220] - (0x10, 0x40, 0xC0)).max() <= 3
    np.testing.assert_array_equal(soft[130:], pixels[130:])
    canvas.page.keyboard.press("Control+z")
    canvas.page.keyboard.press("Control+z")
    assert canvas.sent()["source"] == original


def test_alt_takes_the_colour_under_the_pointer(open_canvas: Open) -> None:
    canvas = open_canvas("sketch")
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[:, 50:] = (12, 200, 77)
    canvas.drop((png(pixels), "a.png", "image/png"))
    canvas.wait(100, 100)
    canvas.page.keyboard.down("Alt")
    canvas.stroke((75, 50))
    canvas.page.keyboard.up("Alt")
    canvas.page.wait_for_function(
        "(s) => document.querySelector(s).value === '#0cc84d'", arg=f"{canvas.root} [data-set=colour]"
    )
    canvas.brush(30)
    canvas.stroke((20, 50))
    fields = canvas.sent()
    assert fields["mask"] is None
    assert canvas.kept(fields["source"])[50, 20].tolist() == [12, 200, 77]


def test_a_soft_stroke_that_crosses_itself_is_no_stronger_there(open_canvas: Open) -> None:
    canvas = open_canvas("sketch")
    canvas.drop((png(np.full((200, 300, 3), 255, np.uint8)), "white.png", "image/png"))
    canvas.wait(300, 200)
    canvas.page.fill(f"{canvas.root} [data-set=colour]", "#000000")
    canvas.brush(40, 0.0)
    canvas.page.evaluate(WATCH, [canvas.viewport, canvas.name])
    canvas.stroke((50, 100), (250, 100), (50, 104), (250, 100), steps=6)
    path = watched_path(canvas)
    found = canvas.kept(canvas.sent()["source"])[..., 0].astype(int)
    assert np.abs(found - (255 - covered(path, 40, 0.0, 300, 200).astype(int))).max() <= 4
