"""TAESD files in the Models tab and in `doctor`: sound ones with what they are for, others with what is wrong."""

from __future__ import annotations

from pathlib import Path

import torch

from modules.checkpoints.header import read_header
from modules.checkpoints.taesd import places
from modules.diffusion.taesd import TinyDecoder
from modules.doctor import _checkpoints
from modules.model_library.described import describe
from modules.model_library.survey import models_in, survey
from modules.settings import Settings
from tests.tiny import tiny_checkpoint, write


def test_taesd_files_are_listed_with_what_is_wrong(tmp_path: Path) -> None:
    state = TinyDecoder(4).state_dict()
    for name in ("taesd", "taesdxl"):
        (tmp_path / "vae_approx" / name).mkdir(parents=True)
        write(tmp_path / "vae_approx" / name / "decoder.safetensors", state)
    write(tmp_path / "vae_approx" / "torn.safetensors", {name: each for name, each in state.items() if name != "19.bias"})
    write(tmp_path / "vae_approx" / "other.safetensors", {"x.weight": torch.zeros(2)})
    (tmp_path / "vae_approx" / "pickle.pth").write_bytes(b"\x80\x02}q")
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    described = {one.file: describe(one) for one in models_in(survey([tmp_path]), [tmp_path]) if one.kind == "taesd"}
    said = {file.removeprefix("vae_approx/"): (one.family, one.problem) for file, one in described.items()}
    assert said["taesd/decoder.safetensors"] == ("SD 1.x", "")
    assert said["taesdxl/decoder.safetensors"] == ("SDXL", "")
    assert "lacks the tensor '19.bias' of its TAESD decoder" in said["torn.safetensors"][1]
    assert "other.safetensors is no TAESD" in said["other.safetensors"][1]
    assert "is a pickle" in said["pickle.pth"][1]
    found = {
        finding.found: finding.state for finding in _checkpoints(Settings(models_dirs=(tmp_path,))) if finding.what == "TAESD"
    }
    assert found["taesdxl/decoder.safetensors: decoder for SDXL"] == "good"
    assert {state for text, state in found.items() if text.startswith(("torn.safetensors ", "other.safetensors "))} == {"note"}
    header = read_header(tmp_path / "vae_approx" / "taesd" / "decoder.safetensors")
    assert places(header, "decoder").keys() == state.keys()
    assert places(header, "encoder") == {}
