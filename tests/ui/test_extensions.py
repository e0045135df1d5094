"""Extensions in Chromium: their options in the forms, from there into pictures and back; the Extensions tab."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modules.app import App
from modules.diffusion.samplers import Sampler
from modules.hooks import HOOKS, hookimpl
from modules.images.recipe import read_record
from modules.jobs.worker import engine_configuration
from modules.pipelines.guidance.choice import Guidance, Rule
from modules.queue.owners import OWNER
from modules.request import Txt2Img
from modules.settings import Settings
from tests.local import LocalLink
from tests.tiny import tiny_checkpoint
from tests.ui.conftest import Watched, served
from tests.ui.fake_app import FakeApp
from tests.ui.fake_extensions import GLOW, PROPOSAL
from tests.ui.test_png_info import drop, wait_value
from tests.ui.test_tabs import show

pytestmark = pytest.mark.browser

OPTIONS = {"warm": {"amount": 0.5, "tone": "red"}}
MISSING = "Made with warm 1.0.0, which is not installed here or is off: its options are kept, not used."


MANIFEST = """
name = "warm"
title = "Warm light"
version = "1.0.0"
description = "A test's."
web = "web"
"""
WEB = """
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from modules.fields import About
from modules.hooks import hookimpl
from modules.request import Real, RequestExtension


class Options(BaseModel):
    amount: Annotated[Real, Field(ge=0, le=1), About("Warmth", "how much, 0 to 1")] = 0.0
    tone: Annotated[Literal["amber", "red"], About("Tone", "of the light", needs=("amount",))] = "amber"


class Plugin:
    @hookimpl
    def request_extensions(self):
        return [RequestExtension("warm", Options, "Warm light")]
"""


class Engine:
    """What the options do to a picture; the test's engine is a thread, and loads no halves."""

    @hookimpl
    def guidance_rules(self) -> list[Rule]:
        def warmed(guidance: Guidance, request: Txt2Img, sampler: Sampler) -> Guidance:
            options = request.extensions.get("warm", {"amount": 0, "tone": ""})
            return replace(guidance, scale=guidance.scale * (1 + options["amount"] * (2 if options["tone"] == "red" else 1)))

        return [Rule("Warm light", warmed)]


@pytest.fixture
def painting(tmp_path: Path) -> Iterator[App]:
    """A real App with a tiny model, and an extension in its folder."""
    (tmp_path / "models").mkdir()
    tiny_checkpoint(tmp_path / "models" / "tiny.safetensors")
    folder = tmp_path / "extensions" / "warm"
    folder.mkdir(parents=True)
    (folder / "extension.toml").write_text(MANIFEST, encoding="utf-8")
    (folder / "web.py").write_text(WEB, encoding="utf-8")
    settings = Settings(
        data_dir=tmp_path / "data",
        models_dirs=(tmp_path / "models",),
        outputs_dir=tmp_path / "outputs",
        extensions_dir=tmp_path / "extensions",
    )
    app = App(settings, LocalLink(engine_configuration(settings)))
    with HOOKS.registered(Engine(), "warm engine"):
        app.start()
        yield app
        app.close()


def pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return bytes(np.asarray(image.convert("RGB")).tobytes())


def painted(page: Any) -> bytes:
    """Generate; the file of the picture that is there when all is over."""
    before = page.evaluate("document.querySelector('#result_picture')?.src ?? ''")
    page.click("#txt2img_generate")
    new = "(old) => !document.body.dataset.busy && (document.querySelector('#result_picture')?.src ?? old) !== old"
    page.wait_for_function(new, arg=before)
    return bytes(page.request.get(page.evaluate("document.querySelector('#result_picture').src")).body())


def by_api(page: Any, app: App, extensions: Any) -> bytes:
    """What the page painted last, by a program's call and with these options."""
    request = {**page.request.get("internal/jobs?limit=1").json()[0]["request"], "extensions": extensions}
    job = page.request.post("api/v1/jobs", data=request).json()
    *_, view = app.events(job["id"], OWNER)
    assert view.state == "done", view.error
    return view.pictures[0].path.read_bytes()


def test_an_option_goes_from_the_page_into_a_picture_and_back_and_says_when_it_is_missing(browser: Any, painting: Any) -> None:
    with served(painting) as origin:
        visitor = Watched(browser, origin, base_url=origin)
        try:
            _there_and_back(visitor.open(), painting)
        finally:
            visitor.context.close()
    assert not visitor.sins


