"""img2img and inpainting in Chromium, before a fake App whose jobs move only when the test says so."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.ui.canvas.stand import CanvasPage, Pixels, noise, png
from tests.ui.fake_app import FakeApp
from tests.ui.test_tabs import show
from tests.ui.test_txt2img_page import paint, wait_value
from tests.ui.window import resize

pytestmark = pytest.mark.browser

STRENGTH = "#inpaint_denoising_strength input[type=number]"


def opened(page: Any, app: FakeApp, tab: str) -> CanvasPage:
    show(page, tab)
    return CanvasPage(page, app, tab)


def submitted(page: Any, app: FakeApp, tab: str, number: int = 1) -> Any:
    """Generate; the request of the job."""
    page.click(f"#{tab}_generate")
    return app.records[app.wait_for_job(number)][1].request


def source_of(app: FakeApp, page: Any, request: Any) -> Pixels:
    return kept(page, request.source)


def kept(page: Any, identity: str) -> Pixels:
    answer = page.request.get(page.url.split("#")[0] + f"internal/sources/{identity}")
    assert answer.ok, answer.status
    with Image.open(io.BytesIO(answer.body())) as image:
        return np.asarray(image.convert("RGB"))


def finished(page: Any, app: FakeApp, job: str) -> None:
    for _ in range(app.records[job][1].count):
        app.finish_picture(job)
    page.wait_for_selector("body:not([data-busy])")


def test_without_a_picture_the_page_says_what_to_do(page: Any, app: FakeApp) -> None:
    show(page, "img2img")
    page.click("#img2img_generate")
    page.wait_for_selector("#complaint:has-text('Drop one on the canvas')")
    canvas = opened(page, app, "inpaint")
    canvas.show()
    page.click("#inpaint_generate")
    page.wait_for_selector("#complaint:has-text('Paint over what should change')")
    assert not app.records


def test_a_dropped_picture_is_what_the_job_starts_from(page: Any, app: FakeApp) -> None:
    canvas = opened(page, app, "img2img")
    pixels = canvas.show(512, 256)
    wait_value(page, "#img2img_width input", "184")  # as many pixels as the model's own 128 x 128, in the picture's proportion
    wait_value(page, "#img2img_height input", "88")
    page.click("#img2img_below [data-do=size]")
    wait_value(page, "#img2img_width input", "512")
    page.fill("#img2img_prompt textarea", "a house")
    page.fill("#img2img_denoising_strength input[type=number]", "0.5")
    page.click("#img2img_resize_mode input")
    page.get_by_role("option", name="Resize and fill", exact=True).click()
    page.click("#img2img_noise")
    page.fill("#img2img_extra_noise input[type=number]", "0.1")
    page.click("#img2img_fix_steps input")
    request = submitted(page, app, "img2img")
    assert np.array_equal(source_of(app, page, request), pixels)
    told = (request.prompt, request.denoising_strength, request.resize_mode, request.extra_noise, request.fix_steps)
    assert told == ("a house", 0.5, "Resize and fill", 0.1, True)
    assert (request.width, request.height, request.mask) == (512, 256, None)


def test_a_factor_of_the_picture_s_size(page: Any, app: FakeApp) -> None:
    canvas = opened(page, app, "img2img")
    canvas.show(300, 200)
    page.click("#img2img_size_by >> text=By a factor")
    page.fill("#img2img_size_factor input[type=number]", "1.5")
    page.wait_for_selector("#img2img_below .canvas-size:has-text('becomes 448 × 304')")
    request = submitted(page, app, "img2img")
    assert (request.width, request.height) == (448, 304)


def test_a_mask_is_painted_and_sent_with_its_settings(page: Any, app: FakeApp) -> None:
    canvas = opened(page, app, "inpaint")
    canvas.show(200, 100)
    canvas.brush(20)
    canvas.stroke((50, 50), (90, 50))
    page.fill("#inpaint_mask_blur input[type=number]", "7")
    page.click("#inpaint_masked_content input")
    page.get_by_role("option", name="latent noise", exact=True).click()
    page.click("#inpaint_inpaint_area input")
    page.get_by_role("option", name="Only masked", exact=True).click()
    request = submitted(page, app, "inpaint")
    mask = kept(page, request.mask)[..., 0]
    assert mask.shape == (100, 200)
    assert mask[50, 70] == 255
    assert mask[50, 150] == 0
    assert (request.mask_blur_x, request.mask_blur_y) == (7, 7)
    assert (request.masked_content, request.inpaint_area) == ("latent noise", "Only masked")


def test_the_frame_is_the_same_on_the_canvas_and_in_numbers(page: Any, app: FakeApp) -> None:
    canvas = opened(page, app, "inpaint")
    canvas.show(128, 128)
    page.fill("#inpaint_outpaint_left input", "30")
    page.keyboard.press("Tab")
    page.wait_for_function("atelier.canvas('inpaint').size().outpaint.left === 32")
    wait_value(page, "#inpaint_outpaint_left input", "32")
    page.evaluate("atelier.canvas('inpaint').setOutpaint({left: 32, right: 0, up: 64, down: 0})")
    wait_value(page, "#inpaint_outpaint_up input", "64")
    wait_value(page, "#inpaint_width input", "160")
    wait_value(page, "#inpaint_height input", "192")
    request = submitted(page, app, "inpaint")
    assert (request.outpaint_left, request.outpaint_right, request.outpaint_up, request.outpaint_down) == (32, 0, 64, 0)


def test_candidates_are_accepted_onto_the_canvas_and_taken_back(page: Any, app: FakeApp) -> None:
    canvas = opened(page, app, "inpaint")
    first = canvas.show(128, 128)
    canvas.brush(30)
    canvas.stroke((60, 60), (80, 60))
    page.fill("#inpaint_count input", "2")
    page.click("#inpaint_generate")
    job = app.wait_for_job()
    finished(page, app, job)
    page.wait_for_selector(".results[data-view=grid]")
    assert page.locator(".picture-grid .candidate").count() == 2
    page.get_by_role("button", name="Accept picture 2").click()
    page.wait_for_selector(":root[data-face=canvas]")
    canvas.wait(128, 128)
    with Image.open(app.records[job][1].pictures[1].path) as image:
        second = np.asarray(image.convert("RGB"))
    assert np.array_equal(canvas.kept(canvas.sent()["source"]), second)
    assert canvas.mask()[60, 70] == 255, "the mask stays, to try again"

    canvas.stroke((20, 20), (30, 20))
    request = submitted(page, app, "inpaint", 2)
    assert np.array_equal(source_of(app, page, request), second)

    page.click(".back-to-canvas")
    page.get_by_role("button", name="Back to the picture from before").click()
    page.wait_for_selector("#inpaint_below .steps li:first-child [aria-current=true]")
    assert np.array_equal(canvas.kept(canvas.sent()["source"]), first)
    page.get_by_role("button", name="Back to accepted picture 1 of 1").click()
    page.wait_for_selector("#inpaint_below .steps li:last-child [aria-current=true]")
    assert np.array_equal(canvas.kept(canvas.sent()["source"]), second)


def test_a_result_goes_to_another_tab_with_everything_filled_in(page: Any, app: FakeApp) -> None:
    page.fill("#txt2img_prompt textarea", "a lighthouse")
    page.fill("#txt2img_negative_prompt textarea", "fog")
    page.fill("#txt2img_steps input[type=number]", "31")
    page.fill("#txt2img_width input", "192")
    job = paint(page, app)
    page.wait_for_selector("#result_picture")
    for number, tab in enumerate(("img2img", "inpaint"), start=2):
        page.click(f".picture-info [data-to={tab}]")
        page.wait_for_selector(f"#tab_{tab}[aria-selected=true]")
        canvas = CanvasPage(page, app, tab)
        canvas.wait(192, 128)
        wait_value(page, f"#{tab}_prompt textarea", "a lighthouse")
        wait_value(page, f"#{tab}_negative_prompt textarea", "fog")
        wait_value(page, f"#{tab}_steps input[type=number]", "31")
        wait_value(page, f"#{tab}_width input", "192")
        wait_value(page, f"#{tab}_seed :is(input, textarea)", "1000")
        if tab == "inpaint":
            canvas.stroke((50, 50), (60, 50))
        request = submitted(page, app, tab, number)
        with Image.open(app.records[job][1].pictures[0].path) as image:
            assert np.array_equal(source_of(app, page, request), np.asarray(image.convert("RGB")))
        page.click(".filmstrip [aria-label*='seed 1000']")
        page.wait_for_selector(".picture-info [data-to=txt2img]")
    page.click(".picture-info [data-to=txt2img]")
    page.wait_for_selector("#tab_txt2img[aria-selected=true]")


def test_the_canvas_goes_to_img2img(page: Any, app: FakeApp) -> None:
    canvas = opened(page, app, "inpaint")
    pixels = canvas.show(160, 96)
    page.click("#inpaint_below [data-do=send]")
    page.wait_for_selector("#tab_img2img[aria-selected=true]")
    other = CanvasPage(page, app, "img2img")
    other.wait(160, 96)
    assert np.array_equal(other.kept(other.sent()["source"]), pixels)


def test_settings_of_an_inpainting_come_back_with_picture_and_mask(page: Any, app: FakeApp) -> None:
    canvas = opened(page, app, "inpaint")
    pixels = canvas.show(160, 96)
    canvas.brush(20)
    canvas.stroke((40, 40), (60, 40))
    page.fill(STRENGTH, "0.35")
    page.fill("#inpaint_mask_blur input[type=number]", "9")
    page.click("#inpaint_options")
    page.click("#inpaint_emphasis input")
    page.get_by_role("option", name="No norm", exact=True).click()
    mask = canvas.mask()
    job = submitted(page, app, "inpaint")
    finished(page, app, "job1")
    page.wait_for_selector("#result_picture")
    page.click(".back-to-canvas")
    page.evaluate("atelier.canvas('inpaint').clear()")
    page.fill(STRENGTH, "0.9")
    show(page, "txt2img")
    page.click("#result_reuse")
    page.wait_for_selector("#tab_inpaint[aria-selected=true]")
    wait_value(page, STRENGTH, "0.35")
    wait_value(page, "#inpaint_mask_blur input[type=number]", "9")
    wait_value(page, "#inpaint_emphasis input", "No norm")
    page.wait_for_function("atelier.canvas('inpaint').hasMask()")
    assert np.array_equal(canvas.kept(canvas.sent()["source"]), pixels)
    assert np.array_equal(canvas.mask(), mask)
    again = submitted(page, app, "inpaint", 2)
    assert again == job.model_copy(update={"seed": again.seed})


def test_many_files_become_a_job_each_with_masks_by_name(page: Any, app: FakeApp, tmp_path: Path) -> None:
    show(page, "inpaint")
    for name, seed in (("one", 1), ("two", 2)):
        (tmp_path / f"{name}.png").write_bytes(png(noise(64, 64, seed)))
        mask = np.zeros((64, 64, 3), np.uint8)
        mask[:32] = 255
        (tmp_path / f"{name}_mask.png").write_bytes(png(mask))
    page.click("#inpaint_many button.label-wrap")
    page.set_input_files("#inpaint_batch input", sorted(tmp_path.glob("*.png")))
    assert page.locator("#inpaint_batch li").count() == 2
    assert "mask one_mask.png" in page.inner_text("#inpaint_batch li[data-name='one.png']")
    page.click("#inpaint_generate")
    app.wait_for_job(2)
    requests = [job.request for _, job in app.records.values()]
    for request, seed in zip(requests, (1, 2), strict=True):
        assert np.array_equal(kept(page, request.source), noise(64, 64, seed))
        assert kept(page, request.mask)[..., 0].tolist() == [[255] * 64] * 32 + [[0] * 64] * 32
    page.wait_for_selector("#inpaint_batch li", state="detached")


def test_a_batch_takes_from_each_picture_what_it_says(page: Any, app: FakeApp, tmp_path: Path) -> None:
    page.fill("#txt2img_prompt textarea", "a windmill")
    page.fill("#txt2img_steps input[type=number]", "12")
    made = app.records[paint(page, app)][1].pictures[0].path
    show(page, "img2img")
    page.fill("#img2img_prompt textarea", "something else")
    page.click("#img2img_many")
    page.click("#img2img_batch_recall label:has-text('Prompt') >> nth=0")
    page.click("#img2img_batch_recall label:has-text('Seed')")
    page.wait_for_function("window.atelierForms.img2img.batch_recall.length === 2")
    page.set_input_files("#img2img_batch input", made)
    request = submitted(page, app, "img2img", 2)
    assert (request.prompt, request.seed) == ("a windmill", 1000)
    assert request.steps == 20, "nobody asked for the steps"


def test_what_does_not_fit_into_the_line_waits_and_goes_on_after_a_reload(page: Any, app: FakeApp, tmp_path: Path) -> None:
    app.limit = 2
    show(page, "img2img")
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(png(noise(64, 64, number)))
    page.click("#img2img_many")
    page.set_input_files("#img2img_batch input", sorted(tmp_path.glob("*.png")))
    page.click("#img2img_generate")
    app.wait_for_job(2)
    page.wait_for_selector("#complaint:has-text('2 more wait here')")
    page.reload()
    page.wait_for_selector("#img2img_generate")
    for number in range(1, 5):
        app.wait_for_job(min(4, number + 1))
        app.finish_picture(f"job{number}")
    page.wait_for_selector("body:not([data-busy])")
    assert len(app.records) == 4
    sources = [kept(page, job.request.source) for _, job in app.records.values()]
    assert all(np.array_equal(pixels, noise(64, 64, number)) for number, pixels in enumerate(sources))


def test_every_picture_of_a_batch_is_looped_back_by_one_script(page: Any, app: FakeApp, tmp_path: Path) -> None:
    show(page, "img2img")
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(png(noise(64, 64, number)))
    page.click("#img2img_many")
    page.set_input_files("#img2img_batch input", sorted(tmp_path.glob("*.png")))
    page.wait_for_selector("#img2img_generate[data-batch='2']", state="attached")
    page.select_option("#img2img_script_name select", "matrix")
    page.click("#img2img_generate")
    page.wait_for_selector("#complaint:has-text('one picture')")
    page.select_option("#img2img_script_name select", "loopback")
    page.fill("#img2img_script_loops input", "2")
    page.click("#img2img_generate")
    page.wait_for_selector(".script-run td[data-cell='3']")
    page.wait_for_selector("#img2img_generate[data-batch='2']", state="detached")
    app.scripts.look()
    sources = [kept(page, job.request.source) for _, job in app.records.values()]
    assert all(np.array_equal(pixels, noise(64, 64, number)) for number, pixels in enumerate(sources))


def test_the_plain_upload_does_without_the_canvas(page: Any, app: FakeApp, tmp_path: Path) -> None:
    """By the page's own route: Gradio's upload would answer with a path of the server."""
    pixels = noise(96, 64)
    (tmp_path / "picture.png").write_bytes(png(pixels))
    mask = np.zeros((64, 96, 3), np.uint8)
    mask[20:40, 20:40] = 255
    (tmp_path / "mask.png").write_bytes(png(mask))
    posts: list[str] = []
    page.on("request", lambda request: request.method == "POST" and posts.append(urlsplit(request.url).path))
    show(page, "inpaint")
    page.click("#inpaint_upload button.label-wrap")
    for name in ("picture", "mask"):
        page.set_input_files(f"#inpaint_upload_{name} input[type=file]", tmp_path / f"{name}.png")
        page.wait_for_selector(f"#inpaint_upload_{name} .chosen:has-text('{name}.png') img")
    request = submitted(page, app, "inpaint")
    assert np.array_equal(source_of(app, page, request), pixels)
    assert np.array_equal(kept(page, request.mask), mask)
    assert posts.count("/internal/sources") == 2
    assert not [path for path in posts if "upload" in path]


def test_a_file_chosen_without_the_canvas_can_be_taken_back_and_is_refused_in_words(
    page: Any, app: FakeApp, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no picture at all")
    show(page, "img2img")
    page.click("#img2img_upload button.label-wrap")
    page.set_input_files("#img2img_upload_picture input[type=file]", tmp_path / "text.png")
    page.wait_for_selector("#img2img_upload_picture .chosen:has-text('text.png')")
    page.click("#img2img_generate")
    page.wait_for_selector("#complaint:has-text('text.png')")
    page.click("#img2img_upload_picture [data-do=remove]")
    page.wait_for_selector("#img2img_upload_picture .chosen", state="hidden")
    page.click("#img2img_generate")
    page.wait_for_selector("#complaint:has-text('Drop one on the canvas')")
    assert not app.records


def test_the_plain_upload_and_advanced_look_like_their_neighbours(page: Any) -> None:
    show(page, "inpaint")
    for name in ("many", "upload"):
        page.click(f"#inpaint_{name} button.label-wrap")
    page.wait_for_selector("#inpaint_upload_mask .drop")
    for width in (1440, 390):
        resize(page, width, 844)
        _looks_like_its_neighbours(page)


def _looks_like_its_neighbours(page: Any) -> None:
    looks = page.evaluate(
        """() => ["noise", "many", "upload", "options"].map((name) => {
          const label = document.querySelector(`#inpaint_${name} button.label-wrap span`);
          const style = getComputedStyle(label);
          return [style.fontWeight, style.fontSize, style.fontFamily, style.color].join();
        })"""
    )
    assert len(set(looks)) == 1, looks
    for name in ("picture", "mask"):
        drop = page.locator(f"#inpaint_upload_{name} .drop")
        assert "Drop a file here or choose one" in drop.inner_text()
        assert drop.evaluate(
            "(node) => [...node.children].every((one) => one.scrollWidth <= one.clientWidth || !one.clientWidth)"
        )
        own, batch = (
            page.locator(selector).evaluate(
                "(node) => { const { borderStyle, borderColor, fontSize } = getComputedStyle(node); "
                "return [borderStyle, borderColor, fontSize, Math.round(node.getBoundingClientRect().width)].join(); }"
            )
            for selector in (f"#inpaint_upload_{name} .drop", "#inpaint_batch .drop")
        )
        assert own == batch


def test_an_answer_that_never_came_is_reported_on_the_page(page: Any, app: FakeApp) -> None:
    canvas = opened(page, app, "img2img")
    page.route("**/internal/sources", lambda route: route.fulfill(status=507, json={"error": "The disk is nearly full."}))
    canvas.show()
    page.click("#img2img_generate")
    page.wait_for_selector("#complaint:has-text('nearly full')")
    assert not app.records


def test_a_picture_is_repainted_by_keyboard_alone(page: Any, app: FakeApp) -> None:
    paint(page, app)
    page.wait_for_selector("#result_picture")
    page.focus(".picture-info [data-to=inpaint]")
    page.keyboard.press("Enter")
    page.wait_for_selector("#tab_inpaint[aria-selected=true]")
    canvas = CanvasPage(page, app, "inpaint")
    canvas.wait(128, 128)
    page.focus(f"{canvas.root} [data-do=invert]")
    page.keyboard.press("Enter")
    page.wait_for_function("atelier.canvas('inpaint').hasMask()")
    page.keyboard.press("Control+Enter")
    request = app.records[app.wait_for_job(2)][1].request
    assert kept(page, request.mask).min() == 255
    app.finish_picture("job2")
    page.wait_for_selector("#result_accept:visible")
    page.focus("#result_accept")
    page.keyboard.press("Enter")
    page.wait_for_selector(":root[data-face=canvas]")
