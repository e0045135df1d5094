"""What /openapi.json says beyond what FastAPI finds out by itself: bodies that routes read on their own, and error responses.

`modules.api.guard.bodies` reads the bodies, so that they are parsed on a thread and refused in words; here they are described.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from modules.api.error_responses import A1111ErrorResponse, ErrorResponse

_REASONS = {
    400: "The request makes no sense as HTTP, or names a sampler that is not here.",
    401: "A token or a login is needed.",
    403: "Not with your role, or started by another site.",
    404: "There is no such thing of yours here.",
    413: "The request is too large.",
    415: "The body must be application/json (or a picture, where one is asked for).",
    421: "The server does not answer to this name.",
    422: "Something in the request cannot be done; the text says what, and what to do.",
    429: "Too many jobs or requests; Retry-After says when to come again.",
    431: "The request's headers are too large.",
    500: "A mistake of the server; its log has the details.",
    503: "The server is closing, or its engine cannot start.",
    507: "The disk is full or cannot be written.",
}


def error_responses(a1111: bool = False) -> dict[int | str, dict[str, Any]]:
    """The statuses that any route may answer, in the shape of our API or of A1111's.

    Only one of them names the class, which puts its schema among the components; the others refer to it there: FastAPI makes
    a validator of its own of each class, route and status, two thousand of which took half of the time to build the server.
    """
    model = A1111ErrorResponse if a1111 else ErrorResponse
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return {
        status: {"description": why, **({"model": model} if status == 422 else {"content": content})}
        for status, why in _REASONS.items()
    }


def body_of(model: type[BaseModel], example: dict[str, Any], required: bool = True) -> dict[str, Any]:
    """A route's `openapi_extra` for a JSON body that it reads itself."""
    content = {"application/json": {"schema": _inlined_schema(model), "example": example}}
    return {"requestBody": {"required": required, "content": content}}


@cache
def _inlined_schema(model: type[BaseModel]) -> Any:
    schema = model.model_json_schema()
    return inlined(schema, schema.pop("$defs", {}))


def inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A JSON schema with its definitions in the places that refer to them, so that it may stand anywhere."""
    if isinstance(schema, list):
        return [inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: inlined(value, definitions) for key, value in schema.items()}
