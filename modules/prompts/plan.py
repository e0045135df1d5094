"""What a pair of prompts asks of the network: timelines of texts, their weights, and the networks that are named.

This is the whole way from a request's words to plain texts with emphasis; styles, comments and wildcards are dealt with before
(see `library`), tokens and tensors come after.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from modules.prompts.compose import ExtraNetwork, marked, marks, split_and, take_networks
from modules.prompts.timeline import Timeline, timeline


@dataclass(frozen=True)
class Side:
    """One side of AND: its text over time, and its weight."""

    timeline: Timeline
    weight: float = 1.0


@dataclass(frozen=True)
class NetworksOverTime:
    """`networks[i]` count up to and including evaluation `ends[i]`, as the texts of a `Timeline` do."""

    ends: tuple[int, ...]
    networks: tuple[tuple[ExtraNetwork, ...], ...]

    def index(self, evaluation: int) -> int:
        """Which of `networks` count at this evaluation; as `Timeline.index`."""
        found = bisect_left(self.ends, evaluation)
        return found if found < len(self.ends) else 0


NO_NETWORKS = NetworksOverTime((0,), ((),))


@dataclass(frozen=True)
class Plan:
    """`sides` of the prompt, at least one; `negative`; `networks` in the order in which the prompt names them, and
    `over_time`, which of them count when: `[<lora:a:1>:10]` comes in, `[<lora:a:1>::10]` goes away."""

    sides: tuple[Side, ...]
    negative: Timeline
    networks: tuple[ExtraNetwork, ...] = ()
    over_time: NetworksOverTime = NO_NETWORKS

    @property
    def timelines(self) -> tuple[Timeline, ...]:
        return (*(side.timeline for side in self.sides), self.negative)

    @property
    def uses_emphasis(self) -> bool:
        """Whether brackets are left for the emphasis mode to decide about."""
        return any("(" in text or "[" in text for timeline in self.timelines for text in timeline.distinct)


def plan(prompt: str, negative_prompt: str, steps: int, hires_steps: int | None = None, *, old: bool = False) -> Plan:
    """Work out a pair of prompts; for the numbers see `schedule.timeline`.

    Never fails, whatever the text.  In the negative prompt, networks and AND are words (A1111).

    >>> plan("a cat AND [a hat::4]:0.5", "", 20).sides[1]
    Side(timeline=Timeline(ends=(4, 20), texts=(' a hat', ' ')), weight=0.5)
    """
    words, networks = take_networks(prompt)
    sides = [Side(timeline(part.text, steps, hires_steps, old=old), part.weight) for part in split_and(words)]
    negative = timeline(negative_prompt, steps, hires_steps, old=old)
    if not networks:
        return Plan(tuple(sides), negative)
    last = negative.ends[-1]
    total = NetworksOverTime((last,), (networks,))
    if "[" in prompt and any(len(side.timeline.ends) > 1 for side in sides):
        parts = [timeline(part.text, steps, hires_steps, old=old) for part in split_and(marked(prompt))]
        total = _edited(parts, networks)
    passed = 0 if hires_steps is None or old else steps
    return Plan(tuple(sides), negative, networks, _within_windows(total, passed))


def _edited(parts: Sequence[Timeline], networks: Sequence[ExtraNetwork]) -> NetworksOverTime:
    """What the marks in the sides of AND say; a network of any side is on all of them."""
    ends = sorted({end for part in parts for end in part.ends})
    named = [sorted({number for part in parts for number in marks(part.at(end))}) for end in ends]
    return NetworksOverTime(tuple(ends), tuple(tuple(networks[number] for number in numbers) for numbers in named))


def _within_windows(over: NetworksOverTime, passed: int) -> NetworksOverTime:
    """Without networks outside of their `start=` and `stop=`; steps go on counting behind `passed` ones of a first pass."""
    windows = {network: _window(network) for networks in over.networks for network in networks}
    edges = {edge - passed - 1 for window in windows.values() for edge in window if edge}
    ends = sorted({*over.ends, *(end for end in edges if 0 <= end < over.ends[-1])})

    def counts(network: ExtraNetwork, end: int) -> bool:
        first, stop = windows[network]
        return first <= end + passed and (stop is None or end + passed < stop)

    active = [tuple(network for network in over.networks[over.index(end)] if counts(network, end)) for end in ends]
    return NetworksOverTime(tuple(ends), tuple(active))


def _window(network: ExtraNetwork) -> tuple[int, int | None]:
    try:
        return network.window()
    except ValueError:  # which is said of it where it is read
        return 0, None
