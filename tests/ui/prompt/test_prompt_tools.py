"""The tools at the prompts, in Chromium: counts, the reading, weights by keyboard, names while typing, styles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp
from tests.ui.test_txt2img_page import GENERATE, PROMPT, SEED, wait_value

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img")]

NEGATIVE = "#txt2img_negative_prompt textarea"
READING = "#txt2img_reading"
NAMES = "#txt2img_prompt_names"
STYLES = "#txt2img_styles input"


@pytest.fixture
def data(app: FakeApp) -> Path:
    folder: Path = app.settings.data_dir
    (folder / "wildcards" / "sky").mkdir(parents=True)
    for name in ("animal", "antique", "sky/dusk"):
        (folder / "wildcards" / f"{name}.txt").write_text("a fox\n", "utf-8")
    (folder / "styles.csv").write_text(
        'name,prompt,negative_prompt\nPhoto,"photo of {prompt}",blurry\nInk,ink drawing,\n', "utf-8"
    )
    return folder


def count_is(page: Any, words: str, field: str = "prompt") -> None:
    page.wait_for_function("([s, w]) => document.querySelector(s)?.textContent === w", arg=[f"#txt2img_{field} .count", words])


def open_reading(page: Any) -> Any:
    page.click(f"{READING} summary")
    page.wait_for_selector(f"{READING} .reading section")
    return page.locator(f"{READING} .reading")


def select(page: Any, start: int, end: int) -> None:
    page.focus(PROMPT)
    page.evaluate("([s, a, b]) => document.querySelector(s).setSelectionRange(a, b)", [PROMPT, start, end])


def test_counts_follow_what_is_typed(page: Any) -> None:
    count_is(page, "0/75")
    page.fill(PROMPT, "a red apple")
    count_is(page, "3/75")
    page.fill(NEGATIVE, "rain")
    count_is(page, "1/75", "negative_prompt")
    page.fill(PROMPT, "apple, " * 40)
    count_is(page, "80/150")
    page.wait_for_selector(f"{READING}:not([hidden]) >> text=2 chunks")


def test_count_asks_for_the_reading_and_takes_it_away_again(page: Any) -> None:
    page.fill(PROMPT, "a red apple")
    count_is(page, "3/75")
    assert page.locator(READING).is_hidden(), "there is nothing to explain"
    button = page.get_by_role("button", name="3 of 75 tokens in the prompt")
    button.press("Enter")
    page.wait_for_selector(f"{READING}[open] dd >> text=a red apple")
    page.keyboard.press("Enter")
    page.wait_for_selector(READING, state="hidden")
    assert button.get_attribute("aria-expanded") == "false"


def test_reading_tells_weights_texts_over_time_and_chunks(page: Any) -> None:
    page.fill(PROMPT, "a (big:1.3) [dog:fox:0.5] BREAK park AND [sun|moon] :0.5")
    page.wait_for_selector(f"{READING} .gist:has-text('2 sides of AND')")
    gist = page.inner_text(f"{READING} .gist")
    assert "1 weight" in gist
    assert "2 chunks" in gist
    reading = open_reading(page)
    steps = reading.locator("dt").all_inner_texts()
    texts = reading.locator("dd").all_inner_texts()
    assert (steps[0], steps[1]) == ("Steps 1–11", "Steps 12–20")
    assert "dog BREAK park" in texts[0]
    assert "fox BREAK park" in texts[1]
    assert steps[2].startswith("Steps 1–2, 4, 6, 8,")
    assert (texts[2].strip(), texts[3].strip()) == ("sun", "moon")
    assert reading.locator(".weighed.more b").first.inner_text() == "1.3"
    assert reading.locator(".side").all_inner_texts() == ["First, weight 1", "AND, weight 0.5"]
    page.fill(PROMPT, "a dog")
    page.wait_for_function("() => document.querySelector('#txt2img_reading dd')?.textContent === 'a dog'")


def test_reading_names_what_is_not_here(page: Any) -> None:
    page.fill(PROMPT, "__nobody__ <lora:gone:0.8>")
    page.wait_for_selector(f"{READING} .gist:has-text('2 remarks')")
    remarks = open_reading(page).locator(".remarks li").all_inner_texts()
    assert remarks[0].startswith("__nobody__: there is no wildcard file")
    assert "no network of the name 'gone'" in remarks[1]


def test_text_that_is_refused_says_why_and_shows_no_number(page: Any) -> None:
    page.fill(PROMPT, "x" * 33_000)
    page.wait_for_selector(f"{READING} .gist:has-text('cannot be read')")
    assert page.locator("#txt2img_prompt .count").is_hidden()
    page.click(f"{READING} summary")
    page.wait_for_selector(f"{READING} li:has-text('at most 32,768 characters')")
    page.fill(PROMPT, "a cat")
    count_is(page, "2/75")


def test_nothing_is_asked_while_the_page_is_hidden(page: Any) -> None:
    count_is(page, "0/75")
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    asked: list[str] = []
    page.on("request", lambda request: "prompt/check" in request.url and asked.append(request.url))
    page.fill(PROMPT, "a red apple")
    page.wait_for_function("() => window.atelierForms?.txt2img?.prompt === 'a red apple'")
    page.wait_for_function("() => new Promise((done) => setTimeout(() => done(true), 300))")  # longer than the pause
    assert not asked
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    count_is(page, "3/75")


NUDGES = [
    ("a cat sits", 3, 3, "Up", "a (cat:1.1) sits"),
    ("a cat sits", 5, 5, "Down", "a (cat:0.9) sits"),
    ("a big cat sits", 2, 9, "Up", "a (big cat:1.1) sits"),
    ("a big cat sits", 1, 10, "Up", "a (big cat:1.1) sits"),
    ("a (cat:1.1) sits", 4, 4, "Up", "a (cat:1.2) sits"),
    ("a (cat:1.1) sits", 4, 4, "Down", "a cat sits"),
    ("a (cat:1.1) sits", 3, 6, "Down", "a cat sits"),
    ("a (cat:1.1) sits", 2, 11, "Up", "a (cat:1.2) sits"),
    ("a (cat:0.9) sits", 4, 4, "Up", "a cat sits"),
    ("(cat:0.1)", 2, 2, "Down", "(cat:0.0)"),
    ("(cat:0)", 2, 2, "Down", "(cat:-0.1)"),
    ("(a cat, sitting)", 4, 4, "Up", "(a cat, sitting:1.2)"),
    ("((cat))", 3, 3, "Up", "(cat:1.31)"),
    ("[cat]", 2, 2, "Down", "(cat:0.81)"),
    ("[cat:dog:0.5]", 2, 2, "Up", "[(cat:1.1):dog:0.5]"),
    ("(a (cat:1.3) here:1.2)", 5, 5, "Up", "(a (cat:1.4) here:1.2)"),
    ("<lora:mine:0.8>", 8, 8, "Up", "<lora:mine:0.85>"),
    ("\\(cat\\)", 3, 3, "Up", "\\((cat:1.1)\\)"),
    ("__animal__", 4, 4, "Up", "(__animal__:1.1)"),
    ("größe 猫", 3, 3, "Up", "(größe:1.1) 猫"),
    ("a (cat here) x", 0, 6, "Up", "a (cat here) x"),
    ("a , b", 2, 2, "Up", "a , b"),
    ("a AND b", 3, 3, "Up", "a AND b"),
    ("[a:b:0.5]", 8, 8, "Up", "[a:b:0.5]"),
]


def test_weights_are_nudged_as_in_a1111(page: Any) -> None:
    for text, start, end, key, expected in NUDGES:
        page.fill(PROMPT, text)
        select(page, start, end)
        page.keyboard.press(f"Control+Arrow{key}")
        assert page.input_value(PROMPT) == expected, (text, start, end, key)


def test_the_reading_tells_the_second_pass_where_it_has_a_prompt_of_its_own(page: Any) -> None:
    page.click("#txt2img_second_pass button.label-wrap")
    page.check("#txt2img_hires input")
    page.fill("#txt2img_hires_prompt textarea", "a (dog:1.3), and <lora:gone:1>")
    page.wait_for_selector(f"{READING} .gist:has-text('another text in the second pass · 1 remark')")
    reading = open_reading(page)
    assert "Second pass" in " ".join(reading.locator("h3").all_inner_texts())
    assert reading.locator(".remarks li").all_inner_texts()[0].startswith("Second pass: <lora:gone:1>")
    page.uncheck("#txt2img_hires input")
    page.wait_for_function("!document.querySelector('#txt2img_reading .reading').innerText.includes('Second pass')")


MOVES = [  # text, selection, key, text then, selection then
    ("a red cat, blue sky, sun", 13, 13, "Left", "blue sky, a red cat, sun", "", 2),
    ("a red cat, blue sky, sun", 13, 17, "Right", "a red cat, sun, blue sky", "ue s", 18),
    ("a, b, c, d", 3, 7, "Right", "a, d, b, c", "b, c", 6),
    ("a, b", 1, 1, "Left", "a, b", "", 1),
    ("a, b", 4, 4, "Right", "a, b", "", 4),
    ("one,\ntwo,\nthree", 6, 6, "Right", "one,\nthree,\ntwo", "", 13),
    ("x, (a, b:1.2), y", 7, 7, "Left", "x, (b, a:1.2), y", "", 4),
    ("x, (a, b:1.2), y", 13, 13, "Right", "x, y, (a, b:1.2)", "", 16),
    ("[a, b:c:0.5], d", 5, 5, "Left", "[b, a:c:0.5], d", "", 2),
    ("a, <lora:x, y:1>, b", 9, 9, "Left", "<lora:x, y:1>, a, b", "", 6),
    ("a, b AND c, d", 10, 10, "Left", "a, b AND c, d", "", 10),
]


def test_items_between_commas_are_moved_as_in_a1111(page: Any) -> None:
    for text, start, end, key, expected, selected, cursor in MOVES:
        page.fill(PROMPT, text)
        select(page, start, end)
        page.keyboard.press(f"Alt+Arrow{key}")
        found = page.evaluate("(s) => [document.querySelector(s).value, document.querySelector(s).selectionStart]", PROMPT)
        assert found == [expected, cursor], (text, start, end, key)
        assert page.evaluate("getSelection().toString()") == selected
    page.fill(PROMPT, "a, b")
    select(page, 0, 0)
    page.keyboard.press("Alt+ArrowRight")
    page.wait_for_function("window.atelierForms.txt2img.prompt === 'b, a'")
    page.keyboard.press("Control+z")
    assert page.input_value(PROMPT) == "a, b"


def test_nudging_up_and_down_again_is_nothing_and_can_be_undone(page: Any, app: FakeApp) -> None:
    page.fill(PROMPT, "a big cat sits")
    select(page, 6, 9)
    for _ in range(3):
        page.keyboard.press("Control+ArrowUp")
    assert page.input_value(PROMPT) == "a big (cat:1.3) sits"
    assert page.evaluate("getSelection().toString()") == "cat"
    page.keyboard.press("Control+z")
    assert page.input_value(PROMPT) == "a big (cat:1.2) sits"
    for _ in range(2):
        page.keyboard.press("Control+ArrowDown")
    assert page.input_value(PROMPT) == "a big cat sits"
    page.keyboard.press("Control+ArrowDown")
    page.click(GENERATE)
    assert app.records[app.wait_for_job()][1].request.prompt == "a big (cat:0.9) sits", "the form knows of it too"


def test_wildcards_are_offered_while_typing(page: Any, data: Path, app: FakeApp) -> None:
    page.click(PROMPT)
    page.keyboard.type("one __an")
    page.wait_for_selector(f"{NAMES} [role=option]")
    assert page.locator(f"{NAMES} [role=option]").all_inner_texts() == ["animal", "antique"]
    page.keyboard.press("ArrowDown")
    selected = page.get_attribute(PROMPT, "aria-activedescendant")
    assert page.inner_text(f"#{selected}") == "antique"
    page.keyboard.press("Enter")
    wait_value(page, PROMPT, "one __antique__")
    page.keyboard.type(" and __dus")
    page.wait_for_selector(f"{NAMES} >> text=sky/dusk")
    page.click(f"{NAMES} >> text=sky/dusk")
    wait_value(page, PROMPT, "one __antique__ and __sky/dusk__")
    assert page.locator(NAMES).is_hidden()
    page.keyboard.press("Enter")
    assert page.input_value(PROMPT).endswith("\n"), "Enter is Enter again"
    assert not app.records


def test_escape_closes_the_names_and_cancels_nothing(page: Any, data: Path, app: FakeApp) -> None:
    page.click(GENERATE)
    job = app.wait_for_job()
    app.step(job, 1)
    page.wait_for_selector("body[data-busy]")
    page.click(PROMPT)
    page.keyboard.type("__")
    page.wait_for_selector(f"{NAMES} [role=option]")
    page.keyboard.press("Escape")
    page.wait_for_selector(NAMES, state="hidden")
    assert app.records[job][1].state == "running"
    page.keyboard.press("Escape")
    page.wait_for_selector("body:not([data-busy])")
    assert app.records[job][1].state == "cancelled"


def test_embeddings_are_offered_and_loras_not_as_long_as_they_are_not_applied(page: Any) -> None:
    answer = '{"wildcards": [], "styles": [], "loras": ["inkwash", "line"], "embeddings": ["easynegative"]}'
    page.route("**/internal/prompt/names", lambda route: route.fulfill(body=answer, content_type="application/json"))
    page.click(PROMPT)
    page.keyboard.type("a cat, <lora:ink")
    page.click(NEGATIVE)
    page.keyboard.type("easy")
    page.wait_for_selector("#txt2img_negative_prompt_names >> text=easynegative")
    page.keyboard.press("Enter")
    wait_value(page, NEGATIVE, "easynegative")
    assert page.is_hidden(NAMES), "the names that the other prompt was offered came from the same answer"
    wait_value(page, PROMPT, "a cat, <lora:ink")


def test_classes_are_offered_where_the_checkpoint_paints_those(page: Any) -> None:
    """From the first letter of a line on, with the words before it; other checkpoints' are not."""
    chosen = page.evaluate("atelierForms.txt2img.checkpoint")
    classes = {chosen: ["goldfish", "golden retriever", "tench"], "another": ["tiger"]}
    answer = json.dumps({"wildcards": [], "styles": [], "loras": [], "embeddings": ["goldleaf"], "classes": classes})
    page.route("**/internal/prompt/names", lambda route: route.fulfill(body=answer, content_type="application/json"))
    page.click(PROMPT)
    page.keyboard.type("golden r")
    page.wait_for_selector(f"{NAMES} >> text=golden retriever")
    assert page.locator(f"{NAMES} [role=option]").all_inner_texts() == ["golden retriever"]
    page.keyboard.press("Enter")
    wait_value(page, PROMPT, "golden retriever")


