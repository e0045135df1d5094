"""How prompts are cut into windows: by table, by a slow twin, and with embeddings in them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.prompts.chunks import CHUNK, COMMA_REACH, EMPTY, WINDOW, Chunk, Embedding, Embeddings, Insert, chunk
from modules.prompts.tokenizer import BOS, EOS, Tokenizer

TOKENIZER = Tokenizer()
COMMA = TOKENIZER.encode(",")[0]
CAT = TOKENIZER.encode("cat")[0]


def cats(count: int) -> str:
    return "cat " * count


def contents(text: str) -> list[list[int]]:
    """The tokens of each window without marks and filling."""
    return [[token for token in window.tokens if token not in (BOS, EOS)] for window in chunk(text, TOKENIZER).windows]


@pytest.mark.parametrize(
    ("text", "lengths", "count"),
    [
        ("", [0], 0),
        ("cat", [1], 1),
        (cats(75), [75], 75),
        (cats(76), [75, 1], 76),
        (cats(150), [75, 75], 150),
        (cats(151), [75, 75, 1], 151),
        # A comma at most 20 tokens before the end of a full window takes what is behind it along
        (cats(54) + "," + cats(20), [75], 75),
        (cats(54) + "," + cats(21), [75, 1], 76),  # 21 tokens back: out of reach
        (cats(55) + "," + cats(20), [56, 20], 95),
        (cats(60) + "," + cats(20), [61, 20], 95),
        (cats(73) + "," + cats(5), [74, 5], 80),
        (cats(74) + "," + cats(5), [75, 5], 80),
        (cats(75) + "," + cats(5), [75, 6], 81),  # the comma itself does not fit: nothing moves
        (cats(60) + "," + cats(5) + "," + cats(20), [67, 20], 95),  # the last comma in reach
        (cats(60) + "," + cats(20) + "," + cats(60), [61, 75, 6], 156),
        (cats(60) + "," + cats(14) + "," + cats(5), [75, 6], 81),
        # BREAK fills the window, also an empty one
        ("cat BREAK cat", [1, 1], 76),
        ("cat BREAK", [1], 75),
        ("BREAK", [0], 75),
        ("BREAK BREAK cat", [0, 0, 1], 151),
        (cats(75) + "BREAK cat", [75, 1], 76),
        ("cat, BREAK " + cats(75) + "cat", [2, 75, 1], 151),
        ("(cat BREAK cat)", [3], 3),
        # Pieces of different weight are cut as one text
        (f"({cats(60)}:1.2), {cats(20)}", [61, 20], 95),
    ],
)
def test_windows_of_a_prompt(text: str, lengths: list[int], count: int) -> None:
    chunks = chunk(text, TOKENIZER)
    assert [len(tokens) for tokens in contents(text)] == lengths
    assert chunks.count == count
    assert chunks.limit == CHUNK * len(lengths) or text.endswith("BREAK")


@pytest.mark.parametrize(("count", "limit"), [(0, 75), (1, 75), (75, 75), (76, 150), (150, 150)])
def test_the_counters_limit(count: int, limit: int) -> None:
    assert chunk(cats(count), TOKENIZER).limit == limit


def test_a_window_has_marks_and_is_filled_up() -> None:
    (window,) = chunk("cat", TOKENIZER).windows
    assert window.tokens == (BOS, CAT, EOS, *[EOS] * 74)
    assert len(window.tokens) == len(window.multipliers) == WINDOW
    assert EMPTY.tokens == (BOS, *[EOS] * 76)


def test_weights_stand_with_their_tokens() -> None:
    (window,) = chunk("cat (cat:1.5) [cat]", TOKENIZER).windows
    assert window.multipliers[:5] == (1.0, 1.0, 1.5, 1 / 1.1, 1.0)
    assert window.bare == chunk("cat cat cat", TOKENIZER).windows[0]


def test_weights_move_with_tokens_behind_a_comma() -> None:
    first, second = chunk(cats(60) + ",(" + cats(10) + ":1.5)" + cats(10), TOKENIZER).windows
    assert set(first.multipliers) == {1.0}
    assert second.multipliers[1:12] == (1.5,) * 10 + (1.0,)


def test_emphasis_modes() -> None:
    weighted = "cat (cat:1.5) BREAK cat"
    assert [len(chunk(weighted, TOKENIZER, mode).windows) for mode in ("Original", "No norm", "Ignore", "None")] == [2, 2, 2, 1]  # type: ignore[arg-type]
    assert all(window.is_neutral for window in chunk(weighted, TOKENIZER, "Ignore").windows)
    (literal,) = chunk(weighted, TOKENIZER, "None").windows
    assert TOKENIZER.decode([t for t in literal.tokens if t not in (BOS, EOS)]) == "cat ( cat : 1 . 5 ) break cat"


def cut_slowly(tokens: list[int]) -> list[list[int]]:
    """The rule in words: of what does not fit, take along what stands behind a comma in reach, unless a comma comes next."""
    if len(tokens) <= CHUNK:
        return [tokens]
    window = tokens[:CHUNK]
    commas = [i for i, token in enumerate(window) if token == COMMA and CHUNK - i <= COMMA_REACH]
    end = commas[-1] + 1 if commas and tokens[CHUNK] != COMMA else CHUNK
    return [tokens[:end], *cut_slowly(tokens[end:])]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["cat"] * 9 + [" ,", "(cat:1.2)", "[cat]"]), max_size=260).map(" ".join))
def test_windows_are_those_of_the_slow_cut(text: str) -> None:
    plain = text.replace("(cat:1.2)", "cat").replace("[cat]", "cat")
    assert contents(text) == cut_slowly(TOKENIZER.encode(plain))


INK = Embedding("ink cat", 3)
LONG = Embedding("long", 20)
KNOWN = Embeddings([Embedding("ink", 2), INK, LONG], TOKENIZER)


def test_an_embedding_is_found_by_its_longest_name() -> None:
    (window,) = chunk("an ink cat, ink", TOKENIZER, embeddings=KNOWN).windows
    assert window.inserts == (Insert(2, INK), Insert(6, Embedding("ink", 2)))
    assert window.tokens[:9] == (BOS, TOKENIZER.encode("an")[0], 0, 0, 0, COMMA, 0, 0, EOS)
    assert chunk("an ink cat, ink", TOKENIZER, embeddings=KNOWN).count == 7


def test_an_embedding_has_the_weight_of_its_name() -> None:
    (window,) = chunk("a (ink:1.4) b", TOKENIZER, embeddings=KNOWN).windows
    assert window.multipliers[:6] == (1.0, 1.0, 1.4, 1.4, 1.0, 1.0)


def test_an_embedding_that_does_not_fit_begins_a_window() -> None:
    first, second = chunk(cats(60) + "long cat", TOKENIZER, embeddings=KNOWN).windows
    assert first.inserts == ()
    assert second.inserts == (Insert(1, LONG),)
    assert second.tokens[21] == CAT


def test_an_embedding_behind_a_comma_moves_with_it() -> None:
    first, second = chunk(cats(60) + ", ink dog " + cats(19), TOKENIZER, embeddings=KNOWN).windows
    assert first.inserts == ()
    assert second.inserts == (Insert(1, Embedding("ink", 2)),)
    assert second.tokens[1:5] == (0, 0, TOKENIZER.encode("dog")[0], CAT)


def test_embeddings_are_not_found_across_weights() -> None:
    """Each piece is looked through by itself, as in A1111."""
    (window,) = chunk("(ink) cat", TOKENIZER, embeddings=KNOWN).windows
    assert window.inserts == (Insert(1, Embedding("ink", 2)),)


def test_embeddings_of_impossible_size_are_none() -> None:
    assert Embeddings([Embedding("cat", 76), Embedding("cat", 0), Embedding("", 1)], TOKENIZER).match([CAT], 0) is None


def test_a_chunk_takes_75_tokens_at_most() -> None:
    assert Chunk.of([CAT] * 75).tokens[-2:] == (CAT, EOS)
    with pytest.raises(AssertionError, match="76 tokens"):
        Chunk.of([CAT] * 76)
