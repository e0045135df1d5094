"""How much a pair of prompts may ask for: what every evaluation attends to."""

from __future__ import annotations

import pytest

from modules.errors import RequestError
from modules.prompts.limits import MAX_WINDOWS_PER_TEXT, check_affordable, check_windows
from modules.prompts.plan import plan
from modules.prompts.tokenizer import Tokenizer


def checked(prompt: str, negative: str = "") -> None:
    planned = plan(prompt, negative, 20)
    check_affordable(planned)
    check_windows(planned, Tokenizer(), "Original")


@pytest.mark.parametrize(
    "prompt",
    ["", "a " * 16_000, " BREAK ".join(["a"] * MAX_WINDOWS_PER_TEXT), " AND ".join(["a"] * 100), "(BREAKfast:1.2) " * 500],
    ids=["empty", "32,000 characters", "as many windows as allowed", "sides of AND", "a word that begins so"],
)
def test_what_people_write_is_allowed(prompt: str) -> None:
    checked(prompt)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (" BREAK ".join(["a"] * 4000), r"prompt: it takes 4,000 windows of 75 tokens \(BREAK begins a new one\), at most 220"),
        ("\U0001f9ff" * 12_000, r"prompt: it takes \d+ windows of 75 tokens"),
        ("[" + "a " * 7000 + ":b:0.5] " + " BREAK ".join(["a"] * 200), r"prompt: it takes \d+ windows"),
    ],
    ids=["BREAKs", "emoji", "editing"],
)
def test_what_would_hold_the_device_is_refused_in_words(prompt: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        checked(prompt)
    with pytest.raises(RequestError, match=message):
        checked("a cat", prompt)
