"""Extensions in a process: states and reasons, switching, failures that disable, engines that are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modules.diffusion.samplers import SAMPLERS
from modules.errors import ExtensionError
from modules.extensions.isolation import call
from modules.extensions.service import Extensions
from modules.hooks import HOOKS
from tests.extensions.writing import EMPTY, SAMPLER, write_extension

ROUTES = """
from fastapi import APIRouter
from modules.hooks import hookimpl

class Plugin:
    @hookimpl
    def routes(self):
        return [APIRouter()]
"""


class Engines:
    """What the engines were asked for."""

    def __init__(self) -> None:
        self.restarts: list[str] = []
        self.dropped: list[str] = []

    def restart_engines(self, why: str) -> None:
        self.restarts.append(why)

    def drop_extension(self, name: str) -> None:
        self.dropped.append(name)


Make = Callable[..., Extensions]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Extensions in the folder `ext`, started, with engines."""
    running: list[Extensions] = []

    def make(off: str = "", trusting: bool = True) -> Extensions:
        while running:
            running.pop().close()
        extensions = Extensions([tmp_path / "ext"], tmp_path / "data", off, trusting, packages=False, load_seconds=30)
        extensions.engines = Engines()
        extensions.start()
        running.append(extensions)
        return extensions

    samplers = list(SAMPLERS)
    yield make
    for extensions in running:
        extensions.close()
    assert list(SAMPLERS) == samplers


def engines(extensions: Extensions) -> Engines:
    assert isinstance(extensions.engines, Engines)
    return extensions.engines


def states(extensions: Extensions) -> dict[str, str]:
    return {view.name: view.state for view in extensions.list()}


def fails(name: str, times: int = 1) -> None:
    def bad() -> None:
        raise ValueError("no light")

    for _ in range(times):
        call(name, "image_hooks", bad, lambda: None)


def test_what_is_in_the_folder_is_on_and_in_use(make: Make, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "zig", SAMPLER.format("Zig zag"), title="Zig", description="Zags.", python=["pillow"])
    write_extension(tmp_path / "ext", "wrong", EMPTY, atelier=">=99")
    extensions = make()
    view = extensions.find("zig")
    assert (view.state, view.reason, view.title, view.version, view.description) == ("on", "", "Zig", "1.0.0", "Zags.")
    assert (view.halves, view.hooks, view.source, view.needs_restart) == (("web",), ("samplers",), "folder", False)
    assert view.needs[0].startswith("pillow: ")
    assert "Zig zag" in SAMPLERS
    assert states(extensions) == {"wrong": "refused", "zig": "on"}
    assert extensions.notices == ()
    with pytest.raises(ExtensionError, match="there is no extension 'zag' here; there are: wrong, zig"):
        extensions.find("zag")
    with pytest.raises(ExtensionError, match="wrong cannot be switched on: it is for Atelier >=99"):
        extensions.enable("wrong")


def test_switching_works_at_once_and_stays(make: Make, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "zig", SAMPLER.format("Zig zag"))
    extensions = make()
    assert extensions.disable("zig").state == "off"
    assert "Zig zag" not in SAMPLERS
    assert states(make()) == {"zig": "off"}
    extensions = make()
    view = extensions.enable("zig")
    assert (view.state, view.needs_restart, "Zig zag" in SAMPLERS) == ("on", False, True)
    assert engines(extensions).restarts == [], "it has no engine half"
    assert states(make()) == {"zig": "on"}


def test_where_others_can_come_in_nothing_is_on_by_itself(make: Make, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "zig", SAMPLER.format("Zig zag"))
    extensions = make(trusting=False)
    assert extensions.find("zig").reason == "it is new, and nobody has switched it on yet"
    assert "Zig zag" not in SAMPLERS
    assert extensions.enable("zig").state == "on"
    assert states(make(trusting=False)) == {"zig": "on"}


def test_without_extensions_none_is_loaded_and_nothing_is_forgotten(make: Make, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "zig", SAMPLER.format("Zig zag"), EMPTY)
    extensions = make("--safe-mode")
    assert (extensions.find("zig").state, extensions.find("zig").reason) == (
        "off",
        "extensions are off in this run (--safe-mode)",
    )
    assert extensions.in_engine() == ()
    with pytest.raises(ExtensionError, match="off in this run"):
        extensions.enable("zig")
    assert "Zig zag" not in SAMPLERS
    assert states(make()) == {"zig": "on"}


