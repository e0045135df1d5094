"""The Extras tab and "Upscale" beside a picture, in Chromium, before an App whose jobs move when the test says so."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.checkpoints.upscalers import UpscalerInfo
from modules.engine.costs import Call
from modules.request import Upscaling
from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp

pytestmark = pytest.mark.browser

SHARP = UpscalerInfo("sharp", Path("sharp.safetensors"), 2, "Real-ESRGAN compact")
TEXT = "a cat\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 3, Size: 64x64"


def file(name: str, size: tuple[int, int] = (48, 32), text: str = "") -> dict[str, Any]:
    buffer, info = io.BytesIO(), PngInfo()
    if text:
        info.add_text("parameters", text)
    shade = sum(map(ord, name)) % 200
    Image.new("RGB", size, (shade, 90, 200 - shade)).save(buffer, "PNG", pnginfo=info)
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


def opened(visit: Visit, app: FakeApp, *models: UpscalerInfo, **options: Any) -> Any:
    app.upscaler_files = list(models)
    page = visit(**options).open()
    page.click("#tab_extras")
    page.wait_for_function("() => document.querySelector('.extras select[name=upscaler_1]').options.length > 2")
    return page


def choose(page: Any, *files: dict[str, Any]) -> None:
    page.set_input_files(".extras input[type=file]:not([data-folder])", list(files))
    page.wait_for_function("() => /becomes/.test(document.querySelector('.extras-size').textContent)")


def request_of(app: FakeApp, job: str) -> Upscaling:
    request = app.records[job][1].request
    assert isinstance(request, Upscaling)
    return request


def test_one_picture_from_the_empty_tab_to_its_result(visit: Visit, app: FakeApp) -> None:
    app.costs.put([(Call("upscale", "sharp", 48, 32), 3.0)])
    page = opened(visit, app, SHARP)
    assert page.is_disabled(".extras-go")
    assert page.input_value("select[name=upscaler_1]") == "sharp", "a model goes before the filters"
    choose(page, file("cat.png", text=TEXT))
    assert page.inner_text(".extras-size") == "48 × 32 becomes 96 × 64."
    page.wait_for_function("() => document.querySelector('.extras-time').textContent === 'Takes about 3 s.'")
    page.click(".extras-go")
    job = app.wait_for_job()
    request = request_of(app, job)
    assert (request.upscaler_1, request.upscale_by, request.source_text) == ("sharp", 2.0, TEXT)
    page.wait_for_selector(".extras-compare figure:nth-child(2) .extras-wait")
    app.change(job, state="running", step=2, steps=8, progress=0.25, rev=50)
    page.wait_for_selector(".extras-wait:has-text('Tile 2 of 8')")
    app.finish_picture(job)
    page.wait_for_selector(".extras-result img")
    assert page.inner_text(".extras-result figcaption").startswith("Result, 96 × 64")
    assert page.get_attribute(".extras-result figcaption a", "download").endswith(".png")
    page.click(".extras-go")
    page.wait_for_selector(".extras-bad:has-text('enlarged this way already')")
    assert len(app.records) == 1


def test_many_pictures_become_a_job_each_and_each_says_what_became_of_it(visit: Visit, app: FakeApp) -> None:
    page = opened(visit, app, SHARP)
    choose(page, file("a.png"), file("b.png"), {**file("c.png"), "buffer": b"no picture at all"})
    page.check(".extras input[value=to]")
    page.fill(".extras input[name=width]", "100")
    page.fill(".extras input[name=height]", "80")
    page.select_option("select[name=upscaler_2]", "Lanczos")
    page.click(".extras-go")
    app.wait_for_job(2)
    first, second = list(app.records)
    request = request_of(app, first)
    assert (request.width, request.height, request.crop) == (100, 80, True)
    assert (request.upscaler_2, request.upscaler_2_visibility) == ("Lanczos", 0.5)
    page.wait_for_selector(".extras-list li:nth-child(3)[data-state=failed]")
    app.finish_picture(first)
    app.fail(second, "the upscaler ran out of memory")
    page.wait_for_selector(".extras-list li:nth-child(1):has-text('Enlarged')")
    page.wait_for_selector(".extras-list li:nth-child(2):has-text('ran out of memory')")
    assert page.inner_text(".extras-bar span") == "3 pictures, 1 enlarged"
    page.click(".extras-list li:nth-child(1) .pick")
    page.wait_for_selector(".extras-result")
    page.click(".extras-list li:nth-child(3) .remove")
    page.click("[data-do=clear]")
    page.wait_for_selector(".extras:not([data-filled])")


def test_a_job_is_cancelled_where_it_is_waited_for(visit: Visit, app: FakeApp) -> None:
    page = opened(visit, app, SHARP)
    choose(page, file("cat.png"))
    page.click(".extras-go")
    job = app.wait_for_job()
    page.click(".extras-wait button")
    page.wait_for_selector(".extras-wait:has-text('Cancelled')")
    assert app.records[job][1].state == "cancelled"


def test_without_models_the_way_to_them_is_said(visit: Visit, app: FakeApp) -> None:
    page = opened(visit, app)
    assert page.is_visible(".extras-none")
    assert page.input_value("select[name=upscaler_1]") == "Lanczos"


def test_a_finished_picture_is_enlarged_by_one_click_and_sent_to_extras_by_another(visit: Visit, app: FakeApp) -> None:
    app.upscaler_files = [SHARP]
    page = visit().open()
    page.fill("#txt2img_prompt textarea", "a red apple")
    page.click("#txt2img_generate")
    app.finish_picture(app.wait_for_job())
    page.click("#result_upscale")
    job = app.wait_for_job(2)
    request = request_of(app, job)
    assert (request.upscaler_1, request.upscale_by) == ("sharp", 2.0)
    assert request.source_text.startswith("a red apple\nSteps: ")
    app.finish_picture(job)
    page.wait_for_selector("#results dl:has-text('Enlarged')")
    assert page.inner_text("#results .picture-info .title") == "a red apple"
    assert page.locator("#result_reuse").count() == 0, "there are no settings to paint it with"
    page.click("#results [data-to=extras]")
    page.wait_for_function("() => document.documentElement.dataset.tab === 'extras'")
    page.wait_for_selector(".extras-size:has-text('256 × 256 becomes 512 × 512')")


def test_the_second_pass_offers_upscalers_and_remembers_one(visit: Visit, app: FakeApp) -> None:
    app.upscaler_files = [SHARP]
    visitor = visit(fresh=True)
    visitor.context.add_init_script(
        "if (location.protocol === 'http:') localStorage.setItem('atelier.form.txt2img', "
        + repr(json.dumps({"prompt": "kept", "hires": True, "hires_upscaler": "sharp"}))
        + ")"
    )
    page = visitor.open()
    page.wait_for_function("() => document.querySelector('#txt2img_prompt textarea').value === 'kept'")
    page.click("#txt2img_second_pass button")
    page.wait_for_function("() => document.querySelector('#txt2img_hires_upscaler input')?.value === 'sharp'")
    page.click("#txt2img_generate")
    hires = app.records[app.wait_for_job()][1].request.hires
    assert hires is not None
    assert hires.upscaler == "sharp"
