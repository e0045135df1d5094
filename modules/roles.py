"""Pictures by role: what a request needs each of its pictures for, and how requests name them.

Requests, messages and records have `pictures: {role: id}`.  Clients, and whatever older versions stored, have a field for each
role instead; both are read everywhere, and told to clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Role = Literal["init", "mask"]
"""What a request needs a picture for: to start from, and to say which part of it is repainted."""
ROLE_FIELDS: dict[str, str] = {"source": "init", "mask": "mask"}
"""The names that clients and older versions have for the pictures of these roles: fields of their own."""
FIELD_OF_ROLE = {role: name for name, role in ROLE_FIELDS.items()}


def by_role(fields: Any) -> Any:
    """`fields` of a request with its pictures by role, whichever way they name them.

    Raises:
        ValueError: they name two different pictures for one role.
    """
    if not isinstance(fields, dict) or not ROLE_FIELDS.keys() & fields.keys():
        return fields
    rest = {name: value for name, value in fields.items() if name not in ROLE_FIELDS}
    named = {role: fields[name] for name, role in ROLE_FIELDS.items() if fields.get(name) is not None}
    given = rest.get("pictures") or {}
    if not isinstance(given, dict):
        return rest
    for name, role in ROLE_FIELDS.items():
        if role in named and given.get(role, named[role]) != named[role]:
            raise ValueError(f"{name} and pictures.{role} name two pictures; send one of them")
    return {**rest, "pictures": {**given, **named}}


def with_role_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Dumped `fields` of a request with its pictures also under the names that clients know, `source` and `mask`."""
    if "pictures" not in fields:
        return fields
    return {**fields, **{name: fields["pictures"].get(role) for name, role in ROLE_FIELDS.items()}}


def as_role_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Dumped `fields` of a request with its pictures under the names `source` and `mask` alone, which forms have."""
    return {name: value for name, value in with_role_fields(fields).items() if name != "pictures"}


def allow_role_fields(schema: dict[str, Any]) -> None:
    """Make the JSON schema of a request that needs pictures say both ways of naming them."""
    identity = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    schema["properties"] |= {name: {**identity, "description": f"pictures.{role}"} for name, role in ROLE_FIELDS.items()}
    schema["required"] = [name for name in schema.get("required", []) if name != "pictures"]
    schema["anyOf"] = [{"required": ["pictures"]}, {"required": ["source"]}]


def needs_init(pictures: dict[Role, str]) -> dict[Role, str]:
    """`pictures`, which must have one to start from.

    Raises:
        ValueError: they have none.
    """
    if "init" not in pictures:
        raise ValueError("pictures: there is no init, the picture to start from")
    return pictures


def picture_name(location: Sequence[Any], fields: dict[str, Any]) -> str:
    """What `fields` call the picture in which a validator found an error at `location` ("pictures", role)."""
    role = location[1] if len(location) > 1 else "init"
    named = next((name for name, of in ROLE_FIELDS.items() if of == role and name in fields), "")
    return named or ".".join(map(str, location[:2]))
