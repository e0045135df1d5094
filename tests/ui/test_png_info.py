"""PNG Info and the drop on a prompt, in Chromium, with pictures as each program writes them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from modules.images import exif
from modules.images.infotext import GenerationInfo
from modules.images.outputs import Outputs
from modules.request import Img2Img
from tests.images import foreign
from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp

pytestmark = pytest.mark.browser

KNOWN = foreign.A1111.replace("Model: v1-5-pruned, ", "").replace("Model hash: 6ce0161689, ", "")

PROGRAMS: dict[str, tuple[bytes, str, str]] = {
    "A1111": (foreign.png(parameters=foreign.A1111), "a cat, <lora:fur:0.8>", "123"),
    "Forge": (foreign.commented("JPEG", foreign.FORGE), "a cat, <lora:fur:0.8>", "321"),
    "SD.Next": (foreign.commented("AVIF", foreign.SDNEXT), "a cat", "5"),
    "ComfyUI": (foreign.comfyui_webp(foreign.COMFY), "a glass (bottle:1.2)", "156680208"),
    "InvokeAI": (foreign.invokeai(), "a landscape", "356120443"),
    "Fooocus": (foreign.fooocus_jpeg(), "cinematic still a fox, a fox, sharp", "6245"),
    "NovelAI": (foreign.hide(json.dumps(foreign.NAI)), "1girl, (smile:1.05), (hat:0.907)", "2468"),
    "Draw Things": (foreign.draw_things(), "a boat & a <sail>", "777"),
}


def opened(visit: Visit) -> Any:
    page = visit().open()
    page.click("#tab_pnginfo")
    page.wait_for_selector(".pnginfo-drop")
    return page


def choose(page: Any, data: bytes, name: str = "picture.png") -> None:
    page.set_input_files(".pnginfo input[type=file]", {"name": name, "mimeType": "image/png", "buffer": data})
    page.wait_for_selector(".pnginfo-found > :first-child:not(.pnginfo-wait)")


def drop(page: Any, selector: str, data: bytes, name: str = "picture.png", kind: str = "image/png") -> None:
    """As the browser does it: a transfer with a file, over the element and let go."""
    page.evaluate(
        """([selector, data, name, kind]) => {
          const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([bytes], name, { type: kind }));
          const target = document.querySelector(selector);
          for (const type of ["dragenter", "dragover", "drop"])
            target.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        [selector, base64.b64encode(data).decode(), name, kind],
    )


def value(page: Any, field: str) -> str:
    return str(page.input_value(f"#{field} :is(textarea, input)"))


def wait_value(page: Any, field: str, wanted: str) -> None:
    page.wait_for_function(
        "([field, wanted]) => document.querySelector(`#${field} :is(textarea, input)`).value === wanted", arg=[field, wanted]
    )


def test_pictures_of_every_program_are_shown_and_sent(visit: Visit) -> None:
    """Each has its own seed, so that waiting for it is waiting for this very answer."""
    page = opened(visit)
    for program, (data, prompt, seed) in PROGRAMS.items():
        choose(page, data)
        assert page.inner_text(".pnginfo-program").startswith(program)
        assert page.inner_text(".pnginfo-words p") == prompt
        assert page.inner_text(".pnginfo-table tr:has(th:text-is('Seed')) td") == seed
        page.wait_for_function("() => document.querySelector('.pnginfo-picture img')?.naturalWidth > 0")
        page.click(".pnginfo-actions [data-to=txt2img]")
        wait_value(page, "txt2img_prompt", prompt)
        wait_value(page, "txt2img_seed", seed)
        page.click("#tab_pnginfo")


def test_what_is_missing_is_named_by_its_hash(visit: Visit) -> None:
    page = opened(visit)
    choose(page, PROGRAMS["A1111"][0])
    assert page.locator(".pnginfo-missing li").all_inner_texts() == [
        "Checkpoint 6ce0161689 (v1-5-pruned)",
        "LoRA 0123456789ab (fur)",
        "Embedding abcdef012345 (bad_hands)",
    ]
    page.click(".pnginfo-actions [data-to=txt2img]")
    page.wait_for_function("() => document.querySelector('#complaint').textContent.includes('6ce0161689 (v1-5-pruned)')")
    said = page.inner_text("#complaint")
    assert "Not here: LoRA 0123456789ab (fur), Embedding abcdef012345 (bad_hands)." in said
    wait_value(page, "txt2img_steps", "25")


