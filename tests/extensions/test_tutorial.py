"""`extensions/README.md` followed word by word: its files are written, its commands run, its results compared."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from modules import cli
from modules.commands import extension
from modules.settings import ROOT, load

README = (ROOT / "extensions" / "README.md").read_text("utf-8")
STEPS = README.partition("## Step by step")[2].partition("\n## ")[0]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Follower:
    """Does what the tutorial says, with an extensions folder of its own in the place of the program's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, path: str) -> Path:
        assert path.startswith("extensions/")
        return self.folder / path

    def command(self, line: str) -> str:
        """What a command says."""
        words = shlex.split(line)
        if words[:2] == ["python3", "webui.py"]:
            return self.webui(words[2:])
        if words[0] == "ls":
            names = sorted(path.name for path in self.place(words[1]).iterdir() if not path.name.startswith("__"))
            return "".join(f"{name}\n" for name in names)
        assert words[:3] == [".venv/bin/python", "-m", "pytest"], line
        arguments = [str(self.place(word)) if word.startswith("extensions/") else word for word in words[3:]]
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                "--rootdir",
                str(ROOT),
                "-c",
                str(ROOT / "pyproject.toml"),
                *arguments,
            ],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr

    def webui(self, words: list[str]) -> str:
        said = io.StringIO()
        where = ["--extensions-dir", str(self.folder / "extensions"), "--data-dir", str(self.folder / "data")]
        options = cli.parse([*where, *words])
        with contextlib.redirect_stdout(said):
            assert extension.run(options.values, load(options.flags, environment={})) == 0
        return said.getvalue()


def blocks() -> list[tuple[str, str, str]]:
    """(language, text, the paragraph before) of each block."""
    found = []
    for fence in FENCE.finditer(STEPS):
        before = STEPS[: fence.start()].rstrip().rpartition("\n\n")[2]
        found.append((fence[1], fence[2], before))
    return found


def likeness(expected: str, said: str) -> bool:
    """As of a doctest: "..." is anything."""
    return doctest.OutputChecker().check_output(expected, said, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


def test_the_tutorial_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follower, kinds = Follower(tmp_path), []
    (tmp_path / "extensions").mkdir()
    for kind, text, before in blocks():
        kinds.append(kind)
        if kind == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                line, _, expected = part.partition("\n")
                said = follower.command(line)
                assert likeness(expected, said), f"$ {line}\n{said}"
        elif kind == "python":
            (target,) = re.findall(r"`(extensions/[\w/.]+)`", before)
            assert follower.place(target).is_file(), "it takes the place of the template's"
            follower.place(target).write_text(text, "utf-8")
        else:
            assert kind == "pycon"
            with monkeypatch.context() as here:
                here.chdir(tmp_path)
                runner = doctest.DocTestRunner(verbose=False)
                said_out = io.StringIO()
                runner.run(doctest.DocTestParser().get_doctest(text, {}, "README", None, None), out=said_out.write)
            assert runner.failures == 0, said_out.getvalue()
    assert kinds == ["console", "console", "python", "python", "pycon", "console", "console"]


CALLBACKS = """
    app_started before_reload model_loaded ui_tabs ui_train_tabs ui_settings before_image_saved image_saved extra_noise
    cfg_denoiser cfg_denoised cfg_after_cfg before_component after_component image_grid infotext_pasted script_unloaded
    before_ui list_optimizers list_unets before_token_counter
"""
"""`script_callbacks.on_*` of A1111 v1.10.1."""
METHODS = """
    title ui show run setup before_process process before_process_batch after_extra_networks_activate
    process_before_every_sampling process_batch postprocess_batch postprocess_batch_list on_mask_blend post_sample
    postprocess_image postprocess_maskoverlay postprocess_image_after_composite postprocess before_hr describe elem_id
"""
"""Of its `Script`."""


def test_every_callback_of_a1111_has_a_line() -> None:
    table = README.partition("## Coming from AUTOMATIC1111")[2].partition("\n## ")[0]
    first = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    named = {name.removeprefix("Script.") for name in re.findall(r"`([\w.]+)`", first)}
    assert {f"on_{name}" for name in CALLBACKS.split()} - named == set()
    assert set(METHODS.split()) - named == set()