def test_boxes_are_drawn_where_the_prompt_lists_them(page: Any, app: FakeApp) -> None:
    """A box that is drawn is a line of the prompt, and a line is a box; other checkpoints have no such place."""
    stage = "#txt2img_prompt .boxes .stage"
    assert page.is_hidden(stage)
    app.models = [replace(info, family="ldm-layout", motifs=("cat", "person")) for info in app.models]
    page.reload()
    page.wait_for_selector(stage)
    page.fill("#txt2img_prompt .boxes input", "cat")
    place = page.locator(stage).bounding_box()

    def drag(left: float, top: float, right: float, bottom: float) -> None:
        at = [(place["x"] + x * place["width"], place["y"] + y * place["height"]) for x, y in ((left, top), (right, bottom))]
        page.mouse.move(*at[0])
        page.mouse.down()
        page.mouse.move(*at[1], steps=3)
        page.mouse.up()

    drag(0.5, 0.75, 0.1, 0.25)
    wait_value(page, PROMPT, "cat 0.1 0.25 0.4 0.5")
    drag(0.2, 0.2, 0.2, 0.2)
    drag(0.6, 0.0, 1.2, 0.5)
    wait_value(page, PROMPT, "cat 0.1 0.25 0.4 0.5\ncat 0.6 0 0.4 0.5")
    assert page.locator(f"{stage} .box").count() == 2
    page.click(f"{stage} .box:nth-child(1) button")
    wait_value(page, PROMPT, "cat 0.6 0 0.4 0.5")
    page.fill(PROMPT, "person 0% 50% 100% 50%; no box at all")
    page.wait_for_selector(f"{stage} .box >> text=person")
    assert page.locator(f"{stage} .box").count() == 1


