"""Bodies of API requests: a JSON object as clean Python data, and a model of it with the reason in words when it does not fit.

What comes in is parsed on a thread, because pictures travel in it as text, tens of megabytes at a time.  Nothing that was
sent is ever echoed unread: lone surrogates and control characters are gone before anything else sees the data.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import anyio.to_thread
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from modules.errors import RequestError
from modules.request import clean_text

M = TypeVar("M", bound=BaseModel)

MAX_DEPTH = 32
"""Levels of lists and objects in one another."""


async def read_json(request: Request) -> dict[str, Any]:
    """The request's JSON object; an empty body is an empty object.

    Only as application/json: no other site's page can send that without being asked first.

    Raises:
        HTTPException: 415, it says to be something else.
        RequestError: it is not valid JSON, no object, or nested too deeply.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if not body:
        return {}
    if kind != "application/json":
        raise HTTPException(415, "send the request as JSON, with the header Content-Type: application/json")
    return await anyio.to_thread.run_sync(parse_json, body)


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`, its texts clean.

    Raises:
        RequestError: see `read_json`.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("the request is not valid JSON") from None
    if not isinstance(data, dict):
        raise RequestError("the request must be a JSON object")
    return dict(_clean(data, MAX_DEPTH))


def _clean(data: Any, depth: int) -> Any:
    if depth < 0:
        raise RequestError(f"the request is nested more than {MAX_DEPTH} levels deep")
    if isinstance(data, str):
        return clean_text(data)
    if isinstance(data, list):
        return [_clean(value, depth - 1) for value in data]
    if isinstance(data, dict):
        return {clean_text(key): _clean(value, depth - 1) for key, value in data.items()}
    return data


def fitted(model: type[M], data: dict[str, Any]) -> M:
    """`data` as a `model`; fields that it does not know are its own affair.

    Raises:
        RequestError: one clause per field that does not fit: its name, what is wrong, what was given.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise RequestError("; ".join(_explained(e) for e in error.errors(include_url=False))) from None


def _explained(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"]) or "request"
    said = str(error["msg"]).removeprefix("Value error, ")
    said = said[:1].lower() + said[1:]
    if error["type"] == "missing":
        return f"{name}: is needed"
    given = repr(error["input"])
    return f"{name}: {said}; {given if len(given) <= 60 else given[:57] + '...'} was given"
