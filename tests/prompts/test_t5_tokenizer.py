"""T5's tokenizer from its two kinds of files, and texts as T5 takes them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from modules.diffusion.joint_prompts import t5_chunk
from modules.prompts.t5_tokenizer import END, MAX_TOKENS, PAD, parse_sentencepiece, read_tokenizer
from tests.joint import WORDS, tokenizer


def field(number: int, kind: int, value: bytes) -> bytes:
    return varint(number << 3 | kind) + (varint(len(value)) if kind == 2 else b"") + value


def varint(value: int) -> bytes:
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def sentencepiece(path: Path) -> Path:
    """The same words in SentencePiece's format, written by its description."""
    pieces = [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", -10.0, 2), ("\u2581", -3.0, 1)]
    pieces += [(f"\u2581{word}", -1.0 - number / 10, 1) for number, word in enumerate(WORDS)]
    pieces += [(chr(letter), -6.0, 1) for letter in range(ord("a"), ord("z") + 1)]
    data = b""
    for text, score, kind in pieces:
        inside = field(1, 2, text.encode()) + field(2, 5, struct.pack("<f", score)) + field(3, 0, varint(kind))
        data += field(1, 2, inside)
    data += field(2, 2, field(3, 0, varint(1))) + field(3, 2, field(1, 2, b"nmt_nfkc"))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("text", ["a red cat", "  a   red cat ", "a  catalogue", "", "ｃａｔ", "cat, dog"])
def test_both_kinds_of_files_say_the_same(text: str, tmp_path: Path) -> None:
    ours, other = (
        read_tokenizer(tokenizer(tmp_path / "tokenizer.json")),
        read_tokenizer(sentencepiece(tmp_path / "spiece.model")),
    )
    assert other.size == ours.size == 4 + len(WORDS) + 26
    if "  " not in text:  # SentencePiece takes no more than one
        assert other.encode(text) == ours.encode(text)


def test_words_are_pieces_and_the_rest_is_letters(tmp_path: Path) -> None:
    found = read_tokenizer(sentencepiece(tmp_path / "spiece.model"))
    assert found.encode("a red cat") == [4, 6, 5]
    assert found.encode("cat" + "s")[0] == 5
    pieces, characters = parse_sentencepiece((tmp_path / "spiece.model").read_bytes())
    assert pieces[5] == ("\u2581cat", pytest.approx(-1.1))
    assert characters == b""


def test_what_is_no_tokenizer_of_t5_is_refused(tmp_path: Path) -> None:
    words = tmp_path / "words.json"
    Tokenizer(WordLevel({"a": 0}, unk_token="a")).save(str(words))
    with pytest.raises(ValueError, match="not Unigram"):
        read_tokenizer(words)
    for name, data in (("a.json", b"{}"), ("b.model", b"\xff" * 40), ("c.model", b""), ("d.model", b"\x0a\x7f")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match="it is no"):
            read_tokenizer(tmp_path / name)


def test_a_text_ends_and_is_filled_up_and_carries_its_weights(tmp_path: Path) -> None:
    found = read_tokenizer(tokenizer(tmp_path / "tokenizer.json"))
    chunk, left_out = t5_chunk("a (red:1.5) cat", found, "Original", 8)
    assert left_out == 0
    assert chunk.tokens == (4, 6, 5, END, PAD, PAD, PAD, PAD)
    assert chunk.multipliers == (1.0, 1.5, *[1.0] * 6)
    assert chunk.bare.is_neutral
    assert len(chunk.bare.multipliers) == 8
    plain, _ = t5_chunk("a (red:1.5) cat", found, "Ignore", 8)
    assert plain.is_neutral
    long, left_out = t5_chunk("cat " * 700, found, "None", 77)
    assert len(long.tokens) == MAX_TOKENS + 1
    assert long.tokens[-1] == END
    assert left_out == 700 - MAX_TOKENS
