"""The committed checkpoint and its card say what they are."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open

from modules.training.concepts import CONCEPTS
from modules.training.export import metadata
from modules.training.starter import load

ROOT = Path(__file__).parents[2]
MODEL, CARD = ROOT / "models/atelier-starter.safetensors", ROOT / "models/atelier-starter.md"


def test_the_file_is_small_and_every_tensor_has_its_place() -> None:
    assert MODEL.stat().st_size <= 25_000_000
    load(MODEL)  # strict


def test_the_file_names_its_motifs_and_defaults() -> None:
    with safe_open(str(MODEL), "pt") as handle:
        found = dict(handle.metadata())
    assert json.loads(found["atelier.motifs"]) == list(CONCEPTS)
    assert set(found) == set(metadata(3.0))
    assert found["atelier.native_size"] == "128x128"


def test_the_card_lists_every_motif() -> None:
    text = " ".join(CARD.read_text(encoding="utf-8").split())
    assert [concept for concept in CONCEPTS if concept not in text] == []


def test_the_card_has_no_blanks_and_credits_the_font() -> None:
    text = CARD.read_text(encoding="utf-8")
    assert "@" not in text
    assert "Noto Color Emoji" in text
    assert "Open Font License" in text
