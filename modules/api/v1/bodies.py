"""What the native API is sent, for its documentation: the schemas of jobs and pictures, with examples."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from modules.api.schema import inlined
from modules.request import EXTENSIONS, Img2Img, RequestExtension, Txt2Img, Upscaling
from modules.request.upscaling import OWN_FIELDS
from modules.roles import ROLE_FIELDS

_WORDS = {"prompt": "a red apple on a blue background", "seed": 7, "count": 2}
_EXAMPLES = {
    "words": {"summary": "A picture from words", "value": _WORDS},
    "picture": {
        "summary": "A picture from a picture that was sent to /api/v1/sources",
        "value": {**_WORDS, "pictures": {"init": "0" * 64}, "denoising_strength": 0.6},
    },
    "larger": {
        "summary": "Such a picture at another size, without painting",
        "value": {"pictures": {"init": "0" * 64}, "upscaler_1": "Lanczos", "upscale_by": 2},
    },
}


def job_body(key: bool = True) -> dict[str, Any]:
    """Of a job, with its `key` or without: a request of any kind.  Defaults are left out, because the checkpoint's own come
    before them."""
    named = {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "maxLength": 200},
        "description": "Your own name for the job.",
    }
    kinds = _job_schemas(tuple(EXTENSIONS.values()))
    content = {"application/json": {"schema": {"anyOf": kinds}, "examples": _EXAMPLES}}
    return {"requestBody": {"required": True, "content": content}, "parameters": [named] if key else []}


@lru_cache(maxsize=2)
def _job_schemas(extensions: tuple[RequestExtension, ...]) -> list[dict[str, Any]]:
    """The JSON schemas of requests of each kind, which several routes describe; their field `extensions` lists `extensions`."""
    schemas = [Txt2Img.model_json_schema(), Img2Img.model_json_schema(), Upscaling.model_json_schema()]
    own = schemas[2]["properties"]
    schemas[2]["properties"] = {name: own[name] for name in (*OWN_FIELDS, *ROLE_FIELDS) if name in own}
    return [inlined(schema, schema.pop("$defs", {})) for schema in schemas]


def picture_body() -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    kinds = ("image/png", "image/jpeg", "image/webp", "image/avif", "application/octet-stream")
    return {"requestBody": {"required": True, "content": dict.fromkeys(kinds, binary)}}
