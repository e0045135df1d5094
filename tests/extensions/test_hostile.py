"""Hostile extensions change nothing for the others and for what is built in: in the web process, and in a real engine."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modules.app import App
from modules.diffusion.samplers import SAMPLERS
from modules.engine.link import ProcessLink
from modules.extensions.hookspecs_web import Shared, Web
from modules.hooks import HOOKS
from modules.jobs.worker import engine_configuration
from modules.settings import ROOT, Settings
from tests.extensions.writing import EMPTY, SAMPLER, write_extension

PATIENCE = 240
"""Seconds after which a test gives up; nothing is measured."""


def hooks_of(*specifications: type) -> list[str]:
    return [name for each in specifications for name in vars(each) if not name.startswith("_")]


def raising(*specifications: type) -> str:
    """A half that raises in every hook that there is, and prints and logs without end."""
    body = "    @hookimpl\n    def {0}(self):\n        shout()\n        raise ERRORS[{1} % 3]('{0} is broken')\n"
    hooks = "".join(body.format(name, number) for number, name in enumerate(hooks_of(*specifications)))
    return f"""
import logging, warnings
from modules.hooks import hookimpl

class Odd(Exception):
    def __str__(self):
        raise ValueError("no text either")

ERRORS = [RuntimeError, SystemExit, Odd]

def shout():
    for number in range(2000):
        print("flood", number)
        logging.getLogger(__name__).warning("flood %s %s", number)  # too few arguments
    warnings.warn("flood")

class Plugin:
{hooks}"""


HOSTILE_WEB = {
    "raises": raising(Shared, Web),
    "torch": "import torch\n" + EMPTY,
    "paths": "import sys, os\nsys.path[:] = ['/hostile']\nsys.meta_path.clear()\nos.chdir('/')\n" + EMPTY,
    "takes": SAMPLER.format("Euler"),
    "exits": "import sys\nsys.exit('goodbye')",
}


def what_is_there(folder: Path) -> dict[str, Any]:
    """What routes, page and look-ups of a new server have."""
    from starlette.testclient import TestClient

    from modules.images.readers import READERS, FileTexts
    from modules.images.reading import _foreign
    from modules.server import build_server
    from tests.ui.fake_app import FakeApp

    server = build_server(FakeApp(folder))  # type: ignore[arg-type]
    with TestClient(server, base_url="http://127.0.0.1:7860") as client:
        names = [str(one["props"].get("elem_id")) for one in client.get("/config").json()["components"]]
        return {
            "samplers": list(SAMPLERS),
            "readers": [reader.name for reader in READERS],
            "routes": sorted({getattr(route, "path", "") for route in server.routes}),
            "health": client.get("/health").status_code,
            "tabs": [name for name in names if "_panel" in name],
            "read": _foreign(FileTexts({"parameters": "a fox\nSteps: 5, Sampler: Euler, Seed: 3"})).fields["seed"],
        }


def web_process(place: Path) -> None:
    """Print what a web process has without and with the extensions in `place`/ext; run in a process of its own."""
    from modules.extensions import lines
    from modules.extensions.service import Extensions

    without = what_is_there(place / "without")
    seen: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    logging.getLogger().addHandler(Handler())
    end, path = lines.install(), list(sys.path)
    extensions = Extensions([place / "ext"], place / "data", packages=False)
    extensions.start()
    hostile = what_is_there(place / "with")
    end()
    said = {
        "without": without,
        "with": hostile,
        "heavy": [name for name in ("torch", "transformers") if name in sys.modules],
        "kept": (sys.path == path, os.getcwd()),
        "states": {view.name: (view.state, view.reason) for view in extensions.list()},
        "lines": len([line for line in seen if line.startswith("extension raises: ")]),
        "notices": len(extensions.notices),
    }
    print(json.dumps(said))


def test_the_web_process_is_the_same_with_all_of_them(tmp_path: Path) -> None:
    for name, source in HOSTILE_WEB.items():
        write_extension(tmp_path / "ext", name, source)
    write_extension(tmp_path / "ext", "zag", SAMPLER.format("Zig zag"))
    script = (
        f"from pathlib import Path; from tests.extensions.test_hostile import web_process; web_process(Path({str(tmp_path)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    said = json.loads(done.stdout.splitlines()[-1])
    without, hostile = said["without"], said["with"]
    assert hostile.pop("samplers") == [*without.pop("samplers"), "Zig zag"], "a good one works beside them"
    assert hostile == without
    assert (said["heavy"], said["kept"]) == ([], [True, str(ROOT)])
    states = {name: state for name, (state, _) in said["states"].items()}
    assert states == {"raises": "failed", "torch": "failed", "paths": "on", "takes": "failed", "exits": "failed", "zag": "on"}
    assert "disabled after 3 failures" in said["states"]["raises"][1]
    assert "'atelier.samplers' has one of that name" in said["states"]["takes"][1]
    assert 0 < said["lines"] <= 200
    assert said["notices"] == 4


# ---- a real engine

KILLS = """
import os, pathlib, signal, time
from modules.hooks import hookimpl
from modules.pipelines.wrappers import Wrapper

COUNT = pathlib.Path(__file__).with_name("calls.txt")

