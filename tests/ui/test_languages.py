"""The page in each language, in Chromium: nothing is left in English but names and data."""

from __future__ import annotations

import re
from typing import Any

import pytest

from modules.languages.files import read
from tests.api.people import AccountsServer
from tests.ui.conftest import Visit, Watched, serving
from tests.ui.fake_app import FakeApp

pytestmark = pytest.mark.browser

TAGS = {"de": "de-AT", "es": "es-MX", "ja": "ja-JP", "zh-CN": "zh-CN"}

TEXTS = """() => {
  const found = new Set();
  const data = "script, style, code, kbd, pre, textarea, svg, [translate=no]";
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  for (let node = document.body; node; node = walker.nextNode()) {
    const names = node.nodeType === Node.ELEMENT_NODE ? ["title", "placeholder", "aria-label"] : [];
    for (const name of names) found.add(node.getAttribute(name));
    if (!names.length && !node.parentElement.closest(data)) found.add(node.data);
  }
  return [...found].map((text) => text?.trim()).filter(Boolean);
}"""

NAMES = re.compile(
    r"Atelier|A1111|ComfyUI|Forge|SD\.Next|InvokeAI|SwarmUI|Fooocus|NovelAI|Draw Things|Krita|Hugging Face"
    r"|Stability|kohya|APG eta|Extra Networks|Textual Inversion"
    r"|Stable Diffusion|SDXL|SD x?\d[\w.]*|InstructPix2Pix"
    r"|LoRA|U-Net|VAE|CLIP|CFG|txt2img|img2img"
    r"|Real-ESRGAN|ESRGAN|Mixture of Diffusers"
    r"|PNG|JPEG|WebP|AVIF|HTTP|Lanczos|Ctrl|Alt|Shift|Enter|Tab|Delete|Home|End|PgUp|PgDn"
    r"|cat, dog, \"red fox\"|cat, in a hat|a cat \| red"
)
"""What is called so in every language."""

DATA = re.compile(
    r"A small model that paints one sticker of 48 motifs;|a cat face on blue|sdpa \(no xformers on cpu\)"
    r"|tag:cats album:\"best of\""
    r"|python3 webui\.py extension new NAME|return grid"
    r"|extra networks default multiplier|jpeg quality|samples format|sd model checkpoint|webp lossless"
    r"|\"?red fox\"?|a red apple|red apple, cat face, rocket|cpu \(no GPU here\)|eta ancestral|eta ddim"
    r"|Authorization: Bearer TOKEN|HTTP Basic|Firefox on Linux"
)
"""What this App has in its lists, examples, and A1111's names of options."""


def bare(text: str) -> str:
    return text[:1].lower() + text[1:].removesuffix(".")


def left_in_english(texts: list[str], language: str) -> list[str]:
    """The texts whose translation stands in the language's file and was not put into their place."""
    known = read(language)
    waiting = {bare(key) for key, text in known.items() if "{" not in key} - {bare(text) for text in known.values()}
    return [text for text in texts if bare(text) in waiting]


def latin(texts: list[str]) -> list[str]:
    """Those with words of Latin letters that are neither names nor data: of languages that write with others."""
    rest = ((text, DATA.sub("", NAMES.sub("", text))) for text in texts)
    return [text for text, more in rest if re.search(r"(?<![\w.\-/<:\[])[A-Za-z]{3,} [A-Za-z]{2,}", more)]


@pytest.mark.parametrize("language", TAGS)
def test_a_page_has_no_text_left_in_english(language: str, visit: Visit, app: FakeApp) -> None:
    page = visit(locale=TAGS[language]).open()
    assert page.evaluate("document.documentElement.lang") == language
    found: set[str] = set()
    for tab in ("img2img", "inpaint", "extras", "pnginfo", "gallery", "models", "settings", "txt2img"):
        page.click(f"#tab_{tab}")
        if tab == "settings":
            page.wait_for_selector("[data-name=output_name]")
            page.wait_for_selector(".presets li")
        if tab in ("txt2img", "img2img", "inpaint"):
            page.click(f"#{tab}_options > button")
            page.wait_for_selector(f"#{tab}_clip_skip, #{tab}_options input")
        found.update(page.evaluate(TEXTS))
    page.click("#help")
    page.wait_for_selector("dialog.help")
    found.update(page.evaluate(TEXTS))
    texts = sorted(found)
    assert len(texts) > 300
    assert left_in_english(texts, language) == []
    if language in ("ja", "zh-CN"):
        assert latin(texts) == []
    page.keyboard.press("Escape")
    an_error_is_shown_in(page, language)


def an_error_is_shown_in(page: Any, language: str) -> None:
    page.fill("#txt2img_count input", "2.5")
    page.click("#txt2img_generate")
    page.wait_for_selector("#complaint:not([hidden])")
    said = page.inner_text("#complaint")
    known = read(language)
    assert said.startswith(known["Pictures"])
    assert "2.5" in said
    assert not re.search("must|given", said)


def test_a_setting_overrides_the_browser_and_data_stays(visit: Visit, app: FakeApp) -> None:
    page = visit(locale="de-DE").open()
    page.fill("#txt2img_prompt textarea", "Generate")
    assert page.inner_text("#txt2img_generate") == "Erzeugen"
    page.click("#tab_settings")
    page.select_option("[data-name=language] select", "日本語")
    page.wait_for_selector("html[lang=ja]")
    page.wait_for_selector("body[data-forms=filled]")
    assert page.inner_text("#tab_settings") == "設定"
    assert page.input_value("#txt2img_prompt textarea") == "Generate"
    page.wait_for_selector("[data-name=language] select")
    page.fill(".settings-find", "言語")  # a search finds what is seen
    page.wait_for_selector("[data-name=start_tab]", state="hidden")
    page.select_option("[data-name=language] select", "English")
    page.wait_for_selector("html[lang=en]")
    page.wait_for_selector("body[data-forms=filled]")
    assert page.inner_text("#tab_settings") == "Settings"


def test_the_login_pages_speak_the_browser_s_language(browser: Any, app: FakeApp) -> None:
    instance = AccountsServer(app, address="")
    known = read("zh-CN")
    try:
        boss = instance.person("Ada", "administrator")
        with serving(instance.server) as origin:
            visitor = Watched(browser, origin, locale="zh-TW")
            page = visitor.new_page()
            page.goto(f"{origin}/login")
            assert page.inner_text("button.primary") == known["Log in"]
            page.fill("[name=name]", "Ada")
            page.fill("[name=password]", "wrong")
            page.click("button.primary")
            page.wait_for_selector(".notice.bad")
            said = page.evaluate(TEXTS)
            session = instance.store.add_session(boss.id, "Firefox on Linux", "127.0.0.1")
            visitor.context.add_cookies([{"name": f"sid_{origin.rsplit(':', 1)[1]}", "value": session, "url": origin}])
            page.goto(f"{origin}/account")
            page.wait_for_selector("main.account-panel")
            said += page.evaluate(TEXTS)
            visitor.context.close()
        assert visitor.sins == []
        assert known["Invitations"] in said
        assert left_in_english(said, "zh-CN") == []
        assert latin(said) == []
    finally:
        instance.close()
