"""What was measured of attention outlives the process: kept by device and versions, bounded, and never in the way."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import pytest
import torch

from modules.diffusion.attention.measured import Ranking, Shape
from modules.engine import attention_file, setup
from modules.engine.attention_file import AttentionFile, driver_version, fingerprint

SHAPE = Shape(2, 4096, 77, 8, 40, "float16")
RANKING: Ranking = (("cudnn", 0.03125), ("flash", 0.04))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "attention.json"


def test_what_was_measured_is_there_the_next_time(path: Path) -> None:
    AttentionFile(path, "card A").add(SHAPE, RANKING)
    AttentionFile(path, "card A").add(SHAPE._replace(batch=4), RANKING[:1])
    assert AttentionFile(path, "card A").load() == {SHAPE: RANKING, SHAPE._replace(batch=4): RANKING[:1]}
    assert AttentionFile(path, "card B").load() == {}, "another card, or other versions"
    assert sorted(each.name for each in path.parent.iterdir()) == ["attention.json", "attention.json.lock"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"card A": 3}', "[" * 100_000, "\x00\xff"])
def test_a_damaged_file_is_ignored_and_replaced(path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_text(content)
    assert AttentionFile(path, "card A").load() == {}
    assert "is ignored: attention is measured again" in caplog.text
    AttentionFile(path, "card A").add(SHAPE, RANKING)
    assert AttentionFile(path, "card A").load() == {SHAPE: RANKING}


def test_a_damaged_entry_leaves_the_others(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    AttentionFile(path, "card A").add(SHAPE, RANKING)
    content = json.loads(path.read_text())
    good = [["flash", 1.0]]
    content["card A"] |= {
        "nonsense": good,
        "0x1x1 1x8 float16": good,
        "1x1x1 1x8 float16": [["flash"]],
        "2x1x1 1x8 f": [[1, 2]],
    }
    content["card A"]["3x1x1 1x8 float16"] = "flash"
    content["card A"]["4x1x1 1x8 float16"] = []
    path.write_text(json.dumps(content))
    assert AttentionFile(path, "card A").load() == {SHAPE: RANKING}
    assert "6 entries cannot be read and are ignored" in caplog.text


def test_the_file_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_file, "MAX_SHAPES", 3)
    monkeypatch.setattr(attention_file, "MAX_DEVICES", 2)
    for card in ("A", "B", "C"):
        for batch in range(1, 6):
            AttentionFile(path, card).add(SHAPE._replace(batch=batch), RANKING)
    content = json.loads(path.read_text())
    assert list(content) == ["B", "C"]
    assert [shape.batch for shape in AttentionFile(path, "C").load()] == [3, 4, 5]


def test_two_workers_lose_nothing_of_each_other(path: Path) -> None:
    def measure(first: int) -> None:
        for batch in range(first, 40, 2):
            AttentionFile(path, "card A").add(SHAPE._replace(batch=batch), RANKING)

    workers = [threading.Thread(target=measure, args=(first,)) for first in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {shape.batch for shape in AttentionFile(path, "card A").load()} == set(range(1, 40))


def test_a_folder_that_cannot_be_written_costs_no_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    AttentionFile(tmp_path / "file" / "attention.json", "card A").add(SHAPE, RANKING)
    assert "a choice of attention is not remembered" in caplog.text


def test_a_device_is_named_with_all_that_brings_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    monkeypatch.setattr(attention_file, "driver_version", lambda: "580.1")
    monkeypatch.setattr(attention_file.importlib.metadata, "version", lambda name: "0.0.35")
    assert fingerprint(torch.device("cuda", 0)) == (
        f"Card, driver 580.1, torch {torch.__version__}, cuDNN 91900, xformers 0.0.35"
    )


def test_a_machine_without_the_driver_s_library_has_no_driver_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(attention_file.ctypes, "CDLL", missing)
    assert driver_version() == "unknown"


def test_the_choice_on_a_gpu_says_what_is_known_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(setup, "fingerprint", lambda device: "card A")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(setup, "free_memory", lambda device: 8 * 10**9)  # of a card that is not here
    monkeypatch.setattr(setup, "_choose_device", lambda *asked: (torch.device("cuda", 0), "asked for"))
    monkeypatch.setattr("modules.diffusion.attention.choice.xformers_missing", lambda device: "xformers is not installed")
    AttentionFile(path, "card A").add(SHAPE, RANKING)
    choices = setup.choose("cuda", "auto", "auto", "none", cache_dir=path.parent)
    said = setup.hello(choices).data["attention"]
    assert said.startswith("measured (for each shape the fastest of cudnn, flash, efficient, math, measured on this device")
    assert said.endswith("xformers is not installed; 1 shape measured before))")
    assert setup.choose("cuda", "auto", "auto", "none").attention.reason.endswith("0 shapes measured before)")
