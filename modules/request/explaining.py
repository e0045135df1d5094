"""What is wrong with a field, in the user's words: what it takes, from its declaration, and what was given."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from modules.fields import bounds_of, kind_of, shortest

_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def explained(model: type[BaseModel], error: Any, prefix: str = "") -> str:
    """A sentence for one of pydantic's errors in a field of `model`; `prefix` comes before the field's name."""
    if not error["loc"] or error["loc"][0] not in model.model_fields:
        return prefix.rstrip(".") + ": " * bool(prefix) + str(error["msg"]).removeprefix("Value error, ")
    name = str(error["loc"][0])
    if "too_long" in error["type"] and isinstance(error["input"], str):
        return f"{prefix}{name}: at most {error['ctx']['max_length']:,} characters, {len(error['input']):,} were given"
    return f"{prefix}{name}: must be {allowed(model, name)}, {repr(error['input'])[:60]} was given"


def allowed(model: type[BaseModel], name: str) -> str:
    """What a field takes, in words."""
    kind, bounds = kind_of(model, name), bounds_of(model, name)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    text = _KINDS.get(kind, "a value of its kind")
    if bounds.multiple_of:
        text = f"a multiple of {bounds.multiple_of}"
    if bounds.ge is None or bounds.le is None:
        return text
    return f"{text} from {shortest(bounds.ge)} to {shortest(bounds.le)}"
