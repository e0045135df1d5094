"""`doctor --check`: what it holds the device to, and that what is wrong there fails it with a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modules.diffusion import clip
from modules.diffusion.accelerators import Accelerate, AcceleratorChoice, UNetForward
from modules.diffusion.attention import AttentionChoice, sdpa, sliced
from modules.diffusion.attention.measured import Measured
from modules.diffusion.unet import UNet
from modules.engine.check import __main__ as check
from modules.engine.check import attention, pictures, texts
from modules.engine.check.findings import Bench, Result, compared
from modules.engine.setup import choose
from modules.settings import ROOT
from tests.diffusion.test_attention_measured import Played, PlayedClock


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """This processor, with pictures of two steps and of half the starter's sides: rounding is the same at any size."""
    choices = choose("cpu", "auto", "auto", "none")
    return Bench(choices, check.backends_of(choices.device), [ROOT / "models"], tmp_path, steps=2, side=128)


def results(bench: Bench, *checks: object, seconds: float = float("inf")) -> list[Result]:
    return list(check.run_checks(bench, checks, seconds))  # type: ignore[arg-type]


def test_this_processor_passes_and_the_findings_have_content(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_emulated", lambda: False)
    found = {result.what: result for result in results(bench, *check.CHECKS)}
    assert [what for what, result in found.items() if result.state != "good"] == []
    for name in ("sdpa", "sliced"):
        for dtype in ("float32", "bfloat16"):
            result = found[f"{name} {dtype}"]
            assert "heads of width 16, 24, 40, 80, 160, 512" in result.found
            assert result.difference is not None
            assert result.bound is not None
            assert 0 < result.difference <= result.bound
    assert found["width 40"].found.startswith(f"sdpa for 2 x 1024 x 77 in {bench.choices.dtype_name}, ")
    for model in ("atelier-starter", "narrow"):
        assert found[model].found.startswith("painted by the processor in float32, ")
        assert found[f"{model} float32"].difference is not None
        rough, exact = found[f"{model} bfloat16"].difference, found[f"{model} float32"].difference
        assert rough is not None
        assert exact is not None
        assert 0 <= exact < rough, "half the digits are seen"


def test_a_text_encoder_that_is_wrong_on_the_device_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    good = results(bench, texts.encoder)
    assert [(result.what, result.state) for result in good] == [
        ("text encoder float32", "good"),
        ("text encoder bfloat16", "good"),
    ]
    assert good[0].difference is not None
    assert good[1].difference is not None
    assert good[0].difference < 1e-5 < good[1].difference
    monkeypatch.setattr(clip, "_quick_gelu", lambda x: x)
    assert [result.state for result in results(bench, texts.encoder)] == ["missing", "missing"]


def test_a_wrong_attention_back_end_fails_with_its_widths_and_the_way_out(bench: Bench) -> None:
    def wrong(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sdpa(q, k, v) * (1.0 if q.shape[-1] < 512 else 1.1)

    found = results(replace(bench, backends={"wrong": wrong, "sliced": sliced}), attention.agreement)
    assert [result.state for result in found] == ["missing", "good"] * 2
    assert found[0].what == "wrong float32"
    assert found[0].found.startswith("WRONG: differs by at most 0.")
    assert (found[0].remedy, found[0].bound) == ("--attention sliced", 1e-4)


def test_what_a_back_end_refuses_is_told_and_no_failure(bench: Bench) -> None:
    def picky(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.shape[-1] in (16, 24):
            raise NotImplementedError("no operator found\nand why")
        return sdpa(q, k, v)

    def absent(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        raise RuntimeError("No available kernel.")

    def broken(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    found = results(replace(bench, backends={"picky": picky, "absent": absent, "broken": broken}), attention.agreement)[:3]
    assert [result.state for result in found] == ["good", "note", "missing"]
    assert found[0].found.endswith("heads of width 40, 80, 160, 512; does not take 16, 24")
    assert found[1].found == "does not run here (No available kernel.)"
    assert found[2].found == "failed for heads of width 16: CUDA error: an illegal memory access was encountered"


def test_the_measured_choice_is_named_with_its_time(bench: Bench) -> None:
    measured = Measured({"slow": Played(2.0), "fast": Played(1.0)}, PlayedClock())
    choices = replace(bench.choices, attention=AttentionChoice("measured", "played", measured))
    found = results(replace(bench, choices=choices), attention.taken)
    assert [result.what for result in found] == [*["width 40"] * 2, *["width 80"] * 2, *["width 160"] * 2, "width 512"]
    assert all(result.found.startswith("fast for ") for result in found)
    assert found[-1].found.startswith("fast for 1 x 1024 x 1024 in float32, "), "the autoencoder's"
    assert all(result.found.endswith(" ms") for result in found)


def accelerated(bench: Bench, accelerate: Accelerate) -> Bench:
    return replace(bench, choices=replace(bench.choices, accelerator=AcceleratorChoice("quick", "played", accelerate)))


def test_a_picture_that_an_accelerator_paints_otherwise_fails(bench: Bench) -> None:
    """Beside it the network itself passes: the finding says which of them is wrong, and what to leave out."""

    def accelerate(unet: UNet) -> UNetForward:
        return lambda *given: unet(*given) * 0.5

    found = {result.what: result for result in results(accelerated(bench, accelerate), pictures.narrow)}
    assert found["narrow float32"].state == "good"
    wrong = found["narrow float32 quick"]
    assert (wrong.state, wrong.remedy) == ("missing", "--accelerator none")
    assert wrong.found.startswith("WRONG: differs from the processor's by at most ")


def test_a_picture_that_cannot_be_painted_fails_and_the_rest_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_emulated", lambda: True)

    def accelerate(unet: UNet) -> UNetForward:
        raise RuntimeError("no kernel image is available\nfor this device")

    found = {result.what: result for result in results(accelerated(bench, accelerate), pictures.narrow)}
    failed, left_out = found.pop("narrow float32 quick"), found.pop("narrow bfloat16")
    assert {result.state for result in found.values()} == {"good"}
    assert (failed.state, failed.found) == ("missing", "could not be painted: no kernel image is available")
    assert left_out.state == "note"
    assert "does not compute it itself" in left_out.found


def test_without_the_starter_the_rest_is_checked(bench: Bench, tmp_path: Path) -> None:
    (only,) = results(replace(bench, models_dirs=[tmp_path]), pictures.starter)
    assert (only.state, only.found) == ("note", "is not in the models folders and was not painted")


def test_a_check_that_raises_has_failed_and_the_others_go_on(bench: Bench) -> None:
    def kernels(bench: Bench) -> Iterator[Result]:
        yield compared("norm", 0.5, 0.1, "fused", remedy="--accelerator none")
        raise RuntimeError("out of resource: shared memory\nand more")

    found = results(bench, kernels, attention.agreement)
    assert found[0] == Result(
        "norm", "WRONG: differs by at most 0.5 (bound 0.1); fused", "missing", "--accelerator none", 0.5, 0.1
    )
    assert found[1] == Result("kernels", "failed: RuntimeError: out of resource: shared memory", "missing")
    assert found[2].state == "good"


def test_a_difference_that_is_no_number_is_wrong() -> None:
    assert compared("x", float("nan"), 1.0).state == compared("x", float("inf"), 1.0).state == "missing"
    assert compared("x", 1.0, 1.0).state == "good"


def test_when_the_time_is_over_what_is_left_is_named(bench: Bench) -> None:
    found = results(bench, attention.agreement, pictures.narrow, seconds=0.0)
    assert len(found) == 2
    assert (found[1].what, found[1].state) == ("time", "note")
    assert found[1].found == "0 s are over; not or not wholly checked: agreement, narrow"


def test_checking_leaves_autograd_as_it_was(bench: Bench) -> None:
    running = check.run_checks(bench, [attention.agreement], float("inf"))
    next(running)
    assert not torch.is_inference_mode_enabled()
    running.close()


# ---- the process


def test_it_prints_an_object_a_line_and_its_code_says_whether_all_is_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = Result("a", "fine", difference=0.1, bound=0.2), Result("b", "WRONG", "missing", "--attention sliced")
    monkeypatch.setattr(check, "CHECKS", (lambda bench: iter([good]),))
    assert check.main(["--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "what": "a", "found": "fine", "state": "good", "remedy": "", "difference": 0.1, "bound": 0.2,
    }  # fmt: skip
    monkeypatch.setattr(check, "CHECKS", (lambda bench: iter([bad, good]),))
    assert check.main(["--device", "cpu", "--json"]) == 1
    assert [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()] == ["missing", "good"]
    assert check.main(["--device", "cpu"]) == 1
    assert capsys.readouterr().out.splitlines() == ["missing  b: WRONG", "good     a: fine"]


def test_a_setting_that_this_machine_cannot_keep_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["--device", "tpu", "--json"]) == 1
    assert "device 'tpu' is" in json.loads(capsys.readouterr().out)["found"]
