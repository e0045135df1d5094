"""The hooks and their registry: what a plugin adds works like what is built in, and is gone when the plugin is."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from starlette.testclient import TestClient

from modules.api.server import build_api
from modules.checkpoints.families import FAMILIES
from modules.checkpoints.families.sd1 import SD1
from modules.diffusion.samplers import SAMPLERS, Sampler, find_sampler
from modules.diffusion.samplers.euler import euler
from modules.diffusion.schedules import SCHEDULES, Schedule, TrainedSigmas, find_schedule, sigmas_for
from modules.errors import PluginError, UnknownName
from modules.hooks import HOOKS, Engine, Registry, Shared, Table, Web, hookimpl
from modules.images.readers import READERS, FileTexts, Reader, Reading
from modules.images.reading import _foreign as read_file
from modules.settings import ROOT
from tests.ui.fake_app import FakeApp


def zigzag(levels: TrainedSigmas, steps: int, tweaks: Any) -> list[float]:
    return [float(step) for step in range(steps, -1, -1)]


def read_mine(file: FileTexts) -> Reading | None:
    text = file.chunks.get("mine", "")
    return Reading("Mine", {"Prompt": text, "Steps": "7", "Sampler": "Zig zag", "Seed": "3"}) if text else None


class MyTab:
    name, label, shows = "mine", "My <tab>", "nothing"

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def build(self) -> None:
        if self.fails:
            raise RuntimeError("no components today")
        from modules.ui.gradio import gr

        gr.Textbox("hello from an extension", elem_id="mine_text")

    def connect(self, results: Any, page: Any) -> None:
        self.connected = True


class Mine:
    """A plugin with an entry of every kind."""

    def __init__(self, tab_fails: bool = False) -> None:
        self.tab = MyTab(tab_fails)

    @hookimpl
    def samplers(self) -> list[Sampler]:
        return [Sampler("Zig zag", euler, ("zig_zag",))]

    @hookimpl
    def schedules(self) -> list[Schedule]:
        return [Schedule("zig", "Zig", zigzag)]

    @hookimpl
    def families(self) -> list[Any]:
        return [replace(SD1[0], name="mine", marks=("my.very.own.tensor",))]

    @hookimpl
    def readers(self) -> list[Reader]:
        return [Reader("Mine", read_mine)]

    @hookimpl
    def routes(self) -> list[APIRouter]:
        router = APIRouter()
        router.add_api_route("/mine/hello", lambda: {"hello": "house"}, methods=["GET"])
        return [router]

    @hookimpl
    def tabs(self, app: Any) -> list[MyTab]:
        assert app is not None
        return [self.tab]


@pytest.fixture(autouse=True)
def nothing_stays() -> Any:
    before = (list(SAMPLERS), list(SCHEDULES), [f.name for f in FAMILIES], [r.name for r in READERS], HOOKS.problems)
    yield
    assert (list(SAMPLERS), list(SCHEDULES), [f.name for f in FAMILIES], [r.name for r in READERS], HOOKS.problems) == before


def test_a_sampler_and_a_schedule_are_found_while_their_plugin_is_registered() -> None:
    with HOOKS.registered(Mine(), "mine"):
        assert list(SAMPLERS)[-1] == "Zig zag"
        assert find_sampler("ZIG_ZAG")[0] is SAMPLERS["Zig zag"]
        assert find_sampler("Zig zag Zig") == (SAMPLERS["Zig zag"], "Zig")
        assert find_schedule("zig").label == "Zig"
        assert sigmas_for("Zig", SAMPLERS["Euler"], TrainedSigmas.scaled_linear(), 3) == [3.0, 2.0, 1.0, 0.0]
    with pytest.raises(UnknownName):
        find_sampler("Zig zag")
    with pytest.raises(UnknownName):
        find_schedule("Zig")


def test_a_family_is_recognised_by_its_mark() -> None:
    from modules.checkpoints import keys
    from modules.checkpoints.families import recognise

    shapes = {
        keys.UNET + "input_blocks.0.0.weight": (320, FAMILIES[0].in_channels, 3, 3),
        keys.VAE + "decoder.conv_in.weight": (512, 4, 3, 3),
        keys.PARTS["text"] + "embeddings.position_ids": (1, 77),
        "my.very.own.tensor": (1,),
    }
    assert recognise(shapes).name == "sd1"
    with HOOKS.registered(Mine(), "mine"):
        assert recognise(shapes).name == "mine"


def test_a_reader_reads() -> None:
    file = FileTexts({"mine": "a fox"})
    assert read_file(file).program == ""
    with HOOKS.registered(Mine(), "mine"):
        found = read_file(file)
    assert (found.program, found.prompt, found.fields["sampler"], found.fields["seed"]) == ("Mine", "a fox", "Zig zag", 3)


class FailingReader:
    @hookimpl
    def readers(self) -> list[Reader]:
        def read(file: FileTexts) -> Reading | None:
            raise KeyError("no such key")

        return [Reader("Failing", read)]


def test_a_reader_that_fails_is_reported_and_the_next_one_reads(caplog: pytest.LogCaptureFixture) -> None:
    with HOOKS.registered(FailingReader(), "failing"), HOOKS.registered(Mine(), "mine"):
        assert read_file(FileTexts({"mine": "a fox"})).program == "Mine"
        assert "KeyError" in HOOKS.problems["failing", "readers"]
    assert "'failing'" in caplog.text


def client_of(app: FakeApp) -> TestClient:
    return TestClient(build_api(app), base_url="http://127.0.0.1:7860")  # type: ignore[arg-type]


def test_a_route_is_served(tmp_path: Path) -> None:
    with HOOKS.registered(Mine(), "mine"), client_of(FakeApp(tmp_path)) as client:
        assert client.get("/mine/hello").json() == {"hello": "house"}
        assert "/mine/hello" in client.get("/openapi.json").json()["paths"]
    with client_of(FakeApp(tmp_path / "after")) as client:
        assert client.get("/mine/hello").status_code == 404


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the page with each plugin is made of, and without any ("after"); in another process, as Gradio leaves event loops
    open, and all in one, which has Gradio to import."""
    script = f"from tests.test_hooks import show; show({str(tmp_path_factory.mktemp('pages'))!r})"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return said