def test_names_and_prompts_are_only_ever_text(page: Any, app: FakeApp) -> None:
    hostile = "<img src=x onerror=window.__x=1>${window.__x=1}"
    names = '{"wildcards": ["<img src=x onerror=window.__x=1>an"], "styles": []}'
    page.route("**/internal/prompt/names", lambda route: route.fulfill(body=names, content_type="application/json"))
    page.fill(PROMPT, f"({hostile}:1.3) __<b>__ <{hostile}:1>")
    page.wait_for_selector(f"{READING}:not([hidden])")
    reading = open_reading(page)
    assert "onerror=window.__x=1>" in reading.inner_text()
    assert reading.locator("img, script").count() == 0
    page.focus(PROMPT)
    page.keyboard.press("Control+End")
    page.keyboard.type(" __an")
    page.wait_for_selector(f"{NAMES} [role=option]")
    assert page.inner_text(f"{NAMES} [role=option]").startswith("<img")
    assert page.evaluate("window.__x") is None


def test_styles_are_chosen_in_the_form_and_read_with_the_prompt(page: Any, data: Path, app: FakeApp) -> None:
    page.reload()
    page.wait_for_selector(STYLES)
    page.fill(PROMPT, "a cat")
    page.click(STYLES)
    page.get_by_role("option", name="Photo").click()
    count_is(page, "4/75")
    assert open_reading(page).locator("dd").all_inner_texts() == ["photo of a cat", "blurry"]
    page.click(GENERATE)
    job = app.wait_for_job()
    assert app.records[job][1].request.styles == ("Photo",)
    app.finish_picture(job)
    page.wait_for_selector(".picture-info dd >> text=Photo")
    page.reload()
    page.wait_for_selector("#txt2img_styles >> text=Photo")
    count_is(page, "4/75")
    (data / "styles.csv").write_text("name,prompt,negative_prompt\nInk,ink drawing,\n", "utf-8")
    page.click("#result_reuse")
    page.wait_for_selector("#complaint:has-text(\"Style 'Photo'\")")


