"""How pictures and masks come onto the canvas, what is sent of them, and what is told when something is wrong."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modules.jobs.views import PictureView
from tests.ui.canvas.stand import CanvasPage, Pixels, encoded, noise, png, posts_of
from tests.ui.fake_app import FakeApp

pytestmark = pytest.mark.browser

SOURCES = "/internal/sources"

PASTE = """([data, type]) => {
  const transfer = new DataTransfer();
  if (data) transfer.items.add(new File([Uint8Array.from(data)], "image.png", {type}));
  else transfer.setData("text/plain", "words");
  const event = new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true, cancelable: true});
  document.activeElement.dispatchEvent(event);
}"""


def settled(posts: list[str], canvas: CanvasPage, count: int) -> None:
    """What is asked from the server has arrived there."""
    canvas.page.wait_for_selector(f"{canvas.root} .drawing-progress[hidden]", state="attached")
    assert posts == [SOURCES] * count


def test_picture_goes_once_and_the_mask_when_it_has_changed(canvas: CanvasPage) -> None:
    posts = posts_of(canvas.page)
    pixels = canvas.show()
    first = canvas.sent()
    np.testing.assert_array_equal(canvas.kept(first["source"]), pixels)
    zeros = {f"outpaint_{side}": 0 for side in ("left", "right", "up", "down")}
    assert first == {"source": first["source"], "mask": None, "box": [0, 0, 0, 0], **zeros}
    settled(posts, canvas, 1)

    canvas.stroke((50, 50), (100, 50))
    second = canvas.sent()
    assert second["source"] == first["source"]
    settled(posts, canvas, 2)
    assert canvas.sent() == second
    settled(posts, canvas, 2)
    canvas.stroke((50, 80), (100, 80))
    assert canvas.sent()["mask"] != second["mask"]
    settled(posts, canvas, 3)


def test_mask_is_a_small_grey_png(canvas: CanvasPage, app: Any) -> None:
    canvas.show(640, 480)
    canvas.sent()
    bodies: list[bytes] = []
    app.keep_upload = lambda data, user: bodies.append(data) or app.uploads.keep(data, user)
    canvas.brush(100, 0.3)
    canvas.stroke((100, 100), (500, 400))
    canvas.sent()
    (body,) = bodies
    with Image.open(io.BytesIO(body)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (640, 480))
        image.load()
    assert len(body) < 30_000


def test_picture_is_on_its_way_as_soon_as_it_is_there(canvas: CanvasPage, app: FakeApp) -> None:
    with canvas.page.expect_response(lambda r: r.url.endswith(SOURCES)) as sent:
        canvas.show()
    assert sent.value.status == 201


def test_pasted_and_chosen_pictures(canvas: CanvasPage, tmp_path: Path) -> None:
    canvas.page.click(canvas.viewport, position={"x": 20, "y": 20})
    canvas.page.evaluate(PASTE, [list(png(noise(120, 80))), "image/png"])
    canvas.wait(120, 80)
    file = tmp_path / "chosen.webp"
    Image.fromarray(noise(90, 70)).save(file, lossless=True)
    with canvas.page.expect_file_chooser() as chooser:
        canvas.do("open")
    chooser.value.set_files(file)
    canvas.wait(90, 70)
    np.testing.assert_array_equal(canvas.kept(canvas.sent()["source"]), noise(90, 70))

    canvas.page.focus("#words input")
    canvas.page.evaluate(PASTE, [list(png(noise(50, 50))), "image/png"])  # belongs to the field that is being written in
    canvas.page.evaluate("new Promise((done) => setTimeout(done, 50))")
    assert canvas.page.inner_text(canvas.size) == "90 × 70"
    canvas.page.focus(canvas.viewport)
    canvas.page.evaluate(PASTE, [None, ""])
    assert canvas.problem() == "There is no picture in the clipboard."


def oriented() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(noise(80, 40)), "JPEG", exif=exif, quality=95)


ODD = {
    "oriented.jpg": (oriented(), (40, 80)),
    "palette.png": (encoded(Image.fromarray(noise(60, 30)).quantize(16), "PNG"), (60, 30)),
    "deep.png": (encoded(Image.fromarray(np.arange(60 * 30, dtype=np.uint16).reshape(30, 60) * 30), "PNG"), (60, 30)),
    "cmyk.jpg": (encoded(Image.fromarray(noise(64, 48)).convert("CMYK"), "JPEG"), (64, 48)),
    "alpha.webp": (encoded(Image.fromarray(np.dstack([noise(50, 40), noise(50, 40)[..., 0]])), "WEBP"), (50, 40)),
    "some.avif": (encoded(Image.fromarray(noise(48, 64)), "AVIF"), (48, 64)),
}


def test_odd_pictures_have_the_size_that_the_server_sees(canvas: CanvasPage) -> None:
    for name, (data, (width, height)) in ODD.items():
        canvas.drop((data, name, ""))
        canvas.wait(width, height)
        assert canvas.kept(canvas.sent()["source"]).shape == (height, width, 3), name


def test_picture_that_the_browser_cannot_read_is_shown_as_the_server_reads_it(canvas: CanvasPage) -> None:
    canvas.page.evaluate(
        """() => {
          const real = createImageBitmap;
          window.createImageBitmap = async (from, ...rest) => {
            if (from.type === "image/avif") throw new Error("no AVIF here");
            return real(from, ...rest);
          };
        }"""
    )
    canvas.drop((ODD["some.avif"][0], "some.avif", "image/avif"))
    canvas.wait(48, 64)
    canvas.stroke((20, 20))
    assert canvas.mask().shape == (64, 48)


def huge(width: int, height: int) -> bytes:
    """A PNG that says it is this large and ends there."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + bytes(20)


