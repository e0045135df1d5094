"""The committed checkpoint and its card say what they are."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open

from modules.training import rewording
from modules.training.export import metadata
from modules.training.motifs import MOTIFS
from modules.training.recipe import FULL
from modules.training.starter import load

ROOT = Path(__file__).parents[2]
MODEL, CARD = ROOT / "models/atelier-starter.safetensors", ROOT / "models/atelier-starter.md"
SHEET = ROOT / ".github/starter.jpg"


def test_the_file_is_small_and_has_the_shapes_that_the_trainer_makes() -> None:
    assert MODEL.stat().st_size <= 48_000_000
    model = load(MODEL)  # strict
    assert model.unet.config == FULL.unet
    assert model.vae.config == FULL.autoencoder
    assert model.text.embeddings.token_embedding.weight.shape == (49408, FULL.unet.context_dim)
    assert len(model.text.encoder.layers) == rewording.DEPTH


def test_the_file_says_what_the_trainer_would_write() -> None:
    with safe_open(str(MODEL), "pt") as handle:
        found, wanted = dict(handle.metadata()), rewording.metadata(metadata(FULL, 3.0))
    assert set(found) == set(wanted)
    for key, value in wanted.items():
        if key == "atelier.names":
            ours, theirs = (_as_sets(text) for text in (value, found[key]))
            ours["maple leaf"].discard("autumn leaves")  # of another motif when this file was trained
            assert ours == theirs
        elif key == "atelier.words":
            assert set(json.loads(found[key])) == set(json.loads(value))
        elif key.startswith("atelier.") and value[:1] == "[":
            assert json.loads(found[key]) == json.loads(value), key
        else:
            assert found[key] == value, key


def _as_sets(text: str) -> dict[str, set[str]]:
    return {name: set(others) for name, others in json.loads(text).items()}


def test_the_card_lists_every_motif() -> None:
    text = " ".join(CARD.read_text(encoding="utf-8").split())
    assert [name for name in MOTIFS if name not in text] == []


def test_the_card_has_no_blanks_and_credits_the_font() -> None:
    text = CARD.read_text(encoding="utf-8")
    assert "@" not in text
    assert "Noto Color Emoji" in text
    assert "Open Font License" in text
    assert f"../.github/{SHEET.name}" in text
    assert SHEET.stat().st_size <= 400_000