def test_it_is_sent_to_a_canvas_with_everything(visit: Visit) -> None:
    page = opened(visit)
    for tab, strength in (("img2img", "0.35"), ("inpaint", "0.6")):
        text = KNOWN.replace("Clip skip: 2", f"Denoising strength: {strength}, Mask blur: 9")
        choose(page, foreign.png(parameters=text))
        page.click(f".pnginfo-actions [data-to={tab}]")
        page.wait_for_function(f"() => window.atelier.canvas('{tab}').size()?.width === 64")
        wait_value(page, f"{tab}_prompt", "a cat, <lora:fur:0.8>")
        wait_value(page, f"{tab}_denoising_strength", strength)
        assert page.evaluate("() => document.documentElement.dataset.tab") == tab
        page.click("#tab_pnginfo")


def test_ours_leads_back_to_its_source(visit: Visit, app: FakeApp) -> None:
    page = opened(visit)
    source = page.evaluate(
        """async (data) => {
          const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
          const headers = { "content-type": "image/png" };
          return (await (await fetch("internal/sources", { method: "POST", body: bytes, headers })).json()).id;
        }""",
        base64.b64encode(foreign.png(foreign.picture(size=(80, 56)))).decode(),
    )
    request = Img2Img(prompt="a fox", seed=9, width=64, height=64, source=source, denoising_strength=0.2)
    info = GenerationInfo(request, "", "", "Karras", "Atelier 0.1.0")
    saved = Outputs(app.settings.outputs_dir).save(bytes(64 * 64 * 3), 64, 64, info, "job", 0)
    choose(page, saved.path.read_bytes())
    page.click(".pnginfo-actions [data-to=again]")
    page.wait_for_function("() => window.atelier.canvas('img2img').size()?.width === 80")
    wait_value(page, "img2img_prompt", "a fox")


FILES = [
    ("a.png", "image/png", lambda text: foreign.png(parameters=text)),
    ("a.jpg", "image/jpeg", lambda text: foreign.commented("JPEG", text)),
    ("a.webp", "image/webp", lambda text: foreign.commented("WEBP", text)),
    ("a.avif", "", lambda text: foreign.commented("AVIF", text)),
]


def test_a_picture_on_the_prompt_fills_in_the_form(visit: Visit) -> None:
    page = visit().open()
    for number, (name, kind, make) in enumerate(FILES):
        text = KNOWN.replace("Seed: 123", f"Seed: {number}").replace("Steps: 25", f"Steps: {30 + number}")
        drop(page, "#txt2img_prompt textarea", make(text), name, kind)
        wait_value(page, "txt2img_seed", str(number))
        for field, wanted in (("negative_prompt", "dog, bad_hands"), ("steps", str(30 + number)), ("cfg_scale", "6.5")):
            wait_value(page, f"txt2img_{field}", wanted)
        for field, wanted in (("width", "512"), ("height", "768"), ("sampler", "DPM++ 2M"), ("schedule", "Karras")):
            wait_value(page, f"txt2img_{field}", wanted)
        assert value(page, "txt2img_prompt") == "a cat, <lora:fur:0.8>"
        assert not page.locator(".drop").count()


def test_a_drop_that_says_nothing_changes_nothing(visit: Visit) -> None:
    page = visit().open()
    page.fill("#txt2img_prompt textarea", "mine")
    drop(page, "#txt2img_prompt textarea", foreign.png(), "holiday.png")
    page.wait_for_selector("#complaint:text-is('holiday.png does not say how it was made.')")
    drop(page, "#txt2img_prompt textarea", b"GIF89a", "moving.gif", "image/gif")
    page.wait_for_selector("#complaint:has-text('is not a picture that is read here')")
    assert value(page, "txt2img_prompt") == "mine"