def _there_and_back(page: Any, app: App) -> None:
    figure = "#txt2img_extensions\\.warm\\.amount :is(input, textarea)"
    tone = "#txt2img_extensions\\.warm\\.tone input"
    heading = "#txt2img_extension_warm > button span:first-child"
    page.fill("#txt2img_prompt textarea", "a lamp")
    page.fill("#txt2img_seed :is(input, textarea)", "3")
    page.fill("#txt2img_steps input[type=number]", "1")
    plain = painted(page)

    page.click("#txt2img_extension_warm > button")
    page.wait_for_selector(f"{tone}:disabled")
    page.fill(figure, "0.5")
    page.wait_for_selector(f"{tone}:enabled")
    page.click(tone)
    page.get_by_role("option", name="red", exact=True).click()
    page.wait_for_selector(f"{heading}:has-text('Warm light · 2 set')")
    warm = painted(page)
    assert pixels(warm) != pixels(plain)
    assert pixels(by_api(page, app, OPTIONS)) == pixels(warm), "by the API"
    assert pixels(by_api(page, app, {})) == pixels(plain)
    assert read_record(warm).info.request.extensions == OPTIONS
    assert read_record(warm).info.extras["Extension versions"] == "warm: 1.0.0"

    page.reload()
    page.wait_for_selector("body[data-forms=filled]")
    page.click("#txt2img_extension_warm > button")
    wait_value(page, "txt2img_extensions\\.warm\\.amount", "0.5")
    page.click("#txt2img_extension_warm_reset")
    page.wait_for_selector(f"{heading}:text-is('Warm light')")
    drop(page, "#txt2img_prompt", warm)
    wait_value(page, "txt2img_extensions\\.warm\\.amount", "0.5")
    assert page.input_value(tone) == "red"
    assert pixels(painted(page)) == pixels(warm), "made again, it is the same"

    show(page, "extensions")
    page.click("[data-extension=warm] [data-do=disable]")
    page.wait_for_selector("[data-extension=warm][data-state=off]")
    assert page.inner_text(".extensions-note") == "The extension is switched off."
    show(page, "txt2img")
    page.wait_for_selector("#txt2img_extension_warm", state="hidden")
    drop(page, "#txt2img_prompt", warm)
    page.wait_for_selector(f"#complaint:has-text('{MISSING}')")
    page.wait_for_selector("#txt2img_kept_extensions textarea")
    without = painted(page)
    assert pixels(without) == pixels(plain), "made without it"
    record = read_record(without).info
    assert record.request.kept_extensions == {"warm": {"version": "1.0.0", "options": OPTIONS["warm"]}}
    assert "made without warm 1.0.0, which was not installed or was off" in record.facts["notes"]
    page.wait_for_selector(".picture-info dd:text-is('warm 1.0.0 (not installed here, or off)')")
    page.fill("#txt2img_kept_extensions textarea", "")
    page.wait_for_selector("#txt2img_kept_extensions", state="hidden")
    assert not read_record(painted(page)).info.request.kept_extensions, "who empties the field leaves them out"

    show(page, "extensions")
    page.click("[data-extension=warm] [data-do=enable]")
    page.wait_for_selector("[data-extension=warm][data-state=on]")
    show(page, "txt2img")
    page.wait_for_selector("#txt2img_extension_warm")
    drop(page, "#txt2img_prompt", warm)
    wait_value(page, "txt2img_extensions\\.warm\\.amount", "0.5")
    assert pixels(painted(page)) == pixels(warm)


def test_one_is_looked_at_before_it_is_installed_and_removed_when_that_was_confirmed(page: Any, app: FakeApp) -> None:
    show(page, "extensions")
    page.wait_for_selector(".extensions-none:has-text('None yet')")
    app.extensions.offered = None
    page.fill("#extensions_address", "https://example.org/nothing.git")
    page.click(".extensions-ask [type=submit]")
    page.wait_for_selector(".extensions-bad:has-text('is no git repository')")

    app.extensions.offered = PROPOSAL
    page.click(".extensions-ask [type=submit]")
    page.wait_for_selector(".extensions-proposal h3:text-is('Bloom')")
    said = page.inner_text(".extensions-proposal")
    for words in (
        "runs with all rights",
        "It adds a route.",
        "2.1.0",
        "0123abc",
        "flowers>=3",
        "webui.py extension enable bloom",
    ):
        assert words in said, words
    page.click(".extensions-proposal summary:text-is('2 files, 2.4 kB')")
    page.wait_for_selector(".extensions-proposal li:has-text('web.py')")
    assert app.extensions.list() == []
    page.click(".extensions-discard")
    page.wait_for_selector(".extensions-proposal:empty", state="attached")

    zip_ = {"name": "bloom.zip", "mimeType": "application/zip", "buffer": b"PK..."}
    page.set_input_files(".extensions-ask input[type=file]", zip_)
    page.click(".extensions-install")
    page.wait_for_selector("[data-extension=bloom][data-state=off]")
    assert "switched off" in page.inner_text(".extensions-note")
    page.click("[data-extension=bloom] [data-do=enable]")
    page.wait_for_selector("[data-extension=bloom][data-state=on]")
    answers = iter((False, True))
    page.on("dialog", lambda dialog: dialog.accept() if next(answers) else dialog.dismiss())
    page.click("[data-extension=bloom] [data-do=remove]")
    assert [view.name for view in app.extensions.list()] == ["bloom"], "not confirmed"
    page.click("[data-extension=bloom] [data-do=remove]")
    page.wait_for_selector(".extensions-none:has-text('None yet')")
    assert app.extensions.list() == []


def test_one_that_failed_is_named_in_the_page(page: Any, app: FakeApp) -> None:
    why = "Glow was switched off: it failed three times, the last time with ValueError: <b>no light</b>"
    app.extensions.notices = (why,)
    app.extensions.put(replace(GLOW, state="failed", reason=why, source="https://example.org/glow.git"))
    page.reload()
    page.wait_for_selector(f"#extensions_notice p:text-is('{why}')")
    page.click("#extensions_notice button:text-is('Extensions')")
    page.wait_for_selector("[data-extension=glow][data-state=failed] .extension-reason:has-text('no light')")
    page.click("[data-extension=glow] [data-do=update]")
    page.wait_for_selector(".extensions-proposal:has-text('2.1.0, in place of 1.0.0')")
    page.click("#extensions_notice button:text-is('Close')")
    page.wait_for_selector("#extensions_notice", state="detached")
    page.click("[data-extension=glow] [data-do=enable]")
    page.wait_for_selector("[data-extension=glow][data-state=on]")
    assert "jobs are kept" in page.inner_text(".extensions-note"), "it has a half in the engine"
    assert page.locator("#extensions_notice").count() == 0, "what was closed stays closed"
