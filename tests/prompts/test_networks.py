"""Networks in angle brackets: when they count, what their tags say, and how many may be used."""

from __future__ import annotations

import pytest

from modules.prompts.block_weights import NAMED, BlockWeights
from modules.prompts.check import network_notes, network_problem
from modules.prompts.compose import ExtraNetwork, NetworkOptions, take_networks
from modules.prompts.plan import plan

SD1 = [f"IN{number:02}" for number in range(12)] + ["MID"] + [f"OUT{number:02}" for number in range(12)]
SD1_ATTENTION = [f"IN{n:02}" for n in (1, 2, 4, 5, 7, 8)] + ["MID"] + [f"OUT{n:02}" for n in range(3, 12)]
SDXL = [*SD1[:9], "MID", *SD1[13:22]]
SDXL_ATTENTION = ["IN04", "IN05", "IN07", "IN08", "MID"] + [f"OUT{n:02}" for n in range(6)]


def active(prompt: str, steps: int = 10, **passes: int) -> list[str]:
    """The networks at each evaluation, as one letter each."""
    over = plan(prompt, "", steps, **passes).over_time
    total = passes.get("hires_steps", steps)
    return ["".join(network.name for network in over.networks[over.index(evaluation)]) for evaluation in range(total)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a <lora:x:1> cat", ["x"] * 10),
        ("[<lora:x:1>:4]", [""] * 5 + ["x"] * 5),
        ("[<lora:x:1>::4]", ["x"] * 5 + [""] * 5),
        ("[<lora:x:1>:<lora:y:0.5>:0.4]", ["x"] * 5 + ["y"] * 5),
        ("[a <lora:x:1>:b:4] <lora:y:1>", ["xy"] * 5 + ["y"] * 5),
        ("[<lora:x:1>|<lora:y:1>]", list("xxyxyxyxyx")),
        ("a AND [b <lora:x:1>:4] <lora:y:1>", ["y"] * 5 + ["xy"] * 5),
        ("(<lora:x:1>:1.2) [:0.5]", ["x"] * 10),
        ("[[<lora:x:1>:2]::6]", [""] * 3 + ["x"] * 4 + [""] * 3),
        ("a | b [<lora:x:1>:4]", ["x"] * 10),  # all of it is text
        ("<lora:x:1:start=4>", [""] * 4 + ["x"] * 6),
        ("<lora:x:1:stop=4>", ["x"] * 4 + [""] * 6),
        ("<lora:x:1:step=3-6>", [""] * 3 + ["x"] * 3 + [""] * 4),
        ("\ue0001\ue001 [<lora:x:1>:4]", [""] * 5 + ["x"] * 5),  # no text of the user's is a mark
    ],
)
def test_when_a_network_counts(prompt: str, expected: list[str]) -> None:
    assert active(prompt) == expected


def test_the_words_around_are_those_without_the_tag() -> None:
    made = plan("a [<lora:x:1>:4] cat", "", 10)
    assert made.sides[0].timeline == plan("a [:4] cat", "", 10).sides[0].timeline
    assert [str(network) for network in made.networks] == ["<lora:x:1>"]


def test_a_second_pass_counts_on() -> None:
    assert active("[<lora:x:1>:12]", 10, hires_steps=6) == [""] * 3 + ["x"] * 3
    assert active("[<lora:x:1>:1.5]", 10, hires_steps=6) == [""] * 4 + ["x"] * 2
    assert active("<lora:x:1:stop=12>", 10, hires_steps=6) == ["x"] * 2 + [""] * 4
    assert active("[<lora:x:1>:4]", 10, hires_steps=6) == ["x"] * 6


@pytest.mark.parametrize(
    ("tag", "strengths", "rank", "blocks"),
    [
        ("<lora:a:0.5:0.8:16>", (0.5, 0.8), 16, None),
        ("<lora:a:te=0.5:unet=0.7:dyn=8>", (0.5, 0.7), 8, None),
        ("<lora:a:0.5:lbw=IN02>", (0.5, 0.5), None, BlockWeights(named=frozenset({"IN02"}))),
        ("<lora:a:1:1:lbw=1,0,0.5>", (1.0, 1.0), None, BlockWeights((1.0, 0.0, 0.5))),
        ("<lora:a:0.7:1,0,0.5>", (0.7, 0.7), None, BlockWeights((1.0, 0.0, 0.5))),  # the extension's older form
        ("<lora:a:0.7:OUTD:0.2>", (0.7, 0.2), None, BlockWeights.parse("OUTD")),
    ],
)
def test_what_a_tag_says(tag: str, strengths: tuple[float, float], rank: int | None, blocks: BlockWeights | None) -> None:
    (network,) = take_networks(tag)[1]
    assert network_problem(network) == ""
    assert network.multipliers() == strengths
    assert network.options() == NetworkOptions(blocks, rank)
    assert str(network) == tag


