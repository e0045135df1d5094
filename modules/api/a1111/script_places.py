"""An argument of a script of A1111's, which has its place among the others and no name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """An argument: our option's name, A1111's label, what it is unless it is sent, and what can be chosen."""

    option: str
    label: str
    value: Any
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: Callable[[bool], list[str]] | None = None

    def described(self, image: bool) -> dict[str, Any]:
        shown = {"label": self.label, "value": self.value, "minimum": self.minimum, "maximum": self.maximum, "step": self.step}
        return {**shown, "choices": self.choices(image) if self.choices else None}


def one_of(*words: str) -> Callable[[bool], list[str]]:
    return lambda _image: list(words)
