"""The prompt language against its table, against an independent parser, and against texts made to hurt."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import lark
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modules.prompts.compose import ExtraNetwork, split_and, take_networks, without_comments
from modules.prompts.emphasis import MAX_DEPTH, Piece, weigh
from modules.prompts.plan import plan
from modules.prompts.scanner import MAX_EDITS, scan
from modules.prompts.timeline import Timeline, timeline
from tests.prompts import table
from tests.prompts.hostile import HOSTILE

MANY = 10 if os.environ.get("CI") else 1
"""How many times a thousand prompts each property is tried on: more than 20,000 together where there is time."""


def pairs(made: Timeline) -> list[tuple[int, str]]:
    return list(zip(made.ends, made.texts, strict=True))


def test_the_table_is_large_enough() -> None:
    rows = table.EDITING + table.HIRES + table.OLD + table.WEIGHTS + table.AND + table.NETWORKS + table.COMMENTS  # type: ignore[operator]
    assert len(rows) >= 150
    assert len({row[0] for row in table.EDITING}) == len(table.EDITING), "every case once"


@pytest.mark.parametrize(("prompt", "expected"), table.EDITING)
def test_editing(prompt: str, expected: list[tuple[int, str]]) -> None:
    assert pairs(timeline(prompt, 10)) == expected


@pytest.mark.parametrize(("prompt", "expected"), table.HIRES)
def test_editing_in_the_second_pass(prompt: str, expected: list[tuple[int, str]]) -> None:
    assert pairs(timeline(prompt, 10, hires_steps=10)) == expected


@pytest.mark.parametrize(("prompt", "expected"), table.OLD)
def test_editing_with_old_timelines(prompt: str, expected: list[tuple[int, str]]) -> None:
    assert pairs(timeline(prompt, 10, old=True)) == expected
    assert pairs(timeline(prompt, 10, hires_steps=7, old=True)) == expected, "the second pass is like the first"


@pytest.mark.parametrize(("text", "expected"), table.WEIGHTS)
def test_emphasis(text: str, expected: list[tuple[str, float]]) -> None:
    assert [(piece.text, piece.weight) for piece in weigh(text)] == (expected or [("", 1.0)])


@pytest.mark.parametrize(("prompt", "expected"), table.AND)
def test_and(prompt: str, expected: list[tuple[str, float]]) -> None:
    assert [(part.text, part.weight) for part in split_and(prompt)] == expected


@pytest.mark.parametrize(("prompt", "rest", "networks"), table.NETWORKS)
def test_networks(prompt: str, rest: str, networks: list[str]) -> None:
    left, found = take_networks(prompt)
    assert left == rest
    assert [str(network) for network in found] == networks


@pytest.mark.parametrize(("prompt", "expected"), table.COMMENTS)
def test_comments(prompt: str, expected: str) -> None:
    assert without_comments(prompt) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("<lora:a>", (1.0, 1.0)),
        ("<lora:a:0.5>", (0.5, 0.5)),
        ("<lora:a:0.5:0.8>", (0.5, 0.8)),
        ("<lora:a:te=0.5>", (0.5, 0.5)),
        ("<lora:a:unet=0.8>", (1.0, 0.8)),
        ("<lora:a:te=0.2:unet=-0.8>", (0.2, -0.8)),
        ("<lora:a:0.5:te=0.2>", (0.2, 0.2)),
    ],
)
def test_multipliers_of_a_lora(tag: str, expected: tuple[float, float]) -> None:
    (network,) = take_networks(tag)[1]
    assert network.multipliers() == expected


@pytest.mark.parametrize("argument", ["x", "nan", "inf", "1e9", ""])
def test_multipliers_that_are_no_numbers_are_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        ExtraNetwork("lora", "a", (argument,)).multipliers()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a [b:c:2]", "bbbccc"),  # evaluations 0 to 2: one more than the number says
        ("[b|c]", "bbcbcb"),
        ("[b:c:0]", "cccccc"),
        ("[b:c:1.0]", "bbbbbb"),
        ("[b:c:.5]", "bbbbcc"),
    ],
)
def test_what_counts_at_each_evaluation(text: str, expected: str) -> None:
    made = timeline(text, 6)
    assert "".join(made.at(evaluation).strip()[-1] for evaluation in range(6)) == expected


def test_beyond_the_plan_the_first_text_comes_back() -> None:
    made = timeline("[a:b:2]", 6)
    assert [made.at(evaluation) for evaluation in (6, 7, 100)] == ["b", "a", "a"]


def test_negative_prompts_have_no_and_and_no_networks() -> None:
    made = plan("a AND b <lora:x:1>", "c AND d <lora:y:1>:1.5", 10)
    assert [side.timeline.texts for side in made.sides] == [("a",), (" b",)]
    assert made.negative.texts == ("c AND d <lora:y:1>:1.5",)
    assert [network.name for network in made.networks] == ["x"]


# ------------------------------------------------------------------------------------- against an independent parser

GRAMMAR = r"""
start: (phrase | stray)*
!stray.-9: /[][():]/
phrase: (round | square | switch | cycle | WORDS)*
!round: "(" phrase [":" phrase] ")"
!square: "[" phrase "]"
switch: "[" [phrase ":"] phrase ":" NUMBER "]"
cycle: "[" phrase ("|" phrase)+ "]"
WORDS: /(?:[^\\\[\]():|]|\\.)+/
NUMBER: /\s*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*/
"""
"""The published shape of the language for lark's Earley parser: of all readings, the one with the fewest stray brackets."""