@pytest.mark.parametrize(
    ("tag", "problem"),
    [
        ("<lora:a:much>", "what stands behind the name must be numbers"),
        ("<lora:a:1:dyn=0>", "dyn: '0' is no rank"),
        ("<lora:a:1:1:x>", "dyn: 'x' is no rank"),
        ("<lora:a:1:stop=soon>", "'soon' is no step"),
        ("<lora:a:1:lbw=>", ""),
        ("<lora:a:1:lbw=,>", "it names no block and has no number"),
        ("<lora:a:1:lbw=IN40>", "there is no block 'IN40'"),
        ("<lora:a:1:lbw=1,R,0>", "'R' (a random weight) is not known here"),
        ("<lora:a:1:lbw=1,nan>", "'nan' is too large"),
        ("<lora:a:1:lbw=in02>", "'in02' is neither a number nor a block"),
    ],
)
def test_what_a_tag_cannot_say(tag: str, problem: str) -> None:
    (network,) = take_networks(tag)[1]
    assert problem in network_problem(network)
    assert bool(network_problem(network)) == bool(problem)


@pytest.mark.parametrize("count", [17, 26])
def test_numbers_of_sd_1_stand_for_the_blocks_that_the_extension_names(count: int) -> None:
    blocks = SD1_ATTENTION if count == 17 else SD1
    found = BlockWeights(tuple(map(float, range(1, count + 1)))).by_block(SD1, SD1_ATTENTION)
    assert [found[block] for block in ("BASE", *blocks)] == list(range(1, count + 1))
    assert sum(map(bool, found.values())) == count, "the other blocks have a weight of 0"


@pytest.mark.parametrize("count", [12, 20])
def test_numbers_of_sdxl(count: int) -> None:
    blocks = SDXL_ATTENTION if count == 12 else SDXL
    found = BlockWeights(tuple(map(float, range(1, count + 1)))).by_block(SDXL, SDXL_ATTENTION)
    assert [found[block] for block in ("BASE", *blocks)] == list(range(1, count + 1))


def test_a_wrong_count_says_which_are_right() -> None:
    with pytest.raises(ValueError, match=r"it has 3 numbers, this checkpoint takes 17 \(blocks with attention\) or 26 \(all"):
        BlockWeights((1.0, 0.0, 0.5)).by_block(SD1, SD1_ATTENTION)


PRESETS = {
    "NONE": "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "ALL": "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
    "INS": "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "IND": "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "INALL": "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "MIDD": "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0",
    "OUTD": "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0",
    "OUTS": "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1",
    "OUTALL": "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1",
    "ALL0.5": "0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5",
}
"""As the extension's own file has them."""


def test_the_extension_s_presets() -> None:
    assert NAMED.keys() == PRESETS.keys()
    for name, numbers in PRESETS.items():
        named = BlockWeights.parse(name).by_block(SD1, SD1_ATTENTION)
        written = BlockWeights.parse(numbers).by_block(SD1, SD1_ATTENTION)
        assert [named[block] for block in ("BASE", *SD1_ATTENTION)] == [written[block] for block in ("BASE", *SD1_ATTENTION)]


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("IN02", {"IN02"}),
        ("IN2,OUT5", {"IN02", "OUT05"}),
        ("M00", {"MID"}),
        ("IN10-OUT01", {"IN10", "IN11", "MID", "OUT00", "OUT01"}),
        ("BASE OUT11", {"BASE", "OUT11"}),
        ("NOT IN00-OUT11", {"BASE"}),
    ],
)
def test_blocks_by_name(text: str, blocks: set[str]) -> None:
    assert BlockWeights.parse(text).named == blocks


def test_a_name_may_have_colons_brackets_and_equals_signs() -> None:
    (network,) = take_networks("<lora:a:b [v=2] (x):0.5>")[1]
    assert (network.name, network.positional) == ("a", ("0.5",)), "what has an equals sign goes by its key"
    (network,) = take_networks("<lora:style: ink [v2] (x):0.5:lbw=ALL>")[1]
    found = network.spelled(lambda name: name == "style: ink [v2] (x)")
    assert (found.name, found.positional, found.multipliers()) == ("style: ink [v2] (x)", ("0.5",), (0.5, 0.5))
    assert network.spelled(lambda name: False) is network
    (network,) = take_networks("<lora:v=2:0.5>")[1]
    assert (network.name, network.multipliers()) == ("v=2", (0.5, 0.5))
    assert network_notes([ExtraNetwork("lora", "a", ("b", "1"))], ["A:B"]) == []


def test_a_thousand_networks_are_one_sentence() -> None:
    networks = [ExtraNetwork("lora", f"n{number}", ("1",)) for number in range(1000)]
    names = [network.name for network in networks]
    assert network_notes(networks, names) == [
        "<lora:n8:1>, <lora:n9:1>, <lora:n10:1> and 989 more: 8 different networks are the most of one picture; "
        "they are left out"
    ]
    assert network_notes(networks[:8] * 3, names) == []
