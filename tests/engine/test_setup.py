"""Which device and how many threads a worker has, alone and among several."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from modules.engine import setup
from modules.engine.setup import build_engine, choose, hello
from modules.errors import SettingsError


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {torch.device(device).index}")


@pytest.mark.usefixtures("two_devices")
def test_each_worker_has_a_cuda_device_of_its_own() -> None:
    alone = [setup._choose_device(asked, 0, 1) for asked in ("auto", "cuda", "cuda:1")]
    assert alone == [
        (torch.device("cuda", 0), "card 0"),
        (torch.device("cuda", 0), "asked for"),
        (torch.device("cuda", 1), "asked for"),
    ]
    for asked in ("auto", "cuda"):
        assert [setup._choose_device(asked, worker, 2)[0] for worker in (0, 1)] == [torch.device("cuda", n) for n in (0, 1)]
    with pytest.raises(SettingsError, match=r"^3 workers were asked for, but torch sees 2 CUDA devices; use --workers 2$"):
        setup._choose_device("auto", 2, 3)


def test_several_workers_on_one_card_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SettingsError, match=r"^2 workers were asked for, but torch sees 1 CUDA device; use one worker$"):
        setup._choose_device("cuda", 1, 2)


def test_workers_of_a_processor_divide_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert [setup._threads(workers) for workers in (1, 2, 3, 64)] == [8, 4, 2, 1]
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    assert [setup._threads(workers) for workers in (1, 2)] == [0, 3], "alone, torch's own choice is left"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert setup._threads(2) == 0, "the user's choice"


def test_an_engine_says_that_it_has_a_part_of_the_processor() -> None:
    choices = choose("cpu", "auto", "sdpa", "none", 1, 2)
    assert (hello(choices).data["share"], hello(choices, 2).data["share"]) == ("", "1/2")


def configuration(folder: Path, **changes: Any) -> dict[str, Any]:
    basics = {
        "models_dirs": [],
        "cache_dir": str(folder),
        "device": "cpu",
        "dtype": "float32",
        "attention": "sdpa",
        "exact": False,
    }
    return {**basics, **changes}


def test_openvino_is_refused_where_it_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"^accelerator openvino was asked for, but it runs on CPUs here"):
        setup.choose_accelerator("openvino", torch.device("cuda", 0))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        SettingsError, match=r"^accelerator openvino was asked for, but it is not installed; run .* -m pip install"
    ):
        choose("cpu", "float32", "sdpa", "openvino")


def test_exact_engines_refuse_what_takes_over_while_they_paint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "openvino_missing", lambda device: "")
    engine, choices = build_engine(configuration(tmp_path, accelerator="openvino"), lambda message: None)
    assert (choices.accelerator.name, engine.manager.builder._accelerate) == ("openvino", choices.accelerator.accelerate)
    with pytest.raises(SettingsError, match=r"^--exact was asked for with --accelerator openvino"):
        build_engine(configuration(tmp_path, accelerator="openvino", exact=True), lambda message: None)


def test_compilation_is_refused_without_its_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SettingsError, match=r"^accelerator compile was asked for, but the C\+\+ compiler .* was not found"):
        choose("cpu", "float32", "sdpa", "compile")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"^accelerator compile was asked for, but torch's Triton is not installed"):
        setup.choose_accelerator("compile", torch.device("cuda", 0))


def test_compiled_code_is_kept_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # put back as it was after the test
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setattr(setup, "compilation_missing", lambda device: "")
    assert choose("cpu", "float32", "sdpa", "compile", cache_dir=tmp_path).accelerator.name == "compile"
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "inductor")


def test_models_stay_loaded_in_half_of_a_gpu_s_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(total_memory=24 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    cuda, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert [setup.model_budget(asked, cuda) for asked in (0, 3)] == [12 * 10**9, 3 * 10**9]
    assert [setup.model_budget(asked, cpu) for asked in (0, 3)] == [None, 3 * 10**9]