def test_engines_start_anew_when_an_engine_half_comes_or_goes(make: Make, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "glow", engine=EMPTY)
    extensions = make()
    assert [found.name for found in extensions.in_engine()] == ["glow"]
    extensions.disable("glow")
    assert extensions.in_engine() == ()
    extensions.enable("glow")
    assert engines(extensions).restarts == ["the extension glow was switched off", "the extension glow was switched on"]
    extensions.engine_loaded("glow", ["denoiser_wrappers"])
    assert extensions.find("glow").hooks == ("denoiser_wrappers",)


def test_routes_and_tabs_wait_for_the_next_start(make: Make, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "ways", ROUTES)
    extensions = make()
    assert not extensions.find("ways").needs_restart
    assert extensions.disable("ways").needs_restart
    assert not extensions.enable("ways").needs_restart
    extensions.disable("ways")
    extensions = make()
    assert not extensions.find("ways").needs_restart
    assert extensions.enable("ways").needs_restart


def test_the_third_failure_disables_it_over_restarts(make: Make, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "zig", SAMPLER.format("Zig zag"), EMPTY)
    extensions = make()
    fails("zig", 2)
    assert extensions.find("zig").state == "on"
    assert extensions.find("zig").reason == "it failed 2 times: image_hooks: ValueError: no light"
    assert extensions.notices == ("The extension zig failed in image_hooks: ValueError: no light.",)
    extensions = make()
    assert "Zig zag" in SAMPLERS
    fails("zig")
    assert "Zig zag" not in SAMPLERS
    assert not HOOKS.has("zig")
    view = extensions.find("zig")
    assert (view.state, view.reason) == ("failed", "disabled after 3 failures: image_hooks: ValueError: no light")
    assert engines(extensions).dropped == ["zig"]
    assert "was disabled after 3 failures" in extensions.notices[0]
    extensions = make()
    assert (states(extensions), extensions.in_engine()) == ({"zig": "failed"}, ())
    assert extensions.enable("zig").state == "on"
    fails("zig", 2)
    assert states(extensions) == {"zig": "on"}, "what it did before is forgotten"


def test_failures_of_the_engine_half_count_too_and_those_of_others_do_not(make: Make, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "glow", engine=EMPTY)
    extensions = make()
    fails("nobody", 5)
    for _ in range(3):
        extensions.engine_failed("glow", "denoiser_wrappers", "ValueError: no light")
    assert states(extensions) == {"glow": "failed"}
    assert engines(extensions).dropped == ["glow"]
    assert engines(extensions).restarts == [], "pictures that are being made go on"


def test_an_engine_that_dies_twice_suspends_what_was_in_use(make: Make, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "glow", engine=EMPTY)
    write_extension(tmp_path / "ext", "other", engine=EMPTY)
    extensions = make()
    assert extensions.engine_died(["glow", "gone"], "the engine was ended by SIGKILL") == ()
    extensions.did_well(["glow"])
    assert extensions.engine_died(["glow"], "the engine was ended by SIGKILL") == ()
    assert extensions.engine_died(["glow"], "the engine was ended by SIGKILL") == ("glow",)
    assert states(extensions) == {"glow": "suspended", "other": "on"}
    assert [found.name for found in extensions.in_engine()] == ["other"]
    assert "SIGKILL" in extensions.find("glow").reason
    assert states(make()) == {"glow": "suspended", "other": "on"}


def test_an_engine_half_that_cannot_be_loaded_is_said(make: Make, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "glow", engine=EMPTY)
    extensions = make()
    extensions.engine_refused("glow", "its engine half cannot be loaded: KeyError: 'a'", hung=False)
    assert extensions.find("glow").state == "failed"
    assert extensions.notices == ("The extension glow is not in use: its engine half cannot be loaded: KeyError: 'a'.",)
    extensions.engine_loaded("glow", [])
    assert extensions.find("glow").state == "on"
    for _ in range(2):
        extensions.engine_refused("glow", "its engine half did not finish loading in 60 seconds", hung=True)
    assert extensions.find("glow").state == "suspended"


def test_a_state_file_that_cannot_be_written_stops_nothing(make: Make, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "zig", SAMPLER.format("Zig zag"))
    (tmp_path / "data").write_text("no folder")
    make()
    fails("zig", 4)
    assert "Zig zag" in SAMPLERS, "its failures cannot be counted, and are caught all the same"