NO_PICTURES = [
    (b"", "nothing.png", "“nothing.png” is an empty file"),
    (
        b"%PDF-1.7 and so on, as long as a head must be",
        "paper.pdf",
        "“paper.pdf” is not a picture that can be read here. PNG",
    ),
    (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "a.png", "“a.png” is not a picture"),
    (huge(30_000, 30_000), "bomb.png", "“bomb.png” has 30000 × 30000 pixels. At most 8192"),
    (huge(6_000, 6_000), "large.png", "“large.png” has 6000 × 6000 pixels."),
    (png(noise(64, 64))[:3000], "torn.png", "picture"),
]


def test_what_is_no_picture_is_refused_in_words_and_changes_nothing(canvas: CanvasPage) -> None:
    canvas.show(120, 90)
    canvas.stroke((50, 50))
    before = canvas.sent()
    for data, name, words in NO_PICTURES:
        canvas.drop((data, name, "image/png"))
        assert words in canvas.problem()
        assert canvas.sent() == before
        assert canvas.page.inner_text(canvas.size) == "120 × 90"


def test_pictures_of_the_page_are_taken_whole_by_their_address(canvas: CanvasPage, app: Any) -> None:
    pixels = noise(200, 100, 5)
    path = app.settings.outputs_dir / "one.png"
    path.write_bytes(png(pixels))
    app.picture = lambda job, index, user: PictureView(index, path.name, path, "", 1, 200, 100)
    for address in ("internal/pictures/job1/0", "internal/pictures/job1/0/thumbnail"):
        canvas.page.evaluate("(src) => document.body.append(Object.assign(new Image(), {src, id: 'own', height: 60}))", address)
        canvas.page.wait_for_function("own.complete && own.naturalWidth > 0")
        canvas.page.drag_and_drop("#own", canvas.viewport)
        canvas.wait(200, 100)
        np.testing.assert_array_equal(canvas.kept(canvas.sent()["source"]), pixels)
        canvas.page.evaluate("own.remove(), atelier.canvas('inpaint').clear()")
        canvas.page.wait_for_selector(f"{canvas.root}[data-state=empty]")
    canvas.drop(text="http://elsewhere.test/picture.png")
    assert "Pictures of other sites cannot be taken" in canvas.problem()


def test_file_dropped_beside_the_canvas_does_not_take_the_page_away(canvas: CanvasPage) -> None:
    stays = canvas.page.evaluate(
        """() => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File(["x"], "x.png", {type: "image/png"}));
          const drop = new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true});
          return !document.body.dispatchEvent(drop);
        }"""
    )
    assert stays
    assert canvas.page.get_attribute(canvas.root, "data-state") == "empty"


# ---- masks from files


def ramp(width: int, height: int) -> Pixels:
    return np.tile(np.linspace(0, 255, width).round().astype(np.uint8), (height, 1))


def test_mask_files_dropped_and_chosen(canvas: CanvasPage, tmp_path: Path) -> None:
    canvas.drop((png(ramp(10, 10)), "mask.png", "image/png"), on="picture")  # no picture yet: it is one
    canvas.wait(10, 10)
    canvas.show(100, 50)
    canvas.drop((png(ramp(100, 50)), "mask.png", "image/png"), on="mask")
    canvas.page.wait_for_function("atelier.canvas('inpaint').hasMask()")
    np.testing.assert_array_equal(canvas.mask(), ramp(100, 50))
    assert canvas.page.inner_text(canvas.size) == "100 × 50"
    canvas.page.keyboard.press("Control+z")
    assert canvas.sent()["mask"] is None

    clear = np.zeros((50, 100, 4), np.uint8)
    clear[10:20, 30:60, 3] = 255  # black paint on nothing
    file = tmp_path / "mask.png"
    file.write_bytes(png(clear))
    with canvas.page.expect_file_chooser() as chooser:
        canvas.do("mask-file")
    chooser.value.set_files(file)
    canvas.page.wait_for_function("atelier.canvas('inpaint').hasMask()")
    np.testing.assert_array_equal(canvas.mask(), clear[..., 3])


def test_mask_of_another_size_is_stretched_and_that_is_reported(canvas: CanvasPage) -> None:
    canvas.show(100, 80)
    half = np.zeros((40, 50), np.uint8)
    half[:, 25:] = 255
    canvas.drop((png(half), "mask.png", "image/png"), on="mask")
    assert canvas.problem() == "The mask has 50 × 40 pixels, the picture 100 × 80: it was stretched to fit."
    mask = canvas.mask()
    assert (mask[:, :48] == 0).all()
    assert (mask[:, 52:] == 255).all()