EARLEY = lark.Lark(GRAMMAR)


def read_by_lark(prompt: str, steps: int) -> list[tuple[int, str]]:
    try:
        tree = EARLEY.parse(prompt)
    except lark.exceptions.LarkError:
        return [(steps, prompt)]

    def when(token: lark.Token) -> int:
        value = float(token) * steps if "." in token else float(token)
        return int(min(max(value, -1), steps))

    def pieces(node: lark.Tree[lark.Token] | lark.Token | None, step: int) -> Iterator[str]:
        if isinstance(node, lark.Tree):
            children = node.children
            if node.data == "switch":
                children = [children[0] if step <= when(children[2]) else children[1]]  # type: ignore[arg-type]
            elif node.data == "cycle":
                children = [children[(step - 1) % len(children)]]
            for child in children:
                yield from pieces(child, step)
        elif node is not None:
            yield str(node)

    ends = {steps}
    for node in tree.iter_subtrees():
        if node.data == "switch":
            ends |= {end} if (end := when(node.children[2])) >= 1 else set()  # type: ignore[arg-type]
        elif node.data == "cycle":
            ends |= set(range(1, steps + 1))
    return [(end, "".join(pieces(tree, end))) for end in sorted(ends)]


SOUP = ["[", "]", "(", ")", ":", ":", "|", "a", "b", " ", "3", "1.5", "[a:b:3]", "[a|b]", "\\", "(x:1.2)", ".5", "[", "]"]
SOUP += ["\n", ":2]", "[a:", "-1", "1e0", "#"]


@pytest.mark.parametrize("seed", range(4))
def test_an_earley_parser_reads_the_same(seed: int) -> None:
    """On random soups of brackets, where ambiguities and errors are common."""
    draw = random.Random(seed)
    for _ in range(60):
        prompt = "".join(draw.choice(SOUP) for _ in range(draw.randint(1, 12)))
        assert pairs(timeline(prompt, 7)) == read_by_lark(prompt, 7), prompt


@pytest.mark.parametrize(("prompt", "expected"), [(p, e) for p, e in table.EDITING if len(p) < 30])
def test_the_earley_parser_agrees_with_the_table(prompt: str, expected: list[tuple[int, str]]) -> None:
    assert read_by_lark(prompt, 10) == expected


