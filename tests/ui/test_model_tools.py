"""The tools of the Models tab in Chromium, over a server whose runs move only when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modules.model_tools.process import Outcome, ToolFailed, ToolKilled, ToolProcess
from modules.model_tools.runs import ToolRuns
from modules.model_tools.work import Order
from modules.queue.owners import OWNER
from tests.model_tools.hub_server import HubServer
from tests.tiny import tiny_checkpoint
from tests.ui.conftest import Visit
from tests.ui.fake_app import STICKERS, FakeApp

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img", "models")]

OPEN = """() => {
  location.hash = 'models';
  document.querySelector('#models_tools').open = true;
}"""


class Held(ToolProcess):
    """A process that stands at 40 % until the test lets it end."""

    end_with: Any = None
    go = threading.Semaphore(0)

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        self.order, self.stopped = order, threading.Event()

    def run(self, say: Callable[[str, float], None]) -> Outcome:
        say("merging", 0.4)
        while not Held.go.acquire(timeout=0.01):
            if self.stopped.is_set():
                raise ToolKilled("ended")
        if Held.end_with is not None:
            raise Held.end_with
        return Outcome(self.order.target.name, ("b lacks nothing",))

    def end(self) -> None:
        self.stopped.set()


@pytest.fixture
def folder(tmp_path: Path, app: FakeApp) -> Iterator[Path]:
    models = tmp_path / "tool-models"
    (models / "loras").mkdir(parents=True)
    (models / "loras" / "ink.safetensors").write_bytes(b"1")
    (models / "vae").mkdir()
    (models / "vae" / "fine.safetensors").write_bytes(b"1")
    (models / "old.ckpt").write_bytes(b"12345")
    for name in ("one", "two"):
        tiny_checkpoint(models / f"{name}.safetensors")
    Held.end_with, Held.go = None, threading.Semaphore(0)
    app.models = [replace(STICKERS, name=name) for name in ("one", "two")]
    app.model_tools = ToolRuns(tmp_path / "tools.sqlite", [models], tmp_path / "hashes.json", Held)
    app.model_tools.begin()
    yield models
    app.model_tools.close()


@pytest.fixture
def tools(visit: Visit, folder: Path) -> Any:
    page = visit().open()
    page.evaluate(OPEN)
    page.wait_for_selector("#tools_a option:has-text('two')", state="attached")
    return page


def fill_merge(page: Any, name: str = "both") -> None:
    page.select_option("#tools_a", "one")
    page.select_option("#tools_b", "two")
    page.fill("#tools_output", name)


def test_a_merge_from_the_form_to_the_end(tools: Any, app: FakeApp) -> None:
    fill_merge(tools)
    tools.fill("#tools_multiplier", "0,3")
    tools.click(".tools-start")
    row = "#models_tools [data-run]"
    tools.wait_for_selector(f"{row}[data-state=running] .tools-doing:has-text('40 % merging')")
    (run,) = of_all(app)
    assert run.request.model_dump()["multiplier"] == 0.3
    assert tools.locator(f"{row} progress").get_attribute("aria-label") == "both.safetensors: progress"
    Held.go.release()
    tools.wait_for_selector(f"{row}[data-state=done] .tools-note:has-text('B lacks nothing.')")
    tools.wait_for_selector("#models_tools [role=status]:has-text('both.safetensors: done')", state="attached")
    tools.click(f"{row} button:has-text('Remove')")
    tools.wait_for_selector(row, state="detached")


def of_all(app: FakeApp) -> list[Any]:
    return list(app.model_tools.runs(OWNER))


def test_what_is_wrong_is_said_at_its_field(tools: Any) -> None:
    tools.fill("#tools_multiplier", "9")
    tools.click(".tools-start")
    assert tools.inner_text("#tools_a_error") == "Choose one."
    assert tools.inner_text("#tools_multiplier_error") == "A number from -2 to 3."
    assert tools.inner_text("#tools_output_error") == "Give it a name."
    assert tools.evaluate("document.activeElement.id") == "tools_a", "the first wrong field has the focus"
    assert tools.get_attribute("#tools_multiplier", "aria-invalid") == "true"
    fill_merge(tools, "one")
    tools.fill("#tools_multiplier", "0.5")
    tools.click(".tools-start")
    tools.wait_for_selector("#tools_output_error:has-text('There is a file one.safetensors already')")
    tools.fill("#tools_output", "new")
    tools.fill("#tools_blocks", "NOWHERE=1")
    tools.click(".tools-start")
    tools.wait_for_selector("#tools_blocks_error:has-text('block')")
    assert tools.locator("[data-run]").count() == 0


def test_fields_that_do_not_matter_are_hidden(tools: Any) -> None:
    assert not tools.is_visible("#tools_c")
    tools.select_option("#tools_method", "difference")
    assert tools.is_visible("#tools_c")
    assert tools.locator("#tools_vae option").all_inner_texts() == ["A's", "B's", "Merged too", "fine"]


def test_baking_by_keyboard(tools: Any, app: FakeApp) -> None:
    tools.select_option("#tools_pick", "bake")
    tools.select_option("#tools_checkpoint", "one")
    tools.focus(".tools-lora select")
    tools.keyboard.type("ink")
    tools.keyboard.press("Tab")
    tools.keyboard.type("0.5")
    tools.fill("#tools_output", "baked")
    tools.press("#tools_output", "Enter")
    tools.wait_for_selector("[data-run][data-state=running]")
    (run,) = of_all(app)
    assert run.request.model_dump()["loras"] == ({"name": "ink", "strength": 0.5, "text_strength": None},)


def test_a_run_is_cancelled_and_one_that_failed_says_why(tools: Any) -> None:
    fill_merge(tools)
    tools.click(".tools-start")
    tools.click("[data-run] button[aria-label='Cancel both.safetensors']")
    tools.wait_for_selector("[data-run][data-state=cancelled]")
    Held.end_with = ToolFailed("two.safetensors: its tensor has NaN")
    fill_merge(tools, "other")
    tools.click(".tools-start")
    tools.wait_for_selector("[data-run][data-state=running]")
    Held.go.release()
    tools.wait_for_selector("[data-run][data-state=failed] .tools-error:has-text('Two.safetensors: its tensor has NaN.')")


def test_a_pickle_is_offered_for_conversion(tools: Any, app: FakeApp, folder: Path) -> None:
    tools.click("button[aria-label='Convert old.ckpt']")
    tools.wait_for_selector("[data-run][data-state=running]:has-text('old.safetensors')")
    (folder / "old.safetensors").write_bytes(b"1")
    Held.go.release()
    tools.wait_for_selector("[data-run][data-state=done]")
    tools.wait_for_selector(".tools-pickles", state="hidden")


def test_a_model_is_looked_for_and_got(tools: Any, app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = HubServer(repos={"ada/two": {"a.safetensors": b"1" * 5000, "old.ckpt": b"2" * 3000, "model_index.json": b"{}"}})
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    try:
        tools.select_option("#tools_pick", "get")
        tools.click(".tools-start")
        assert tools.inner_text("#tools_source_error") == "Say where it is."
        assert not tools.is_visible("#tools_file")
        tools.fill("#tools_source", "ada/nowhere")
        tools.click("button:has-text('Look')")
        tools.wait_for_selector("#tools_source_error:has-text('is not there, or private')")
        tools.fill("#tools_source", "ada/two")
        tools.click("button:has-text('Look')")
        tools.wait_for_selector("[role=status]:has-text('ada/two has 2 model files and a diffusers pipeline.')")
        assert tools.locator("#tools_file option").all_inner_texts() == [
            "a.safetensors (5.0 kB)",
            "old.ckpt (3.0 kB, a pickle: must be converted)",
            "The whole pipeline (2 bytes)",
        ]
        tools.select_option("#tools_file", "a.safetensors")
        tools.select_option("#tools_to", "loras")
        tools.click(".tools-start")
        tools.wait_for_selector("[data-run][data-state=running]:has-text('a.safetensors')")
        (run,) = of_all(app)
        said = run.request.model_dump()
        assert (said["source"], said["file"], said["to"], said["output"]) == ("ada/two", "a.safetensors", "loras", "")
        tools.fill("#tools_source", "ada/other")
        assert not tools.is_visible("#tools_file"), "what was seen was of another source"
    finally:
        hub.close()


def test_a_reload_finds_the_runs_again(tools: Any) -> None:
    fill_merge(tools)
    tools.click(".tools-start")
    tools.wait_for_selector("[data-run][data-state=running]")
    tools.reload()
    tools.wait_for_selector("body[data-forms=filled]")
    tools.evaluate(OPEN)
    tools.wait_for_selector("[data-run][data-state=running] .tools-doing:has-text('40 %')")


def test_a_phone_and_the_dark(visit: Visit, folder: Path) -> None:
    page = visit(viewport={"width": 360, "height": 740}, color_scheme="dark").open()
    page.evaluate(OPEN)
    page.wait_for_selector("#tools_a option:has-text('two')", state="attached")
    wide = page.evaluate(
        "document.querySelector('#models_tools').scrollWidth - document.querySelector('#models_tools').clientWidth"
    )
    assert wide <= 0, "nothing is cut off"
    low = page.evaluate(
        "[...document.querySelectorAll('#models_tools button')].filter((b) => b.offsetHeight && b.offsetHeight < 44).length"
    )
    assert low == 0
    colours = "(name) => getComputedStyle(document.querySelector('#tools_a'))[name].match(/\\d+/g)[0]"
    ink, ground = (int(page.evaluate(colours, name)) for name in ("color", "backgroundColor"))
    assert ink > 150 > 80 > ground
