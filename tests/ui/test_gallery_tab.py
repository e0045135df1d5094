"""The Gallery tab in a browser: looking, choosing, writing down, the trash, and sending to the other tabs."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.gallery.conftest import SECONDS, painted
from tests.ui.canvas.stand import CanvasPage
from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp

HOSTILE = "<img src=x onerror=window.__x=1>"


@pytest.fixture
def outputs(app: FakeApp) -> Path:
    """Five pictures: 0 is the newest."""
    folder = app.settings.outputs_dir
    for number, prompt in enumerate(("a red fox", "a blue fox", "a dog", f"an owl {HOSTILE}", "")):
        painted(folder / f"{number}.png", prompt, seed=number + 50, size=(64, 64 + 32 * number), age=number, Model="dreams")
    app.gallery.rescan(SECONDS)
    return folder


def to_gallery(page: Any, count: int) -> Any:
    page.click("#tab_gallery")
    wait_cells(page, count)
    return page


def wait_cells(page: Any, count: int) -> None:
    page.wait_for_function("(count) => document.querySelectorAll('.wall-cell').length === count", arg=count)


def cell(page: Any, number: int) -> Any:
    return page.locator(f".wall-cell[data-index='{number}']")


def search(page: Any, text: str) -> None:
    page.fill(".gallery-find", text)
    page.press(".gallery-find", "Enter")


def wait_prompt(page: Any, tab: str, text: str) -> None:
    box = f"#{tab}_prompt textarea"
    page.wait_for_function("([box, text]) => document.querySelector(box).value === text", arg=[box, text])


def test_looking_searching_and_sending(page: Any, app: FakeApp, outputs: Path) -> None:
    (outputs / "torn.png").write_bytes((outputs / "0.png").read_bytes()[:60])
    page.click("#tab_gallery")
    page.click(".gallery-rescan")
    wait_cells(page, 6)
    assert page.locator(".cell-broken").count() == 1
    page.wait_for_selector(".gallery-count:text-is('6 pictures')")
    search(page, "fox")
    wait_cells(page, 2)
    search(page, 'model:"dreams" -fox size:>64 -owl -"a dog"')
    page.wait_for_selector(".gallery-empty:has-text('No picture fits')")
    search(page, "rating:many")
    page.wait_for_selector(".gallery-bad:has-text('write 5, >=3 or 2..4')")
    page.click(".gallery-help")
    page.click(".gallery-grammar button:text-is('red fox')")
    wait_cells(page, 1)
    assert page.locator(".gallery-bad").is_hidden()

    search(page, "owl")
    wait_cells(page, 1)
    cell(page, 0).click()
    page.wait_for_selector(f".look .look-words:has-text('{HOSTILE}')")
    assert page.evaluate("window.__x") is None
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog.look", state="detached")
    search(page, "-is:broken")
    wait_cells(page, 5)
    page.keyboard.press("ArrowDown")  # out of the field, into the list
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector(".look .look-words:text-is('a blue fox')")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".look .look-words:text-is('a red fox')")
    assert page.locator(".look [data-do=before]").is_hidden()
    page.click(".look [data-to=txt2img]")
    wait_prompt(page, "txt2img", "a red fox")
    assert page.input_value("#txt2img_seed input, #txt2img_seed textarea") == "50"

    page.click("#tab_gallery")
    cell(page, 0).locator("img").drag_to(page.locator("#tab_img2img"))
    page.wait_for_selector("#tab_img2img[aria-selected=true]")
    CanvasPage(page, app, "img2img").wait(64, 64)
    page.click("#tab_gallery")
    cell(page, 1).locator("img").drag_to(page.locator("#tab_pnginfo"))
    page.wait_for_selector(".pnginfo-words:has-text('a blue fox')")
    page.click("#tab_gallery")
    cell(page, 1).locator("img").drag_to(page.locator("#tab_extras"))
    page.wait_for_selector(".extras-list li:nth-child(1)", state="attached")
    page.click("#tab_gallery")
    cell(page, 0).click()
    page.click(".look [data-to=extras]")
    page.wait_for_selector("#tab_extras[aria-selected=true]")
    page.wait_for_selector(".extras-list li:nth-child(2)")


def test_the_chosen_pictures_are_sorted_and_dragged_together(page: Any, outputs: Path) -> None:
    to_gallery(page, 5)
    with page.expect_response(lambda answer: "sort=name" in answer.url):
        page.select_option(".gallery-sort select", "name")
    page.wait_for_selector(".wall-cell[data-index='0'][aria-label*='a red fox']")
    for number in (0, 1):
        cell(page, number).click(modifiers=["Control"])
    cell(page, 1).locator("img").drag_to(page.locator("#tab_extras"))
    page.wait_for_function("() => document.querySelectorAll('.extras-list li').length === 2")
    assert page.locator(".extras-list li b").all_text_contents() == ["0.png", "1.png"]
    page.click("#tab_gallery")
    cell(page, 0).locator("img").drag_to(page.locator("#tab_img2img"))
    page.wait_for_selector("#img2img_generate[data-batch='2']", state="attached")
    page.click("#tab_gallery")
    cell(page, 2).locator("img").drag_to(page.locator("#tab_extras"))  # which is not among the chosen
    page.wait_for_function("() => document.querySelectorAll('.extras-list li').length === 3")


def test_choosing_writing_down_and_the_trash(page: Any, outputs: Path) -> None:
    before = {path.name: path.read_bytes() for path in outputs.glob("*.png")}
    to_gallery(page, 5)
    cell(page, 0).click(modifiers=["Control"])
    cell(page, 2).click(modifiers=["Shift"])
    page.wait_for_selector(".actions-count:text-is('3 chosen')")
    page.keyboard.press("4")
    page.wait_for_function("() => document.querySelectorAll('.cell-marks').length === 3")
    page.keyboard.press("Escape")
    page.wait_for_selector(".gallery-actions", state="hidden")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("f")
    page.wait_for_selector(".wall-cell[data-index='3'] .cell-marks:text-is('♥')")
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_selector(".actions-count:text-is('2 chosen')")
    page.click(".gallery-actions [data-do=album]")
    page.fill(".gallery-labels-dialog input", "Best of")
    page.click(".gallery-labels-dialog .save")
    page.wait_for_selector(".gallery-labels button:has-text('Best of') .side-count:text-is('2')")

    page.keyboard.press("Delete")
    page.wait_for_selector(".gallery-said:has-text('2 pictures moved to the trash.')")
    wait_cells(page, 3)
    assert {path.name for path in outputs.glob("*.png")} == {"0.png", "1.png", "2.png"}
    page.click(".gallery-said button")
    wait_cells(page, 5)
    assert {path.name: path.read_bytes() for path in outputs.glob("*.png")} == before
    page.click(".gallery-labels button:has-text('Best of')")
    wait_cells(page, 2)
    page.click(".gallery-labels button:has-text('Best of')")
    wait_cells(page, 5)
    cell(page, 0).click()
    page.wait_for_selector(".look [data-do=trash]")
    page.keyboard.press("Delete")
    page.wait_for_selector(".look h2:text-is('1.png')")
    page.keyboard.press("Escape")
    search(page, "is:trash")  # typed, it is the trash too
    wait_cells(page, 1)
    cell(page, 0).click(modifiers=["Control"])
    page.keyboard.press("Delete")
    page.click("dialog.confirm button:text-is('Keep')")
    search(page, "")
    page.click(".gallery-views button:has-text('Trash')")
    wait_cells(page, 1)
    page.click(".gallery-actions [data-do=empty]")
    page.click("dialog.confirm .yes")
    page.wait_for_selector(".gallery-empty:has-text('The trash is empty')")
    assert len(list(outputs.rglob("*.png"))) == 4


def test_comparing_and_taking_along(page: Any, outputs: Path) -> None:
    to_gallery(page, 5)
    cell(page, 0).locator(".cell-check").click()
    cell(page, 1).click()
    page.click(".gallery-actions [data-do=compare]")
    page.wait_for_selector("dialog.compare[data-at='50']")
    page.keyboard.press("Home")
    page.wait_for_selector("dialog.compare[data-at='0']")
    box = page.locator(".compare-stage").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)
    assert 74 < float(page.get_attribute("dialog.compare", "data-at")) < 76
    assert "25" in page.evaluate("document.querySelector('.compare-left').style.clipPath")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+a")
    page.wait_for_selector(".actions-count:text-is('5 chosen')")
    with page.expect_download() as download:
        page.click(".gallery-actions [data-do=zip]")
    data = Path(download.value.path()).read_bytes()
    assert sorted(zipfile.ZipFile(io.BytesIO(data)).namelist()) == [f"{number}.png" for number in range(5)]


def test_only_what_is_in_sight_is_in_the_document(page: Any, app: FakeApp) -> None:
    for number in range(220):
        painted(app.settings.outputs_dir / f"{number}.png", f"number {number}.", seed=number, size=(16, 16), age=number)
    app.gallery.rescan(SECONDS)
    page.click("#tab_gallery")
    page.wait_for_selector(".gallery-count:text-is('220 pictures')")
    wall = page.query_selector(".gallery-wall")
    page.focus(".wall-cell[data-index='0']")
    for _ in range(8):  # the list grows as it is scrolled
        page.keyboard.press("End")
        page.wait_for_timeout(20)
        assert page.locator(".wall-cell").count() < 100
        if page.locator(".wall-cell[data-index='219']").count():
            break
    page.wait_for_function(
        "(wall) => (wall.scrollTop = wall.scrollHeight) && wall.querySelector('[data-index=\"219\"]')", arg=wall
    )
    assert page.locator(".wall-cell").count() < 100
    assert page.get_attribute(".wall-cell[data-index='219']", "aria-label") == "number 219."


def test_a_folder_without_pictures_then_with_one_and_on_a_phone(visit: Visit, app: FakeApp) -> None:
    page = visit(viewport={"width": 390, "height": 844}, device_scale_factor=2, has_touch=True, is_mobile=True).open()
    page.click("#tab_gallery")
    page.wait_for_selector(".gallery-empty:has-text('There are no pictures')")
    painted(app.settings.outputs_dir / "a.png", "a red fox")
    app.gallery.saved("a.png", "owner")
    wait_cells(page, 1)  # without being asked
    cell(page, 0).tap()
    page.wait_for_selector(".look .look-words:text-is('a red fox')")
    assert page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)") <= 390
