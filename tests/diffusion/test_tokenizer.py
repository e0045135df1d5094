"""Our tokenizer against transformers' CLIP tokenizer, and against ids that are known from the outside."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import ftfy
import pytest

from modules.prompts.chunks import chunk
from modules.prompts.tokenizer import BOS, EOS, VOCABULARY_SIZE, Tokenizer
from tests.diffusion import reference

TEXTS = [
    "",
    " ",
    "a photo of a cat",
    "A PHOTO of a Cat!!!",
    "masterpiece, best quality, (red:1.2) [blue] {green} <lora:x:0.5>",
    "it's they're I'm we'll you'd he've 'tis rock'n'roll",
    "1girl, 2boys 1234567890 3.14 8k 1/2",
    "snake_case kebab-case dotted.word a+b=c http://example.org/?q=1&r=2 user@host",
    "line\nbreak\ttab\r\nand  many   blanks \u00a0\u2003\u3000 end",
    "Ünïcödé naïve café Straße ÅNGSTRÖM ﬁne ǅ",
    "e\u0301 composed, \u1e9b\u0323 \u212b",
    "日本語 中文 한국어 ภาษาไทย",
    "שלום עולם مرحبا بالعالم \u202eright to left\u202c",
    "🙂 👩‍👩‍👧‍👦 🇩🇪 ✊🏽 ♥️ \U0001f9ff",
    "½ ² ٣ ⅷ 五",
    "\x00\x01\x7f zero \u200b width \ufeff joiner \u200d",
    "<|startoftext|> inside <|endoftext|> a prompt",
    "<|endoftext|><|endoftext|>",
    "<|ENDOFTEXT|> <|endoftext <| |> |endoftext|>",
    "'s 't 're 've 'm 'll 'd 'S",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "!!!???...,,,;;;::: --- ___ ((([[[{{{",
]


@pytest.fixture(scope="module")
def theirs() -> reference.CLIPTokenizer:
    return reference.tokenizer()


@pytest.mark.parametrize("text", TEXTS)
def test_texts_have_the_ids_of_transformers(text: str, theirs: reference.CLIPTokenizer) -> None:
    assert Tokenizer(raw=True).encode(text) == theirs(text, add_special_tokens=False).input_ids
    assert Tokenizer().encode(text) == theirs(ftfy.fix_text(text), add_special_tokens=False).input_ids


def test_random_texts_have_the_ids_of_transformers(theirs: reference.CLIPTokenizer) -> None:
    dice = random.Random(1)
    alphabet = "".join(chr(c) for c in (*range(32, 127), *range(160, 400), *range(0x4E00, 0x4E20), *range(0x1F600, 0x1F640)))
    for _ in range(300):
        text = "".join(dice.choice(alphabet) for _ in range(dice.randrange(1, 60)))
        assert Tokenizer(raw=True).encode(text) == theirs(text, add_special_tokens=False).input_ids, text
        assert Tokenizer().encode(text) == theirs(ftfy.fix_text(text), add_special_tokens=False).input_ids, text


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a “red” apple", [320, 257, 736, 257, 3055]),
        ("a cat’s hat", [320, 2368, 568, 3801]),
        ("Tom’s apple", [2435, 568, 3055]),
        ("red，(green）", [736, 11, 263, 1901, 264]),
        ("ｒｅｄ apple", [736, 3055]),
        ("ﬁne line", [3797, 1148]),
        ("salt &amp; pepper", [6611, 261, 8253]),
        ("cafÃ© au lait", [15304, 2566, 572, 585]),
    ],
)
def test_texts_are_repaired_as_in_a1111(text: str, ids: list[int]) -> None:
    """Curly quotes and full-width letters come from phones and word processors; A1111's tokenizer runs ftfy over them."""
    assert Tokenizer().encode(text) == ids
    assert Tokenizer(raw=True).encode(text) != ids


def test_a_full_width_comma_counts_as_a_comma_where_a_chunk_is_full() -> None:
    words = "cat " * 70
    plain, full_width = (chunk(f"{words}{comma} red dog and green bird", Tokenizer()) for comma in (",", "，"))
    assert plain == full_width
    assert len(plain.windows) == 2


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("a photo of an astronaut riding a horse on mars", [320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496]),
        ("hello world!", [3306, 1002, 256]),
        (",", [267]),
    ],
)
def test_known_ids(text: str, ids: list[int]) -> None:
    """As published with CLIP and in its documentation's examples."""
    assert Tokenizer().encode(text) == ids


def test_ids_stay_inside_the_vocabulary_and_long_texts_are_whole() -> None:
    ids = Tokenizer().encode("a red apple " * 2500)
    assert len(ids) == 7500
    assert max(ids) < VOCABULARY_SIZE == 49408
    assert (BOS, EOS) == (49406, 49407)


@pytest.mark.parametrize("text", ["a red apple", "it 's 5 o clock", "café 日本 🙂"])
def test_decoding_gives_the_words_back(text: str) -> None:
    assert Tokenizer().decode(Tokenizer().encode(text)) == text


def test_counting_tokens_needs_no_torch() -> None:
    code = (
        "import sys; from modules.prompts.tokenizer import Tokenizer; Tokenizer().encode('x'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
