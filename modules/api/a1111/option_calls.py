"""A call as options see it: for which calls an option that is not built would make a difference.

Where A1111 would paint the same picture with and without an option, the option is no reason to refuse the call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from modules.app import App
from modules.catalogue import PROMPT_FIELDS
from modules.diffusion.samplers import Sampler, find_sampler

WINDOW = 75
"""Tokens of a prompt that CLIP reads at a time."""


@dataclass(frozen=True)
class Call:
    """`fields` are those of our request, as `translate` made them; `image` and `masked` say what it starts from."""

    app: App
    fields: Mapping[str, Any]
    image: bool
    masked: bool

    @cached_property
    def sampler(self) -> Sampler:
        return find_sampler(self.fields["sampler"])[0]

    @cached_property
    def texts(self) -> str:
        return f"{self.fields.get('prompt', '')}\n{self.fields.get('negative_prompt', '')}"

    @cached_property
    def windows(self) -> tuple[int, int]:
        """How often CLIP reads the longest text of the prompt, and of the negative prompt."""
        check = self.app.check_prompt({name: self.fields[name] for name in PROMPT_FIELDS if name in self.fields})
        return check.limit // WINDOW, check.negative_limit // WINDOW


def always(call: Call) -> bool:
    return True


def image(call: Call) -> bool:
    return call.image


def masked(call: Call) -> bool:
    return call.masked


def several(call: Call) -> bool:
    return bool(call.fields.get("count", 1) > 1)


def emphasised(call: Call) -> bool:
    """A bracket may have come with a style or a wildcard."""
    return bool(re.search(r"[()\[\]]", call.texts) or call.fields.get("styles") or "__" in call.texts)


def long(call: Call) -> bool:
    return max(call.windows) > 1


def old_emphasis(call: Call) -> bool:
    return emphasised(call) or long(call)


def uneven(call: Call) -> bool:
    ours, theirs = call.windows
    return ours != theirs or (ours > 1 and bool(re.search(r"\bAND\b|\[", call.texts)))


def k_diffusion(call: Call) -> bool:
    return not call.sampler.unit_start


def karras(call: Call) -> bool:
    schedule = call.fields.get("schedule", "Automatic")
    return k_diffusion(call) and (call.sampler.default_schedule if schedule == "Automatic" else schedule) == "Karras"


def brownian(call: Call) -> bool:
    return call.sampler.brownian


def second_order(call: Call) -> bool:
    """And the prompt changes on the way."""
    return call.sampler.stages > 1 and "[" in call.texts


def uni_pc(call: Call) -> bool:
    return call.sampler.name.startswith("UniPC")
