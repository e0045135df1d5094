"""The Settings tab in Chromium: settings searched, changed, reset and refused; presets, styles and wildcards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp
from tests.ui.test_txt2img_page import wait_value

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img", "settings")]


@pytest.fixture
def settings(page: Any) -> Any:
    page.click("#tab_settings")
    page.wait_for_selector("[data-name=output_name]")
    page.wait_for_selector(".presets li")
    return page


def test_settings_are_found_changed_refused_and_reset(settings: Any, app: FakeApp) -> None:
    page, row = settings, "[data-name=output_name]"
    page.keyboard.press("/")
    page.keyboard.type("tags picture files")
    page.wait_for_selector("[data-name=trash_days]", state="hidden")
    assert page.locator(".setting:visible").count() == 1
    field = page.locator(f"{row} input")
    assert field.input_value() == "[time]-[job]-[index]-[seed]"
    field.fill("[sead]")
    field.press("Enter")
    page.wait_for_selector(f"{row} .setting-error:has-text('did you mean [seed]?')")
    assert field.get_attribute("aria-invalid") == "true"
    assert not app.server_settings.path.exists()
    field.fill("[seed]-[prompt_spaces]")
    field.press("Enter")
    page.wait_for_selector(f"{row} .setting-error", state="hidden")
    page.wait_for_selector(f"{row} .setting-from:has-text('From the file')")
    assert app.server_settings.settings.output_name == "[seed]-[prompt_spaces]"
    page.click(f"{row} .setting-reset")
    page.wait_for_selector(f"{row} .setting-reset", state="hidden")
    assert field.input_value() == "[time]-[job]-[index]-[seed]"
    page.fill(".settings-find", "no such words")
    page.wait_for_selector(".settings-none:visible")


def test_what_needs_a_start_or_cannot_be_changed_says_so(settings: Any, app: FakeApp) -> None:
    page = settings
    page.select_option("[data-name=dtype] select", "float16")
    said = "In force now: auto; from the next start on: float16."
    page.wait_for_selector(f"[data-name=dtype][data-pending] .setting-from:has-text('{said}')")
    assert app.server_settings.settings.dtype == "auto"
    assert page.locator("[data-name=port] input").is_disabled()
    assert "who may reach the server" in page.inner_text("[data-name=port] .setting-from")
    page.fill("[data-name=CLIP_stop_at_last_layers] input", "two")
    page.press("[data-name=CLIP_stop_at_last_layers] input", "Enter")
    page.wait_for_selector("[data-name=CLIP_stop_at_last_layers] .setting-error:has-text('must be a number')")


@pytest.mark.tabs
def test_preferences_do_what_they_say(settings: Any, app: FakeApp) -> None:
    page = settings
    page.fill("[data-name=weight_step] input", "0.25")
    page.press("[data-name=weight_step] input", "Enter")
    page.wait_for_selector("[data-name=weight_step][data-changed]")
    page.select_option("[data-name=start_tab] select", "img2img")
    page.wait_for_selector("[data-name=start_tab][data-changed]")
    page.fill("[data-name=canvas_brush] input", "20.5")
    page.press("[data-name=canvas_brush] input", "Enter")
    page.wait_for_selector("[data-name=canvas_brush] .setting-error:has-text('whole number from 1 to 512')")
    page.fill("[data-name=canvas_brush] input", "20")
    page.press("[data-name=canvas_brush] input", "Enter")
    page.wait_for_selector("[data-name=canvas_brush][data-changed]")
    page.goto(page.url.partition("#")[0])
    page.wait_for_selector("#tab_img2img[aria-selected=true]")
    page.wait_for_selector("body[data-forms=filled]")
    page.fill("#img2img_prompt textarea", "cat")
    page.press("#img2img_prompt textarea", "Control+ArrowUp")
    wait_value(page, "#img2img_prompt textarea", "(cat:1.25)")
    assert page.input_value("#inpaint_panel [data-number=size]") == "20"


def test_a_form_is_kept_applied_and_handed_on(settings: Any, visit: Visit, tmp_path: Path, app: FakeApp) -> None:
    page = settings
    page.on("dialog", lambda dialog: dialog.accept("Renamed" if dialog.type == "prompt" else None))
    page.click("#tab_txt2img")
    page.fill("#txt2img_prompt textarea", "a red fox")
    page.fill("#txt2img_steps input[type=number]", "33")
    page.press("#txt2img_steps input[type=number]", "Tab")
    page.wait_for_function("window.atelierForms.txt2img.steps === 33 && window.atelierForms.txt2img.prompt === 'a red fox'")
    page.click("#tab_settings")
    page.fill(".presets-new input[type=text]", "Fox")
    page.click(".presets-new button[type=submit]")
    page.click(".presets li:has-text('Fox') >> text=Rename")
    with page.expect_download() as written:
        page.click(".presets li:has-text('Renamed') >> text=To a file")
    said = json.loads(Path(written.value.path()).read_text())
    assert (said["name"], said["tab"], said["fields"]["steps"]) == ("Renamed", "txt2img", 33)

    page.click("#tab_txt2img")
    page.fill("#txt2img_prompt textarea", "something else")
    page.click("#tab_settings")
    page.click(".presets li:has-text('Renamed') >> text=Apply")
    page.wait_for_selector("#tab_txt2img[aria-selected=true]")
    wait_value(page, "#txt2img_prompt textarea", "a red fox")

    said["fields"] |= {"from_the_future": 1, "steps": 44}
    said["name"] = "Read"
    file = tmp_path / "preset.json"
    file.write_text(json.dumps(said))
    page.click("#tab_settings")
    page.set_input_files(".presets-new input[type=file]", file)
    page.wait_for_selector(".presets-note:has-text('Not known here and left out: from_the_future.')")
    page.click(".presets li:has-text('Read') >> text=Apply")
    page.wait_for_function("window.atelierForms.txt2img.steps === 44")
    file.write_text("{")
    page.click("#tab_settings")
    page.click(".presets li:has-text('Read') >> text=Use at the start")
    page.wait_for_selector(".presets li:has-text('Read'):has-text('at the start')")
    page.set_input_files(".presets-new input[type=file]", file)
    page.wait_for_selector(".presets-panel .setting-error:has-text('is no JSON file')")
    page.evaluate("localStorage.clear()")
    page.goto(page.url.partition("#")[0])
    page.wait_for_selector("body[data-forms=filled]")
    wait_value(page, "#txt2img_prompt textarea", "a red fox")
    page.wait_for_function("window.atelierForms.txt2img.steps === 44")


def test_styles_are_edited_and_offered_at_once(settings: Any, app: FakeApp) -> None:
    page, file = settings, app.library.styles_file
    page.on("dialog", lambda dialog: dialog.accept())
    page.click(".styles-editor .editor-add")
    page.fill("#style_edit_name", "#no")
    page.click(".styles-editor [type=submit]")
    page.wait_for_selector(".styles-editor .setting-error:has-text('does not begin with #')")
    page.fill("#style_edit_name", "Photo")
    page.fill("#style_edit_prompt", "photo of {prompt}, 35mm")
    page.click(".styles-editor [type=submit]")
    page.wait_for_selector(".styles-editor [data-style=Photo]")
    assert file.read_bytes() == b'\xef\xbb\xbfname,prompt,negative_prompt\r\nPhoto,"photo of {prompt}, 35mm",\r\n'
    file.write_bytes(file.read_bytes() + b"Other,x,\r\n")
    page.click(".styles-editor [data-style=Photo] >> text=Edit")
    page.fill("#style_edit_prompt", "a photo")
    page.click(".styles-editor [type=submit]")
    page.wait_for_selector(".styles-editor .setting-error:has-text('changed meanwhile')")
    page.click(".styles-editor [type=submit]")
    page.wait_for_selector(".styles-editor [data-style=Photo]:has-text('a photo')")
    page.click(".styles-editor [data-style=Other] >> text=Delete")
    page.wait_for_selector(".styles-editor [data-style=Other]", state="detached")
    page.click("#tab_txt2img")
    page.click("#txt2img_styles input")
    page.wait_for_selector("#txt2img_styles ul li:has-text('Photo')")


def test_wildcards_are_written_and_tried(settings: Any, app: FakeApp) -> None:
    page = settings
    page.on("dialog", lambda dialog: dialog.accept())
    page.click(".wildcards-editor .editor-add")
    page.fill("#wildcard_name", "../out")
    page.fill("#wildcard_text", "cat\n")
    page.click(".wildcards-editor .editor-form [type=submit]")
    page.wait_for_selector(".wildcards-editor .setting-error:visible")
    page.fill("#wildcard_name", "places/animal")
    page.click(".wildcards-editor .editor-form [type=submit]")
    page.wait_for_selector("[data-wildcard='places/animal']:has-text('1 value')")
    page.fill("#wildcards_try", "a __places/animal__")
    page.press("#wildcards_try", "Enter")
    page.wait_for_selector(".editor-drawn li:has-text('a cat')")
    page.click("[data-wildcard='places/animal'] button")
    page.click(".wildcards-editor .editor-form >> text=Delete")
    page.wait_for_selector("[data-wildcard='places/animal']", state="detached")
    assert app.library.wildcard_names() == []


LISTENING = """
window.__notes = []; window.__shown = [];
window.AudioContext = class {
  state = "running"; currentTime = 0; destination = {};
  createOscillator() { return { frequency: {}, connect: (to) => to, start: (at) => __notes.push(at), stop: () => {} }; }
  createGain() { return { gain: { setValueAtTime() {}, linearRampToValueAtTime() {} }, connect: () => {} }; }
};
window.Notification = class {
  static permission = "granted";
  static async requestPermission() { return Notification.permission; }
  constructor(title, options) { __shown.push(options.body); }
  addEventListener() {}
  close() {}
};
document.hasFocus = () => false;
const now = performance.now.bind(performance);
let ahead = 0;
performance.now = () => now() + ahead;
window.__later = () => { ahead += 60_000; };
"""


def test_sound_and_notification_come_when_they_are_wanted(visit: Visit, app: FakeApp) -> None:
    visitor = visit(fresh=True)
    visitor.context.add_init_script(LISTENING)
    page = visitor.open()

    def paint(number: int) -> None:
        page.click("#tab_txt2img")
        page.click("#txt2img_generate")
        job = app.wait_for_job(number)
        app.finish_picture(job)
        page.wait_for_selector("body:not([data-busy])")
        page.wait_for_function("document.querySelector('.said').textContent.includes('finished')")

    paint(1)
    assert page.evaluate("[__notes, __shown]") == [[], []]
    page.click("#tab_settings")
    page.evaluate("Notification.permission = 'denied'")
    page.check("[data-name=sound] input")
    page.wait_for_selector("[data-name=sound][data-changed]")
    page.click("[data-name=notification] input")
    page.wait_for_selector("[data-name=notification] .setting-error:has-text('does not allow notifications')")
    assert not page.is_checked("[data-name=notification] input")
    page.evaluate("Notification.permission = 'granted'")
    page.click("[data-name=notification] input")
    page.wait_for_selector("[data-name=notification][data-changed]")
    before = page.evaluate("__notes.length")
    assert before == 2, "what was switched on is heard"
    page.evaluate("__later()")
    paint(2)
    page.wait_for_function("__shown.length === 1 && __notes.length === 4")
    assert page.evaluate("__shown") == ["The picture is finished."]