def show(folder: str) -> None:
    made = {"Mine": Mine(), "Fails": Mine(tab_fails=True), "Raising": Raising(), "Takes": Takes()}
    said = {}
    for name, plugin in made.items():
        with HOOKS.registered(plugin, "mine"):
            said[name] = {**shown(Path(folder, name)), "connected": getattr(getattr(plugin, "tab", None), "connected", False)}
    print(json.dumps({**said, "after": shown(Path(folder, "after"))}))


def shown(folder: Path) -> dict[str, Any]:
    from modules.server import build_server

    server = build_server(FakeApp(folder))  # type: ignore[arg-type]
    with TestClient(server, base_url="http://127.0.0.1:7860") as client:
        problems = {hook: text for (owner, hook), text in HOOKS.problems.items()}
        return {"config": client.get("/config").json(), "page": client.get("/").text, "problems": problems}


def test_a_tab_stands_in_the_page(pages: dict[str, dict[str, Any]]) -> None:
    said = pages["Mine"]
    components = {one["props"].get("elem_id"): one["props"] for one in said["config"]["components"]}
    assert components["mine_text"]["value"] == "hello from an extension"
    bar = components["tab_bar"]["value"]
    assert bar.index('href="#txt2img"') < bar.index('href="#pnginfo"') < bar.index('href="#mine"')
    assert "My &lt;tab&gt;" in bar
    assert "[data-tab=mine]" in said["page"]
    assert said["connected"]
    assert said["problems"] == {}
    assert "mine_text" not in json.dumps(pages["after"]["config"])
    assert pages["after"]["problems"] == {}


def test_a_tab_that_fails_leaves_the_page_standing(pages: dict[str, dict[str, Any]]) -> None:
    said = pages["Fails"]
    page = json.dumps(said["config"])
    assert "could not be built" in page
    assert "txt2img_prompt" in page
    assert "no components today" in said["problems"]["tabs"]