def weigh_slowly(text: str) -> list[tuple[str, float]]:
    """The rules of emphasis, character by character: every piece keeps the brackets around it in the order of their closing."""
    texts: list[str] = []
    factors: list[list[float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(kind: str, factor: float) -> None:
        start = opened[kind].pop()
        for i in range(start, len(texts)):
            factors[i].append(factor)

    i = 0
    while i < len(text):
        char = text[i]
        if char == "\\":
            escaped = text[i + 1 : i + 2] if text[i + 1 : i + 2] in ("\\", "(", ")", "[", "]") else ""
            texts.append(escaped)
            factors.append([])
            i += 1 + len(escaped)
            continue
        closing = text.find(")", i)
        number = text[i + 1 : closing].strip() if char == ":" and closing >= 0 else ""
        if number and set(number) <= set("+-.0123456789") and opened["("]:
            try:
                close("(", float(number))
                i = closing + 1
                continue
            except ValueError:
                pass
        if char in "([":
            opened[char].append(len(texts))
        elif char == ")" and opened["("]:
            close("(", 1.1)
        elif char == "]" and opened["["]:
            close("[", 1 / 1.1)
        else:
            texts.append(char)
            factors.append([])
        i += 1
    for kind, factor in (("(", 1.1), ("[", 1 / 1.1)):
        while opened[kind]:
            close(kind, factor)

    merged: list[tuple[str, float]] = []
    for piece, product in zip(texts, factors, strict=True):
        weight = 1.0
        for factor in product:
            weight *= factor
        if merged and merged[-1][1] == weight:
            merged[-1] = (merged[-1][0] + piece, weight)
        else:
            merged.append((piece, weight))
    return merged or [("", 1.0)]


@settings(max_examples=300 * MANY, deadline=None)
@given(st.text(alphabet="ab ()[]:\\1.2-", max_size=30))
@example("(a:1.5)(b")
@example("(a [b) c:1.2)]")
def test_emphasis_is_that_of_the_slow_reading(text: str) -> None:
    assert [(piece.text, piece.weight) for piece in weigh(text)] == weigh_slowly(text)


# ------------------------------------------------------------------------------------------------------ texts made to hurt


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:12]))
def test_hostile_texts_are_read(text: str) -> None:
    """32 kB each; what takes longer than linear time would take minutes here (A1111: 81 s for 2 kB of the first)."""
    pieces = weigh(text)
    assert 0 < len(pieces) <= len(text)
    assert sum(len(piece.text) for piece in pieces if not piece.is_break) <= len(text)
    assert all(abs(piece.weight) <= 1_000 for piece in pieces)
    made = plan(text, text, 20)
    assert made.sides
    assert all(len(side.timeline.ends) <= 20 for side in made.sides)
    without_comments(text)


def test_more_editing_than_anybody_writes_is_text() -> None:
    assert len(scan("[a:b:1]" * MAX_EDITS)) == MAX_EDITS
    text = "[a:b:1]" * (MAX_EDITS + 1)
    assert scan(text) == (text,)


def test_deeper_brackets_weigh_nothing_more() -> None:
    deep = weigh("(" * (MAX_DEPTH + 50) + "a")
    assert deep == weigh("(" * MAX_DEPTH + "a")
    assert deep[0].weight == pytest.approx(1.1**MAX_DEPTH)


GRAMMAR_WORDS = st.sampled_from(
    [
        "[",
        "]",
        "(",
        ")",
        ":",
        "|",
        "\\",
        "AND",
        "BREAK",
        "<lora:",
        ">",
        "1.5",
        ":2]",
        "0.5",
        "#",
        "\n",
        " ",
        "a",
        "cat",
        ", ",
        "🐈",
    ]
)


@settings(max_examples=1_000 * MANY, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(GRAMMAR_WORDS, max_size=25).map("".join)), st.integers(1, 40))
def test_any_prompt_makes_sense(prompt: str, steps: int) -> None:
    """Whatever was typed: a plan without gaps, and nothing made up that was not in the prompt."""
    made = plan(prompt, prompt, steps)
    for line in made.timelines:
        assert line.ends == tuple(sorted(set(line.ends)))
        assert line.ends[-1] == steps
        assert line.ends[0] >= 1
        for text in line.distinct:
            assert len(text) <= len(prompt)
            pieces = weigh(text)
            assert pieces
            assert all(isinstance(piece, Piece) for piece in pieces)
            assert sum(len(p.text) for p in pieces if not p.is_break) <= len(text)
        for evaluation in range(steps + 5):
            assert line.at(evaluation) in line.texts


@settings(max_examples=1_000 * MANY, deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="()[]:|\\<>#", exclude_categories=["Cs"]), max_size=60))
def test_words_without_syntax_are_only_words(prompt: str) -> None:
    if "AND" not in prompt and "BREAK" not in prompt:
        made = plan(prompt, "", 10)
        assert [side.timeline for side in made.sides] == [Timeline((10,), (prompt.rstrip(),))]
        assert weigh(prompt) == [Piece(prompt)]