def wrap(denoise, run):
    def hostile(x, sigma):
        calls = COUNT.read_text() if COUNT.exists() else ""
        COUNT.write_text(calls + "x")
        if not calls:
            time.sleep(10000)
        os.kill(os.getpid(), signal.SIGKILL)
        yield
    return hostile

class Plugin:
    @hookimpl
    def denoiser_wrappers(self):
        return [Wrapper("hostile", wrap)]
"""
"""Hangs at its first call and kills the engine at the second."""

BREAKS = 'raise RuntimeError("no steps today")'
RAISES = f"""
from modules.hooks import hookimpl
from modules.pipelines.wrappers import Wrapper

def wrap(denoise, run):
    def hostile(x, sigma):
        print("flood " * 10000)
        {BREAKS}
        yield
    return hostile

class Plugin:
    @hookimpl
    def denoiser_wrappers(self):
        return [Wrapper("raising", wrap)]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    from tests.tiny import tiny_checkpoint  # only here: it imports torch

    (tmp_path / "models").mkdir()
    tiny_checkpoint(tmp_path / "models" / "tiny.safetensors")
    folders = {"data_dir": tmp_path / "data", "outputs_dir": tmp_path / "out", "extensions_dir": tmp_path / "ext"}
    return Settings(**folders, models_dirs=(tmp_path / "models",), device="cpu")  # type: ignore[arg-type]


@pytest.fixture
def app(settings: Settings) -> Iterator[Callable[..., App]]:
    """An App with a real engine."""
    running: list[App] = []

    def start(**configured: Any) -> App:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        configuration = {**engine_configuration(settings), "probe": False, **configured}
        link = ProcessLink(configuration, settings.data_dir / "engine.log")
        app = App(replace(settings), link)
        app.start()
        running.append(app)
        return app

    yield start
    for each in running:
        each.close()


def wait(app: App, ready: Callable[[], bool]) -> None:
    """Until `ready`, which is asked whenever something changed."""
    changed = threading.Event()
    end = app.listen(changed.set)
    try:
        while not ready():
            assert changed.wait(PATIENCE), app.engine()
            changed.clear()
    finally:
        end()


def painted(app: App, seed: int) -> Any:
    """The job of a small picture, when it is over."""
    asked = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64, "sampler": "Euler", "seed": seed}
    job = app.submit(asked, "me").id
    wait(app, lambda: (view := app.job(job, "me")) is not None and view.over)
    app.service.settle(PATIENCE)
    return app.job(job, "me")


@pytest.mark.skipif(os.name == "nt", reason="kills as Unix does")
def test_one_that_hangs_and_kills_the_engine_is_suspended_and_the_job_is_kept(
    app: Callable[..., App], settings: Settings
) -> None:
    write_extension(settings.extensions_dir, "kills", engine=KILLS)
    write_extension(settings.extensions_dir, "zag", SAMPLER.format("Zig zag"), SAMPLER.format("Zig zag"))
    running = app(extension_seconds=2.0, beat=0.5)
    view = painted(running, 7)
    assert (view.state, view.done, view.error) == ("done", 1, "")
    assert (settings.extensions_dir / "kills" / "calls.txt").read_text() == "xx", "it was tried twice, and not again"
    states = {each.name: each.state for each in running.extensions.list()}
    assert (states["kills"], states["zag"]) == ("suspended", "on")
    assert "The extension kills was suspended" in " ".join(running.extensions.notices)
    assert "the extension kills did not come back in 2 seconds" in (settings.data_dir / "engine.log").read_text()
    assert "Zig zag" in SAMPLERS
    assert not HOOKS.has("kills")


def test_one_that_raises_is_named_in_the_picture_and_disabled_and_comes_back_with_an_engine(
    app: Callable[..., App], settings: Settings
) -> None:
    write_extension(settings.extensions_dir, "raises", engine=RAISES)
    running = app()
    pictures = [painted(running, seed) for seed in (7, 8, 9, 10)]
    assert [view.state for view in pictures] == ["done"] * 4
    said = "the extension raises failed in denoiser_wrappers: RuntimeError: no steps today; the picture was made without it"
    notes = [said in str(read(running, view)) for view in pictures]
    assert notes == [True, True, True, False], "three failures, and then it is not asked any more"
    found = running.extensions.find("raises")
    assert (found.state, found.hooks) == ("failed", ())
    log = (settings.data_dir / "engine.log").read_text()
    assert "extension raises: flood flood" in log
    assert log.count("flood") < 200 * 400

    pid = running.link.pid  # type: ignore[attr-defined]
    mended = RAISES.replace(BREAKS, "return (yield from denoise(x, sigma))")
    (settings.extensions_dir / "raises" / "engine.py").write_text(mended)
    running.extensions.enable("raises")
    wait(running, lambda: running.engine().state == "ready" and running.link.pid not in (None, pid))  # type: ignore[attr-defined]
    view = painted(running, 10)
    assert view.state == "done"
    assert running.extensions.find("raises").hooks == ("denoiser_wrappers",)
    first, second = (picture.path.read_bytes() for picture in (pictures[3].pictures[0], view.pictures[0]))
    assert first != b""
    assert second != b""


def read(app: App, view: Any) -> Any:
    """What the record of a picture says."""
    with Image.open(view.pictures[0].path) as image:
        image.load()
        return image.info
