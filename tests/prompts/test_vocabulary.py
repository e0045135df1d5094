"""What a prompt check says of words that a checkpoint of few words was not trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modules.catalogue import Catalogue
from modules.checkpoints.files import scan
from modules.checkpoints.header import Header, read_header
from modules.prompts.library import Library
from modules.prompts.vocabulary import MAX_NOTES, MAX_TEXT, Vocabulary, read_vocabulary, vocabulary_metadata
from modules.settings import ROOT
from tests.tiny import TINY_METADATA, tiny_checkpoint

NAMES = {
    "tiger": ["tigers"],
    "polar bear": ["polar bears"],
    "penguin": ["penguins"],
    "t-rex": [],
    "rocket": ["space ship", "rockets"],
    "orange": ["oranges"],
    "heart with an arrow": ["cupid's heart"],
}
WORDS = ["a", "an", "and", "on", "background", "red", "orange", "two", "the left", "cute"]
OWN_CHOICE = "the prompt names nothing that this model draws: it will draw something of its own choice"


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    found = read_vocabulary(vocabulary_metadata(NAMES, WORDS))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("prompt", "notes"),
    [
        ("a tiger cub", ["'tiger cub' is not among what this model draws; near: tiger"]),
        ("a polar tiger", ["'polar tiger' is not among what this model draws; near: tiger, polar bear"]),
        ("two tigers and a pinguin", ["'pinguin' is not among what this model draws; near: penguin"]),
        ("a zorblax", ["'zorblax' is not among what this model draws", OWN_CHOICE]),
        ("a polar", ["'polar' is not among what this model draws; near: polar bear", OWN_CHOICE]),
        ("a very tired tiger, which sleeps", ["'tired tiger' is not among what this model draws; near: tiger",
                                              "'sleeps' is not among what this model draws"]),
        ("ein Fuchs und a tiger", ["'ein fuchs und' is not among what this model draws"]),
        ("an orange zorblax", ["'zorblax' is not among what this model draws"]),
        ("虎", ["'虎' is not among what this model draws", OWN_CHOICE]),
    ],
)  # fmt: skip
def test_unknown_words_are_noted_with_what_is_near(vocabulary: Vocabulary, prompt: str, notes: list[str]) -> None:
    assert vocabulary.notes([prompt]) == notes


def test_what_is_drawn_for_an_unknown_word_is_said_where_the_file_says_it() -> None:
    found = read_vocabulary({**vocabulary_metadata(NAMES, WORDS), "atelier.unknown": "orange"})
    assert found is not None
    assert found.notes(["a zorblax"])[1] == "the prompt names nothing that this model draws: it will draw its 'orange'"
    assert len(found.notes(["a zorblax and a tiger"])) == 1


@pytest.mark.parametrize(
    "prompt",
    [
        "", " , . ", "a cute red TIGER on an orange background", "two tigers, two polar bears", "T-Rex and a tiger's rocket",
        "a space ship on the left", "Cupid\u2019s heart", "orange", "7 tigers", "red", "__animal__", "the tiger's",
    ],
)  # fmt: skip
def test_nothing_is_said_of_known_words(vocabulary: Vocabulary, prompt: str) -> None:
    assert vocabulary.notes([prompt]) == []


def test_many_unknown_words_are_counted_and_long_texts_not_read_to_their_end(vocabulary: Vocabulary) -> None:
    notes = vocabulary.notes([", ".join(f"zor{chr(97 + n)}x" for n in range(MAX_NOTES + 3))])
    assert len(notes) == MAX_NOTES + 2
    assert notes[MAX_NOTES] == "3 more of its words are not among what this model draws"
    assert vocabulary.notes(["a " * (MAX_TEXT // 2), "a zorblax"]) == []


@pytest.mark.parametrize(
    "said",
    [
        {}, {"atelier.motifs": '["cat"]'}, {"atelier.words": '["a"]'}, {"atelier.motifs": "{}", "atelier.words": '["a"]'},
        {"atelier.motifs": '["cat"]', "atelier.words": "nonsense"}, {"atelier.motifs": "[[[", "atelier.words": "3"},
    ],
)  # fmt: skip
def test_a_file_without_a_vocabulary_has_none(said: dict[str, str]) -> None:
    assert read_vocabulary(said) is None


def test_what_is_no_text_in_a_file_s_lists_is_left_out() -> None:
    said = {
        "atelier.motifs": '["cat", 3, null, ["x"]]',
        "atelier.words": '["a", {}]',
        "atelier.names": '{"cat": [7, "cats"], "dog": 1}',
    }
    found = read_vocabulary(said)
    assert found is not None
    assert found.notes(["a cat, cats"]) == []
    assert found.notes(["a dog"]) == ["'dog' is not among what this model draws", OWN_CHOICE]
    assert (read_vocabulary({**said, "atelier.names": "[]"}) or found).notes(["cats"])[0].endswith("near: cat")


# ---- through the prompt check, by the checkpoint's file


def notes(catalogue: Catalogue, prompt: str, **fields: Any) -> tuple[str, ...]:
    return catalogue.prompts.check({"prompt": prompt, **fields}).notes


def test_the_check_reads_the_file_of_the_checkpoint_that_is_asked_for(tmp_path: Path) -> None:
    said = vocabulary_metadata(NAMES, WORDS)
    tiny_checkpoint(tmp_path / "few.safetensors", metadata={**TINY_METADATA, **said})
    tiny_checkpoint(tmp_path / "any.safetensors")
    catalogue = Catalogue([tmp_path], Library(None), lambda: None)
    words = "(a tiger:1.3) cub <lora:gone:1>"
    assert notes(catalogue, words, checkpoint="few")[-1] == "'tiger cub' is not among what this model draws; near: tiger"
    assert notes(catalogue, "a tiger", negative_prompt="blurry, bad hands", checkpoint="few") == ()
    edited = notes(catalogue, "a [tiger:zorblax:3] AND a quux BREAK a rocket", checkpoint="few")
    assert [note.split("'")[1] for note in edited] == ["zorblax", "quux"]
    assert notes(catalogue, "a zorblax", checkpoint="any") == ()
    assert notes(catalogue, "a zorblax", checkpoint="absent") == ()


def test_names_of_embeddings_are_no_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modules.prompts.chunks import Embedding

    tiny_checkpoint(tmp_path / "few.safetensors", metadata={**TINY_METADATA, **vocabulary_metadata(NAMES, WORDS)})
    catalogue = Catalogue([tmp_path], Library(None), lambda: None)
    monkeypatch.setattr(catalogue.prompts, "_embeddings_for", lambda checkpoint: ([Embedding("zorblax", 2)], {}))
    assert notes(catalogue, "a tiger, Zorblax") == ()
    assert notes(catalogue, "a tiger, quux") != ()


# ---- the checkpoint that comes along


@pytest.fixture(scope="module")
def shipped() -> Header:
    return read_header(ROOT / "models" / "atelier-starter.safetensors")


def test_the_starter_knows_its_motifs_and_what_it_suggests(shipped: Header) -> None:
    (info,) = (found for found in scan([ROOT / "models"]) if found.name == "atelier-starter")
    vocabulary = read_vocabulary(shipped.metadata)
    assert vocabulary is not None
    assert len(info.motifs) >= 400
    assert [name for name in info.motifs if vocabulary.notes([f"a {name} on a dark blue background"])] == []
    assert [prompt for prompt in info.prompts if vocabulary.notes([prompt])] == []
    more = [name for names in json.loads(shipped.metadata["atelier.names"]).values() for name in names]
    assert [name for name in more if vocabulary.notes([f"two {name} on the left"])] == []
    assert vocabulary.notes(["a tiger cub"]) == ["'tiger cub' is not among what this model draws; near: tiger"]
    assert vocabulary.notes(["quarterly report"])[-1].endswith("it will draw its 'question mark'")
    assert vocabulary.notes(["the fox has been painted red, with blue behind it"]) == []