def test_a_picture_of_the_page_itself_may_be_dragged_to_a_prompt(visit: Visit, app: FakeApp) -> None:
    """As its address, here a thumbnail's; the file that some browsers add to it is encoded anew and says nothing."""
    page = visit().open()
    page.fill("#txt2img_prompt textarea", "a rocket")
    page.click("#txt2img_generate")
    job = app.wait_for_job()
    app.finish_picture(job)
    page.fill("#txt2img_prompt textarea", "something else")
    page.evaluate(
        """([address, data]) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.setData("text/uri-list", new URL(address, document.baseURI).href);
          const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
          dataTransfer.items.add(new File([bytes], "a.png", { type: "image/png" }));
          const target = document.querySelector("#txt2img_prompt textarea");
          target.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        [f"internal/pictures/{job}/0/thumbnail", base64.b64encode(foreign.png()).decode()],
    )
    wait_value(page, "txt2img_prompt", "a rocket")


def test_a_pasted_text_fills_in_the_form(visit: Visit) -> None:
    page = visit().open()
    button = page.locator("#txt2img_prompt .read-settings:not(.last-settings)")
    page.fill("#txt2img_prompt textarea", "a cat")
    assert not button.is_visible()
    page.fill("#txt2img_prompt textarea", KNOWN)
    button.click()
    wait_value(page, "txt2img_prompt", "a cat, <lora:fur:0.8>")
    wait_value(page, "txt2img_seed", "123")
    wait_value(page, "txt2img_steps", "25")
    button.wait_for(state="hidden")


def test_dropped_and_pasted_pictures_are_read(visit: Visit) -> None:
    page = opened(visit)
    drop(page, ".pnginfo-found", PROGRAMS["Fooocus"][0], "a.jpg", "image/jpeg")
    page.wait_for_selector(".pnginfo-program:has-text('Fooocus')")
    page.evaluate(
        """(data) => {
          const clipboardData = new DataTransfer();
          const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
          clipboardData.items.add(new File([bytes], "image.png", { type: "image/png" }));
          document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
        }""",
        base64.b64encode(PROGRAMS["InvokeAI"][0]).decode(),
    )
    page.wait_for_selector(".pnginfo-program:has-text('InvokeAI')")


def test_what_says_nothing_and_what_is_no_picture(visit: Visit) -> None:
    page = opened(visit)
    choose(page, foreign.png(Comment="my holiday"))
    assert "does not say how it was made (PNG, 64 × 48)" in page.inner_text(".pnginfo-none")
    page.click(".pnginfo-texts summary")
    assert page.inner_text(".pnginfo-texts pre") == "my holiday"
    assert page.locator(".pnginfo-actions [data-to]").all_inner_texts() == ["Send to Extras"], "it can be enlarged, and no more"
    choose(page, foreign.png()[:90])
    assert "cut short" in page.inner_text(".pnginfo-bad")


SCRIPTS = [
    "<img src=x onerror=window.__x=1>",
    "<script>window.__x=1</script>",
    "</textarea><svg onload=window.__x=1>",
    "javascript:window.__x=1",
    "{{constructor.constructor('window.__x=1')()}}${window.__x=1}",
    "](javascript:window.__x=1) <iframe srcdoc='<script>parent.__x=1</script>'>",
]


SCRIPT = " ".join(SCRIPTS)


def hostile() -> list[bytes]:
    """The same scripts in every text of every program."""

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        if isinstance(value, list) and not (len(value) == 2 and isinstance(value[1], int)):  # no links of a graph
            return [filled(one) for one in value]
        return SCRIPT if isinstance(value, str) else value

    graph = {name: {**node, "inputs": filled(node["inputs"])} for name, node in foreign.COMFY.items()}
    quoted = json.dumps(SCRIPT)
    items = f"Steps: 20, Sampler: {quoted}, Schedule type: {quoted}, Seed: 1, Size: 64x64, Model: {quoted}, Foo: {quoted}"
    text = f"{SCRIPT}\nNegative prompt: {SCRIPT}\n{items}, Lora hashes: {json.dumps(SCRIPT + ': 0')}, Version: {quoted}"
    tags = dict.fromkeys((exif.MAKE, exif.MODEL, exif.SOFTWARE, exif.DESCRIPTION), SCRIPT.encode())
    return [
        foreign.png(parameters=text, **{SCRIPT[:60]: SCRIPT}),
        foreign.with_exif("JPEG", {exif.USER_COMMENT: b"UNICODE\0" + text.encode("utf-16-be"), **tags}, SCRIPT.encode()),
        foreign.png(prompt=json.dumps(graph), workflow=SCRIPT),
        foreign.png(invokeai_metadata=json.dumps(filled(foreign.INVOKE))),
        foreign.png(sd_dash_metadata=json.dumps(filled(foreign.INVOKE_2))),
        foreign.png(parameters=json.dumps(filled(foreign.FOOOCUS))),
        foreign.png(parameters=json.dumps(filled(foreign.SWARM))),
        foreign.png(Software="NovelAI", Source=SCRIPT, Comment=json.dumps(filled(foreign.NAI_COMMENT))),
        foreign.commented("JPEG", json.dumps(filled(foreign.DRAW_THINGS))),
        foreign.png(Comment=SCRIPT),
    ]


def test_no_text_of_a_picture_is_ever_more_than_text(visit: Visit) -> None:
    page = opened(visit)
    files = hostile()
    for data in files:
        choose(page, data, "<img src=x onerror=window.__x=1>.png")
        for details in page.locator(".pnginfo-texts summary").all():
            details.click()
        assert SCRIPTS[0] in page.inner_text(".pnginfo-found")
        assert not page.locator(".pnginfo-found :is(script, iframe, svg, img)").count()
        if page.locator(".pnginfo-actions [data-to=txt2img]").count():
            page.click(".pnginfo-actions [data-to=txt2img]")
            page.wait_for_function(
                "(words) => document.querySelector('#txt2img_prompt textarea').value.includes(words)", arg="window"
            )
            page.click("#tab_pnginfo")
    page.click("#tab_txt2img")
    drop(page, "#txt2img_prompt textarea", files[-1], "<img src=x onerror=window.__x=1>.png")
    page.wait_for_selector("#complaint:has-text('does not say how it was made')")
    assert page.evaluate("() => window.__x") is None


def test_it_is_usable_by_keyboard_and_has_names(visit: Visit) -> None:
    page = opened(visit)
    with page.expect_file_chooser() as chooser:
        page.focus(".pnginfo-choose")
        page.keyboard.press("Enter")
    chooser.value.set_files({"name": "a.png", "mimeType": "image/png", "buffer": PROGRAMS["A1111"][0]})
    page.wait_for_selector(".pnginfo-table caption")
    assert page.get_by_role("region", name="PNG Info").is_visible()
    assert page.get_by_role("table", name="Settings").is_visible()
    assert page.get_by_role("button", name="Send to txt2img").is_visible()


BEYOND = (
    "a cat\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 512x512, Hires upscale: 2, Hires upscaler: Latent, "
    'ControlNet 0: "Module: canny, Model: control_v11p_sd15_canny, Weight: 1", Version: v1.10.1'
)


def test_what_cannot_be_taken_over_is_reported_where_the_settings_go(visit: Visit) -> None:
    said = "Made with ControlNet, a second pass at a larger size, which is not taken over."
    page = opened(visit)
    choose(page, foreign.png(parameters=BEYOND))
    assert said in page.inner_text(".pnginfo-notes")
    page.click(".pnginfo [data-to=txt2img]")
    page.wait_for_selector("#complaint:not([hidden])")
    assert said in page.inner_text("#complaint")

    page.reload()
    page.wait_for_selector(".results:not([data-view=loading])")
    drop(page, "#txt2img_prompt", foreign.png(parameters=BEYOND))
    page.wait_for_selector("#complaint:not([hidden])")
    assert said in page.inner_text("#complaint")


def test_seeds_that_javascript_s_numbers_cannot_hold_come_back_exactly(page: Any, app: FakeApp) -> None:
    """From the form to the request, from there into a picture's record, and from the record into the form again."""
    for which, seed in enumerate((2**53 + 1, 2**64 - 1)):
        _comes_back(page, app, seed, 2 * which + 1)


def _comes_back(page: Any, app: FakeApp, seed: int, which: int) -> None:
    page.fill("#txt2img_seed :is(textarea, input)", str(seed))
    page.fill("#txt2img_count input[type=number]", "2")
    page.click("#txt2img_generate")
    job = app.wait_for_job(which)
    request = app.records[job][1].request
    assert request.seed == seed
    for _ in range(2):
        app.finish_picture(job)
    page.wait_for_selector(f".picture-info dl[data-seed='{seed}']")
    assert f"{seed} to {(seed + 1) % 2**64}" in page.inner_text(".picture-info dl")
    page.fill("#txt2img_seed :is(textarea, input)", "")
    page.click("#result_reuse")
    wait_value(page, "txt2img_seed", str(seed))

    info = GenerationInfo(request.image(1), "", "", "Karras", "Atelier 0.1.0")
    saved = Outputs(app.settings.outputs_dir).save(bytes(64 * 64 * 3), 64, 64, info, "job", 1)
    drop(page, "#txt2img_prompt textarea", saved.path.read_bytes())
    wait_value(page, "txt2img_seed", str((seed + 1) % 2**64))
    page.reload()
    page.wait_for_selector("#txt2img_seed :is(textarea, input)")
    wait_value(page, "txt2img_seed", str((seed + 1) % 2**64))
    page.click("#txt2img_generate")
    job = app.wait_for_job(which + 1)
    assert app.records[job][1].request.seed == (seed + 1) % 2**64
    for _ in range(app.records[job][1].count):
        app.finish_picture(job)
    page.wait_for_selector("body:not([data-busy])")
