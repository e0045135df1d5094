"""What a pair of prompts asks of the network: timelines of texts, their weights, and the networks that are named.

This is the whole way from a request's words to plain texts with emphasis; styles, comments and wildcards are dealt with before
(see `library`), tokens and tensors come after.
"""

from __future__ import annotations

from dataclasses import dataclass

from modules.prompts.compose import ExtraNetwork, split_and, take_networks
from modules.prompts.timeline import Timeline, timeline


@dataclass(frozen=True)
class Side:
    """One side of AND: its text over time, and its weight."""

    timeline: Timeline
    weight: float = 1.0


@dataclass(frozen=True)
class Plan:
    """`sides` of the prompt, at least one; `negative`; `networks` in the order in which the prompt names them."""

    sides: tuple[Side, ...]
    negative: Timeline
    networks: tuple[ExtraNetwork, ...] = ()

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
    return Plan(tuple(sides), timeline(negative_prompt, steps, hires_steps, old=old), networks)
