"""What a built-in style's pictures show: prompts of what the checkpoint's file says that it can draw."""

from __future__ import annotations

import random
from collections.abc import Sequence

from modules.checkpoints.files import CheckpointInfo
from modules.errors import RequestError

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "black")
_FORMS = (
    ("{0}", 0.6),
    ("{0} and {1}", 0.2),
    ("{0} on {2} background", 0.1),
    ("{3}", 0.1),
)


def drawn_prompts(model: CheckpointInfo, count: int, seed: int) -> list[str]:
    """`count` prompts: of the file's motifs, alone, in pairs, on a ground or in a colour; else its example prompts, repeated.

    Raises:
        RequestError: the file's metadata lists neither.
    """
    if model.motifs:
        return _of_motifs(model.motifs, count, random.Random(f"prompts {seed}"))
    if model.prompts:
        return [model.prompts[index % len(model.prompts)] for index in range(count)]
    raise RequestError(
        f"--style: {model.path.name} lists neither motifs nor prompts in its metadata; give a text file of prompts, one a "
        "line, with --prompts"
    )


def _of_motifs(motifs: Sequence[str], count: int, rand: random.Random) -> list[str]:
    order = rand.sample(motifs, len(motifs))
    prompts = []
    for index in range(count):
        first, second = order[index % len(order)], rand.choice(motifs)
        form = rand.choices([form for form, _ in _FORMS], [share for _, share in _FORMS])[0]
        colour = rand.choice(COLOURS)
        prompts.append(form.format(article(first), article(second), article(colour), article(f"{colour} {first}")))
    return prompts


def article(name: str) -> str:
    """With "a" or "an"; a plural has none.

    >>> article("owl"), article("fox"), article("glasses"), article("compass")
    ('an owl', 'a fox', 'glasses', 'a compass')
    """
    if name.endswith("s") and not name.endswith("ss"):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
