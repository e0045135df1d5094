"""The page's version, which its scripts and styles are served under."""

from __future__ import annotations

import importlib
import inspect
import time
from pathlib import Path
from typing import Any

import pytest

from modules.ui.files import STATIC, imported
from modules.ui.page import _version
from tests.ui.conftest import Visit


def test_the_version_changes_with_a_file_in_a_subfolder_and_with_its_place(tmp_path: Path) -> None:
    """Browsers keep each version for ever: an import that points at a file which has moved must never be an old one."""
    script = tmp_path / "results" / "jobs.js"
    script.parent.mkdir()
    script.write_text("1")
    first = _version(tmp_path)
    script.write_text("2")
    second = _version(tmp_path)
    (tmp_path / "forms").mkdir()
    script.rename(tmp_path / "forms" / "jobs.js")
    assert len({first, second, _version(tmp_path)}) == 3


def test_imports_are_followed_to_modules_that_exist_and_each_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "main.js").write_text('import { a } from "./deep/a.js";\nimport "./b.js";\n')
    (tmp_path / "deep" / "a.js").write_text('import {\n  b,\n} from "../b.js";\nexport * from "./c.js";\n')
    (tmp_path / "deep" / "c.js").write_text("const later = () => import('./later.js');\n")
    (tmp_path / "b.js").write_text('import { a } from "./deep/a.js";\n// import "./no.js"\nexport const text = "./x.js";\n')
    assert imported(tmp_path, "main.js") == ["main.js", "deep/a.js", "b.js", "deep/c.js"]


def test_no_script_of_ours_is_found_only_while_the_page_opens() -> None:
    """Each that a browser finds behind another's import costs a round trip more before the page answers."""
    ours = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js")}
    assert set(imported(STATIC, "main.js", "canvas/index.js")) == ours - {"mode.js", "where.js"}


@pytest.mark.browser
def test_no_visit_asks_for_a_signature_of_a_component_again(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio describes each component that changes by its constructor's: a fifth of a second of each opening."""
    visitor = visit()
    visitor.open()
    made: list[Any] = []
    make = inspect.Signature.from_callable.__func__  # type: ignore[attr-defined]

    def watched(kind: Any, function: Any, **options: Any) -> Any:
        if not hasattr(function, "__signature__") and getattr(function, "__name__", "") == "__init__":
            made.append(function)
        return make(kind, function, **options)

    monkeypatch.setattr(inspect.Signature, "from_callable", classmethod(watched))
    visitor.open()
    assert not made


@pytest.mark.browser
def test_an_idle_server_sleeps(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio's queue, which no event of ours uses, was looked into 886 times a second."""
    looks: list[float] = []
    queue = importlib.import_module("gradio.queueing").Queue  # after modules.ui.gradio, which sets Gradio up
    length = queue.__len__
    monkeypatch.setattr(queue, "__len__", lambda self: looks.append(time.monotonic()) or length(self))
    while not looks:
        time.sleep(0.01)
    del looks[:]
    time.sleep(1.5)
    assert 1 <= len(looks) <= 10