def test_without_styles_shows_none_and_a_damaged_file_says_so(page: Any, app: FakeApp) -> None:
    assert page.locator("#txt2img_styles").count() == 0
    app.settings.data_dir.mkdir(parents=True)
    (app.settings.data_dir / "styles.csv").write_text("nothing,of,this\n1,2,3\n", "utf-8")
    page.reload()
    page.wait_for_selector("#txt2img_styles:has-text(\"has no column 'name'\")")


def test_wildcards_are_read_as_the_seed_draws_them(page: Any, data: Path) -> None:
    (data / "wildcards" / "animal.txt").write_text("fox\nowl\nhare\nbear\n", "utf-8")
    page.fill(PROMPT, "__animal__")
    page.wait_for_selector(f"{READING}:not([hidden])")
    reading = open_reading(page)
    page.wait_for_selector(f"{READING} >> text=each picture draws by its own seed")
    words = set()
    for seed in range(6):
        page.fill(SEED, str(seed))
        page.wait_for_function("(seed) => window.atelierForms?.txt2img?.seed === seed", arg=str(seed))
        with page.expect_response("**/prompt/check"):
            pass
        page.wait_for_function("() => !document.querySelector('#txt2img_reading .remarks')")
        words.add(reading.locator("dd").first.inner_text())
    assert words <= {"fox", "owl", "hare", "bear"}
    assert len(words) > 1


def test_tools_fit_a_phone(visit: Visit, data: Path) -> None:
    page = visit(viewport={"width": 390, "height": 844}, device_scale_factor=2, has_touch=True, is_mobile=True).open()
    page.fill(PROMPT, "a (very:1.3) [long:" + "averylongwordwithoutanyspaces" * 6 + ":0.5] BREAK __an")
    page.wait_for_selector(f"{READING}:not([hidden])")
    open_reading(page)
    assert page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)") <= 390
