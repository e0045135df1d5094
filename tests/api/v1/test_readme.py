"""What the README shows of the API works when it is copied: the Python program and every curl line, before a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from modules.app import App
from modules.jobs.worker import engine_configuration
from modules.settings import Settings
from tests.api.a1111.conftest import served
from tests.local import LocalLink
from tests.tiny import tiny_checkpoint

README = Path(__file__).resolve().parents[3] / "README.md"
SHOWN = "127.0.0.1:7860"


def block(language: str) -> str:
    """The block of code of this language in the section about programs."""
    section = README.read_text("utf-8").split("## From a program\n")[1].split("\n## ")[0]
    [found] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert SHOWN in found
    return str(found)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("readme")
    (folder / "models").mkdir()
    tiny_checkpoint(folder / "models" / "tiny.safetensors")
    settings = Settings(data_dir=folder / "data", models_dirs=(folder / "models",), outputs_dir=folder / "out")
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    with served(app) as address:
        yield address
    app.close()


def test_the_program(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python").replace(SHOWN, address), str(README), "exec"), {})
    with Image.open(tmp_path / "apple.png") as image:
        assert image.size == (64, 64), "the checkpoint's own size"
        assert image.info["parameters"].splitlines() == capsys.readouterr().out.splitlines()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_the_curl_lines(address: str, tmp_path: Path) -> None:
    job = "ID"
    answers = []
    for line in block("sh").splitlines():
        command = line.replace(SHOWN, address).replace("/ID/", f"/{job}/")
        said = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True).stdout
        answers.append(said)
        if "/api/v1/jobs " in line:
            job = json.loads(said)["id"]
    assert '"state": "done"' in answers[1]
    with Image.open(tmp_path / "apple.png") as image:
        assert image.size == (64, 64)
    assert (json.loads(answers[3])["width"], len(json.loads(answers[3])["id"])) == (64, 64)