class Raising:
    @hookimpl
    def samplers(self) -> list[Sampler]:
        raise OSError("the disk is gone")

    @hookimpl
    def routes(self) -> list[APIRouter]:
        raise OSError("the disk is gone")

    @hookimpl
    def tabs(self) -> Iterable[Any]:
        raise OSError("the disk is gone")


def test_a_plugin_that_raises_is_reported_and_leaves_the_others_standing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pages: dict[str, dict[str, Any]]
) -> None:
    caplog.set_level(logging.ERROR)
    with HOOKS.registered(Raising(), "raising"), HOOKS.registered(Mine(), "mine"):
        assert "Zig zag" in SAMPLERS
        assert "Euler" in SAMPLERS
        with client_of(FakeApp(tmp_path)) as client:
            assert client.get("/mine/hello").status_code == 200
            assert client.get("/health").status_code == 200
        assert {hook for owner, hook in HOOKS.problems if owner == "raising"} == {"samplers", "routes"}
    assert "the disk is gone" in caplog.text
    said = pages["Raising"]
    assert "the disk is gone" in said["problems"]["tabs"]
    assert "txt2img_prompt" in json.dumps(said["config"])


class Second:
    def __init__(self, *names: str) -> None:
        self.names = names

    @hookimpl
    def samplers(self) -> list[Sampler]:
        return [Sampler(self.names[0], euler, self.names[1:])]


@pytest.mark.parametrize("names", [("Euler",), ("eULER",), ("Other", "k_euler_a")])
def test_a_name_that_is_taken_is_refused_with_both_owners(names: tuple[str, ...]) -> None:
    with pytest.raises(PluginError) as caught:
        HOOKS.register(Second(*names), "second")
    assert "'second'" in str(caught.value)
    assert "'atelier.samplers'" in str(caught.value)
    with HOOKS.registered(Mine(), "mine"), pytest.raises(PluginError, match="'mine'"):
        HOOKS.register(Second("zig_zag"), "second")


class Takes:
    @hookimpl
    def routes(self) -> list[APIRouter]:
        router = APIRouter()
        router.add_api_route("/health", lambda: "mine now", methods=["GET"])
        return [router]

    @hookimpl
    def tabs(self) -> list[Any]:
        tab = MyTab()
        tab.name = "txt2img"
        return [tab]


def test_a_route_or_tab_that_is_taken_stays_the_first_ones(tmp_path: Path, pages: dict[str, dict[str, Any]]) -> None:
    with HOOKS.registered(Takes(), "thief"), client_of(FakeApp(tmp_path)) as client:
        assert client.get("/health").json() != "mine now"
        assert "'thief' is refused: 'atelier.routes' has one" in HOOKS.problems["thief", "routes"]
    said = pages["Takes"]
    assert "mine_text" not in json.dumps(said["config"])
    assert "'mine' is refused: 'atelier.tabs' has one" in said["problems"]["tabs"]


class Misspelt:
    @hookimpl
    def sampelrs(self) -> list[Sampler]:
        return []


class Wraps:
    @hookimpl(wrapper=True)
    def samplers(self) -> Any:
        return (yield)


class AsksTooMuch:
    @hookimpl
    def tabs(self, secrets: Any) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("plugin", "says"), [(Misspelt(), "sampelrs"), (Wraps(), "wraps the hook samplers"), (AsksTooMuch(), "secrets")]
)
def test_a_plugin_that_fits_no_hook_is_refused_whole(plugin: object, says: str) -> None:
    with pytest.raises(PluginError, match=says):
        HOOKS.register(plugin, "wrong")
    with HOOKS.registered(Mine(), "wrong"):  # the name is free again
        pass


def test_a_plugin_is_registered_once() -> None:
    with HOOKS.registered(Mine(), "mine"), pytest.raises(PluginError, match="'mine' cannot be registered"):
        HOOKS.register(Mine(), "mine")


