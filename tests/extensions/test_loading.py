"""Loading halves: what becomes of modules, of what they change, and of torch in the web process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modules.diffusion.samplers import SAMPLERS
from modules.errors import ExtensionError
from modules.extensions import loading
from modules.extensions.loading import HungWhileLoading, hooks_of, load, unload
from modules.extensions.manifest import Half, read_manifest
from modules.hooks import HOOKS
from modules.settings import ROOT
from tests.extensions.writing import EMPTY, SAMPLER, write_extension


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    samplers, path, finders = list(SAMPLERS), list(sys.path), list(sys.meta_path)
    yield
    assert list(SAMPLERS) == samplers
    assert sys.path == path
    assert [finder for finder in sys.meta_path if finder is not loading._BLOCKER] == [
        finder for finder in finders if finder is not loading._BLOCKER
    ]
    assert not [name for name in sys.modules if name.startswith("atelier_extensions.")]


def loaded(folder: Path, half: Half = "web", seconds: float = 60.0) -> tuple[str, ...]:
    return load(read_manifest(folder), folder, half, seconds)


def test_a_half_is_there_until_it_is_unloaded_and_is_read_anew(tmp_path: Path) -> None:
    folder = write_extension(tmp_path, "zig", "from .helping import NAME\n" + SAMPLER.replace('"{0}"', "NAME"))
    (folder / "helping.py").write_text('NAME = "Zig zag"')
    assert loaded(folder) == ("samplers",)
    assert "Zig zag" in SAMPLERS
    assert hooks_of("zig", "web") == ("samplers",)
    assert unload("zig", "web")
    assert not unload("zig", "web")
    assert "Zig zag" not in SAMPLERS
    (folder / "helping.py").write_text('NAME = "Another name"')
    loaded(folder)
    assert "Another name" in SAMPLERS
    unload("zig", "web")


def test_both_halves_in_one_process_share_what_both_add(tmp_path: Path) -> None:
    folder = write_extension(tmp_path, "zig", SAMPLER.format("Zig zag"), SAMPLER.format("Zig zag"))
    loaded(folder, "web")
    loaded(folder, "engine")
    assert [one.owner for one in SAMPLERS.entries.owned() if one.entry.name == "Zig zag"] == ["zig"]
    unload("zig", "web")
    assert "Zig zag" in SAMPLERS, "the engine half has it still"
    unload("zig", "engine")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError"),
        ("import sys\nsys.exit(7)", "SystemExit: 7"),
        ("plugin = 5", "has no class Plugin"),
        ("class Plugin:\n    def __init__(self):\n        raise KeyError('light')", "KeyError: 'light'"),
        ("class Plugin:\n    def __init__(self, app):\n        pass", "TypeError"),
        ("class Plugin:\n    def __getattribute__(self, name):\n        raise OSError('hidden')", "OSError: hidden"),
        ("import no_such_package_here", "No module named 'no_such_package_here'"),
        (SAMPLER.format("Euler"), "'atelier.samplers' has one of that name"),
        (SAMPLER.format("Zig zag").replace("def samplers", "def sampelrs"), "sampelrs"),
    ],
)
def test_one_that_cannot_be_loaded_says_why_and_leaves_nothing(tmp_path: Path, source: str, says: str) -> None:
    folder = write_extension(tmp_path, "broken", source)
    with pytest.raises(ExtensionError) as caught:
        loaded(folder)
    assert says in str(caught.value)
    assert not HOOKS.has("broken")
    (folder / "web.py").write_text(SAMPLER.format("Zig zag") + "# of another size, for Python's own cache\n")
    loaded(folder)  # mended, it is loaded
    unload("broken", "web")


CHANGES = """
import os, sys
sys.path.insert(0, "/hostile")
sys.path = ["/all", "of", "it"]
sys.meta_path.clear()
sys.path_hooks.append(len)
os.chdir("/")

class Plugin:
    def __init__(self):
        sys.path.append("/later")
"""


def test_what_it_changes_of_how_modules_are_found_is_undone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, hooks, here = sys.path, list(sys.path_hooks), Path.cwd()
    loaded(write_extension(tmp_path, "changes", CHANGES))
    assert sys.path is path
    assert (sys.path_hooks, Path.cwd()) == (hooks, here)
    assert {record.name for record in caplog.records} == {"atelier.extension.changes"}
    assert "it changed sys.path; that was undone" in caplog.text
    unload("changes", "web")


def test_one_that_hangs_is_given_up_and_never_registered(tmp_path: Path) -> None:
    source = f"import sys\nsys.atelier_test.wait(120)\n{EMPTY}"
    going_on = threading.Event()
    sys.atelier_test = going_on  # type: ignore[attr-defined]
    folder = write_extension(tmp_path, "hangs", source)
    with pytest.raises(HungWhileLoading, match="its web half did not finish loading in 0 seconds"):
        loaded(folder, seconds=0.2)
    going_on.set()
    for thread in threading.enumerate():
        if thread.name == "extension":
            thread.join(60)
    assert not HOOKS.has("hangs")
    del sys.atelier_test  # type: ignore[attr-defined]
    loading.forget("hangs", "web")


TORCH_LATER = """
from modules.hooks import hookimpl

class Plugin:
    @hookimpl
    def samplers(self):
        import torch
        return []
"""


def test_torch_does_not_come_into_the_web_process(tmp_path: Path) -> None:
    """In a process without it: at once, in a hook, through a helper, and where the error is swallowed."""
    write_extension(tmp_path, "at_once", "import torch\n" + EMPTY)
    write_extension(tmp_path, "in_part", "from transformers import CLIPTokenizer\n" + EMPTY)
    write_extension(tmp_path, "later", TORCH_LATER)
    write_extension(tmp_path, "swallows", "try:\n    import torch\nexcept ImportError:\n    torch = None\n" + EMPTY)
    write_extension(tmp_path, "engine_too", "", "import json\n" + EMPTY)
    script = f"""
import json, sys
from pathlib import Path
from modules.extensions.service import Extensions
from modules.diffusion.samplers import SAMPLERS
extensions = Extensions([Path({str(tmp_path)!r})], Path({str(tmp_path / "data")!r}), packages=False)
extensions.start()
samplers = len(list(SAMPLERS))
views = {{view.name: (view.state, view.reason) for view in extensions.list()}}
problems = list(extensions.notices)
extensions.close()
print(json.dumps([views, samplers, "torch" in sys.modules, "transformers" in sys.modules, problems]))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    views, samplers, torch, transformers, problems = json.loads(done.stdout.splitlines()[-1])
    assert (torch, transformers) == (False, False)
    assert views["at_once"][0] == views["in_part"][0] == "failed"
    assert "its web half imports torch, which the web process never does" in views["at_once"][1]
    assert "its web half imports transformers" in views["in_part"][1]
    assert views["swallows"] == ["on", ""]
    assert views["engine_too"][0] == "on"
    assert "ImportError: its web half imports torch" in views["later"][1]
    assert samplers == len(list(SAMPLERS))
    assert any("The extension at_once is not in use" in text for text in problems)
