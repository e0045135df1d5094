"""Which text counts at which evaluation of the network: prompt editing worked out for a number of steps.

It knows neither tokens nor tensors.  Steps here are evaluations of the network: for a sampler with two evaluations per step
A1111 works prompts out for twice the steps (`steps x 2`), which is the caller's to say.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from modules.prompts.scanner import Cycle, Node, Switch, scan


@dataclass(frozen=True)
class Timeline:
    """`texts[i]` counts up to and including evaluation `ends[i]`, counted from 0; `ends` rise.

    So the first text has one evaluation more than its number says, and an alternation begins a, a, b, a, b: A1111 compares a
    count from 0 with ends from 1, and pictures depend on it.
    """

    ends: tuple[int, ...]
    texts: tuple[str, ...]

    def index(self, evaluation: int) -> int:
        """Which text counts at this evaluation.

        Samplers that take more evaluations than were planned (DPM adaptive, Restart) go back to the *first* text, as in A1111.
        """
        found = bisect_left(self.ends, evaluation)
        return found if found < len(self.ends) else 0

    def at(self, evaluation: int) -> str:
        return self.texts[self.index(evaluation)]

    def cut(self, ends: Iterable[int]) -> Timeline:
        """The same with these ends too, at which its text goes on."""
        every = tuple(sorted({*self.ends, *(end for end in ends if 0 <= end < self.ends[-1])}))
        return Timeline(every, tuple(self.at(end) for end in every))

    @property
    def distinct(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.texts))


def timeline(text: str, steps: int, hires_steps: int | None = None, *, old: bool = False) -> Timeline:
    """Work out `[a:b:when]` and `[a|b]` in `text`.

    Args:
        text: one prompt, or one side of AND.
        steps: of the first pass (see above for what a step is).
        hires_steps: None for the first pass.  With a number, the timeline is that of the second pass with so many steps:
            there, whole numbers of `when` go on counting from the first pass, and fractions from 1.0 to 2.0 belong to it.
        old: "Old prompt editing timelines": each pass by itself, numbers below 1 are fractions.

    >>> timeline("a [cat:dog:.25]", 20)
    Timeline(ends=(5, 20), texts=('a cat', 'a dog'))
    >>> timeline("[a:b:1]", 20), timeline("[a:b:1.0]", 20)
    (Timeline(ends=(1, 20), texts=('a', 'b')), Timeline(ends=(20,), texts=('a',)))
    >>> timeline("a [cat:dog:1.5]", 20, hires_steps=10)
    Timeline(ends=(5, 10), texts=('a cat', 'a dog'))
    """
    tree = scan(text)
    first_pass = hires_steps is None or old
    passed, whole = (0, 0.0) if first_pass else (steps, 1.0)
    total = steps if hires_steps is None or old else hires_steps

    def switches_at(when: str) -> int:
        value = float(when)
        if old:
            value *= total if value < 1 else 1
        elif "." in when:
            value = (value - whole) * total
        else:
            value -= passed
        return int(max(-1.0, min(total, value)))

    ends = {total}
    _collect(tree, switches_at, total, ends)
    ordered = sorted(ends)
    return Timeline(tuple(ordered), tuple("".join(_at(tree, end, switches_at)) for end in ordered))


def _collect(nodes: tuple[Node, ...], switches_at: Callable[[str], int], total: int, ends: set[int]) -> None:
    """Add every end that a construct brings in, also those of branches that are never taken."""
    for node in nodes:
        if isinstance(node, Switch):
            if (end := switches_at(node.when)) >= 1:
                ends.add(end)
            _collect(node.before, switches_at, total, ends)
            _collect(node.after, switches_at, total, ends)
        elif isinstance(node, Cycle):
            ends.update(range(1, total + 1))
            for option in node.options:
                _collect(option, switches_at, total, ends)


def _at(nodes: tuple[Node, ...], end: int, switches_at: Callable[[str], int]) -> Iterator[str]:
    """The pieces of the text that counts up to `end`."""
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, Switch):
            yield from _at(node.before if end <= switches_at(node.when) else node.after, end, switches_at)
        else:
            yield from _at(node.options[(end - 1) % len(node.options)], end, switches_at)