def test_what_is_built_in_stands_first_whenever_it_comes() -> None:
    registry = Registry(Shared, Web, Engine)
    table: Table[Sampler] = Table(registry, "samplers", "sampler", lambda sampler: (sampler.name, *sampler.aliases))
    registry.register(Second("B"), "extension")
    registry.register(Second("A"), "built in", built_in=True)
    assert list(table) == ["A", "B"]
    registry.register(Second("b"), "late", built_in=True)
    assert list(table) == ["A", "b"]
    assert "'late' has one" in registry.problems["extension", "samplers"]
    registry.unregister("late")
    assert (list(table), registry.problems) == (["A", "B"], {})


class ReadsItsOwn:
    @hookimpl
    def samplers(self) -> list[Sampler]:
        return [Sampler(f"{name} twice", sampler.solve, ()) for name, sampler in SAMPLERS.items()]


def test_a_plugin_that_reads_what_it_adds_to_is_told_so() -> None:
    with HOOKS.registered(ReadsItsOwn(), "mirror"), HOOKS.registered(Mine(), "mine"):
        assert ("Euler" in SAMPLERS, "Zig zag" in SAMPLERS, "Euler twice" in SAMPLERS) == (True, True, False)
        assert (
            "the entries of the hook samplers were read by an implementation of samplers"
            in HOOKS.problems["mirror", "samplers"]
        )


class ReadsOthers:
    """Reads another hook's entries inside of its own, and brings a plugin along."""

    def __init__(self) -> None:
        self.registered = False

    @hookimpl
    def schedules(self) -> list[Schedule]:
        if not self.registered:
            self.registered = True
            HOOKS.register(Mine(), "brought")
        return [Schedule(name.lower().replace(" ", ""), f"of {name}", zigzag) for name in SAMPLERS if name == "Zig zag"]


def test_a_plugin_may_read_other_entries_and_register_others() -> None:
    with HOOKS.registered(ReadsOthers(), "first"):
        assert find_schedule("of Zig zag").name == "zigzag"
        assert find_schedule("Zig").label == "Zig"
        HOOKS.unregister("brought")


class Slow:
    def __init__(self) -> None:
        self.asked, self.answer, self.waits = threading.Event(), threading.Event(), True

    @hookimpl
    def samplers(self) -> list[Sampler]:
        if self.waits and threading.current_thread() is not threading.main_thread():
            self.asked.set()
            assert self.answer.wait(30), "the other thread waits for this one"
        return [Sampler("Slow", euler, ())]


def test_another_thread_registers_while_a_plugin_is_asked() -> None:
    """A plugin may import a room whose own import waits in another thread; what it answers too late is asked for again."""
    registry = Registry(Shared, Web, Engine)
    table: Table[Sampler] = Table(registry, "samplers", "sampler", lambda sampler: (sampler.name, *sampler.aliases))
    slow = Slow()
    registry.register(slow, "slow")
    registry.register(Second("A"), "a")
    registry.unregister("a")
    seen: list[list[str]] = []
    reading = threading.Thread(target=lambda: seen.append(list(table)))
    reading.start()
    assert slow.asked.wait(30)
    registry.register(Second("B"), "b")
    slow.waits = False
    slow.answer.set()
    reading.join(30)
    assert seen == [["Slow"]]
    assert list(table) == ["Slow", "B"]


def test_many_threads_register_and_read() -> None:
    registry = Registry(Shared, Web, Engine)
    table: Table[Sampler] = Table(registry, "samplers", "sampler", lambda sampler: (sampler.name, *sampler.aliases))
    for number in range(1000):  # so much that another thread comes in between
        registry.report(f"broken {number}", "samplers", "it fails")
    failed: list[BaseException] = []
    begin = threading.Barrier(6)

    def come_and_go(number: int) -> None:
        try:
            begin.wait(30)
            for turn in range(60):
                with registry.registered(Second(f"{number}"), f"plugin {number}"):
                    assert f"{number}" in list(table), turn
                registry.report(f"plugin {number}", f"samplers {turn}", "it failed")
                assert f"{number}" not in list(table), turn
                assert len(registry.problems) >= 1000
        except BaseException as error:
            failed.append(error)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(usual)
    assert failed == []
    assert list(table) == []
    assert registry.revision == 6 * 60 * 2
