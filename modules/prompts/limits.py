"""How much one pair of prompts may ask for, so that no job holds the text encoder or the denoiser for minutes.

Every network evaluation attends to all windows of a prompt, which makes each call of the device longer, for everybody.  (Sides
of AND, rows of their own, are bounded by `compose.MAX_PARTS`.)
"""

from __future__ import annotations

from modules.errors import RequestError
from modules.prompts.chunks import CHUNK, COMMA_REACH, Encodes, chunk
from modules.prompts.plan import Plan
from modules.request import Emphasis

MAX_CHARACTERS = 150_000
"""Of all different texts that prompt editing makes of one pair of prompts."""

MAX_WINDOWS_PER_TEXT = 220
"""Windows of 75 tokens of one text: 16,500 tokens, what the longest prompt of one-letter words has.  BREAK begins a new one."""

MAX_NETWORKS = 8
"""Different networks of one picture, and of one forward: each is a side path of its own at every layer that it changes."""

MAX_ENCODINGS = 1_000
"""Windows times the different strengths of networks on the text encoders, where prompt editing changes those."""


def check_affordable(plan: Plan) -> None:
    """Refuse what would keep the device busy for minutes, as far as it is seen without counting tokens.

    Raises:
        RequestError: the different texts are too long together.
    """
    texts = {text for timeline in plan.timelines for text in timeline.distinct}
    characters = sum(map(len, texts))
    if characters > MAX_CHARACTERS:
        raise RequestError(
            f"prompt: editing makes {len(texts)} different texts of {characters:,} characters together, at most "
            f"{MAX_CHARACTERS:,} are allowed; shorten the prompt or edit fewer places"
        )


def check_windows(plan: Plan, tokenizer: Encodes, emphasis: Emphasis) -> None:
    """Refuse texts of more windows than `MAX_WINDOWS_PER_TEXT`.  Tokens are counted only where a text may have so many.

    Raises:
        RequestError: a text is too long.
    """
    for timeline in plan.timelines:
        for text in timeline.distinct:
            if _most_windows(text) > MAX_WINDOWS_PER_TEXT:
                check_length(len(chunk(text, tokenizer, emphasis).windows))


def check_length(windows: int) -> None:
    """Refuse so many windows of one text.

    Raises:
        RequestError: they are more than `MAX_WINDOWS_PER_TEXT`.
    """
    if windows > MAX_WINDOWS_PER_TEXT:
        raise RequestError(
            f"prompt: it takes {windows:,} windows of {CHUNK} tokens (BREAK begins a new one), at most "
            f"{MAX_WINDOWS_PER_TEXT} are allowed; shorten the prompt"
        )


def check_encodings(windows: int, strengths: int) -> None:
    """Refuse to encode so many windows under so many different strengths of networks on the text encoders.

    Raises:
        RequestError: they are more than `MAX_ENCODINGS` together.
    """
    if strengths > 1 and windows * strengths > MAX_ENCODINGS:
        raise RequestError(
            f"prompt: {windows:,} windows of {CHUNK} tokens under {strengths:,} different strengths of networks are "
            f"{windows * strengths:,} encodings, at most {MAX_ENCODINGS:,} are allowed; edit fewer networks, or give them te=0"
        )


def _most_windows(text: str) -> int:
    """A text has at most a token per byte, and a window is closed early by BREAK or for the sake of a comma only."""
    return len(text.encode()) // (CHUNK - COMMA_REACH) + text.count("BREAK") + 1
