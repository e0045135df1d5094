"""Training the U-Net of a finished file further on what it misses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from modules.errors import SettingsError
from modules.training import practice, starter
from modules.training.__main__ import main
from modules.training.composition import Composer
from modules.training.denoiser import NoiseLoss, draw_noise
from modules.training.glyphs import coloured_glyphs, drawn_glyphs
from modules.training.loop import Budget, generator, rng
from modules.training.recipe import SMOKE

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer(*coloured_glyphs(drawn_glyphs(SMOKE.names)), SMOKE.picture, CPU)


def test_every_other_scene_is_of_what_was_missed() -> None:
    scenes = practice.scenes_of(SMOKE.names, ("fox", "car"), 40, rng(0, 0))
    assert all({item.motif for item in scene.items} <= {"fox", "car"} for scene in scenes[::2])
    assert {item.motif for scene in scenes[1::2] for item in scene.items} >= {"apple", "house", "pizza"}


def test_it_learns_what_was_missed_and_all_but_the_u_net_stays(
    smoke: Path, composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(practice, "BATCH", 8)
    monkeypatch.setattr(practice, "RATE", 2e-3)
    taught = tmp_path / "starter.safetensors"
    taught.write_bytes(smoke.read_bytes())
    practice.practise(taught, composer, ("fox",), tmp_path, Budget(steps=60), CPU, 16)
    before, after = load_file(smoke), load_file(taught)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(starter.PREFIXES["unet"]) for name in changed)
    assert not any(part in name for name in changed for part in practice.STAY)
    assert {name: value.dtype for name, value in after.items()} == {name: value.dtype for name, value in before.items()}
    with safe_open(str(smoke), "pt") as one, safe_open(str(taught), "pt") as other:
        assert one.metadata() == other.metadata()
    assert _error(taught, composer) < 0.8 * _error(smoke, composer)


@torch.no_grad()
def _error(file: Path, composer: Composer) -> float:
    """The denoiser's loss on scenes of foxes that were not trained on."""
    model, gen = starter.load(file), generator(9, 0)
    latents = practice.latents_of(model, composer, practice.scenes_of(("fox",), ("fox",), 16, rng(9, 0)), rng(9, 1)).float()
    context = model.encode(["a fox"] * 16)
    timesteps = torch.linspace(50, 950, 16).long()
    return NoiseLoss(CPU)(lambda x, t: model.unet(x, t, context).float(), latents, timesteps, draw_noise(latents, gen)).item()


def test_a_motif_that_the_file_does_not_draw_is_named(smoke: Path, composer: Composer, tmp_path: Path) -> None:
    before = smoke.read_bytes()
    with pytest.raises(SettingsError, match="names no motif wombat; its list"):
        practice.practise(smoke, composer, ("fox", "wombat"), tmp_path, Budget(steps=1), CPU, 4)
    assert smoke.read_bytes() == before


def test_the_command(smoke: Path, tmp_path: Path) -> None:
    copy = tmp_path / "starter.safetensors"
    copy.write_bytes(smoke.read_bytes())
    asked = ["practice", "--smoke", "--device", "cpu", "--work", str(tmp_path), "--model", str(copy), "--missed", "fox", "car"]
    assert main(asked) == 0
    assert copy.read_bytes() != smoke.read_bytes()
    [state] = tmp_path.glob("practice-*.pt")
    assert torch.load(state, weights_only=True)["step"] == 3


def test_a_stage_takes_up_its_own_state_and_other_motifs_begin_anew(
    smoke: Path, composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(practice, "BATCH", 4)
    model = starter.load(smoke, bfloat16=True)

    def taught(missed: str, steps: int) -> dict[str, torch.Tensor]:
        return practice.train(model, composer, (missed,), tmp_path, Budget(steps=steps), 8).state_dict()

    first, again, other = taught("fox", 2), taught("fox", 2), taught("car", 2)
    assert all(torch.equal(first[name], again[name]) for name in first), "finished: nothing is trained again"
    assert any(not torch.equal(first[name], other[name]) for name in first), "not the state of another practice"
    foxes, cars = (torch.load(file, weights_only=True) for file in sorted(tmp_path.glob("*.latents")))
    assert not torch.equal(foxes, cars)
    assert len(list(tmp_path.glob("practice-*.pt"))) == 2
