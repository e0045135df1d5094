"""What is known about one finished picture: the request for it alone, and the facts found while it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from modules.request import GenerationRequest


@dataclass(frozen=True)
class GenerationInfo:
    """Everything that is known about one picture: the request for it alone, and the facts found while it was made.

    `request` has its seed resolved and count 1.  `model_hash` is the first 10 hex digits of the file's SHA-256.
    `schedule_label` is the schedule that was used ("Karras" where the request said "Automatic" and that meant Karras).
    `version` names the program ("Atelier 0.1.0").  `extras` are further items of the text, in order.  `facts` (device, dtype,
    library versions, timings) go to the record only.
    """

    request: GenerationRequest
    model_name: str
    model_hash: str
    schedule_label: str
    version: str
    extras: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.request.seed < 0 or self.request.count != 1:
            raise ValueError(f"one picture with its own seed is described, not seed {self.request.seed} x {self.request.count}")
