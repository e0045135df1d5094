"""Bodies of API requests: a JSON object as clean Python data, and a model of it with the reason in words when it does not fit.

Pictures travel in it as text, tens of megabytes at a time: `json_reader` bounds what they cost.  Nothing that was sent is ever
echoed unread: lone surrogates and control characters are gone before anything else sees the data.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import anyio.lowlevel
import anyio.to_thread
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from modules.api.guard.json_reader import LONG, SLICE, JsonReader
from modules.errors import RequestError
from modules.request import clean_text

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request) -> dict[str, Any]:
    """The request's JSON object; an empty body is an empty object.

    Only as application/json: no other site's page can send that without being asked first.

    Raises:
        HTTPException: 415, it says to be something else.
        RequestError: it is not valid JSON, no object, nested too deeply, or of too many values.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    reader, empty = JsonReader(clean_text), True
    async for data in request.stream():
        if data and empty and kind != "application/json":
            raise HTTPException(415, "send the request as JSON, with the header Content-Type: application/json")
        for start in range(0, len(data), SLICE):
            empty = False
            reader.feed(data[start : start + SLICE])
            await anyio.lowlevel.checkpoint()  # a large body lets other requests run in between
    return {} if empty else await anyio.to_thread.run_sync(_object, reader)


def _object(reader: JsonReader) -> dict[str, Any]:
    data = reader.value()
    if not isinstance(data, dict):
        raise RequestError("the request must be a JSON object")
    return {clean_text(key): value if isinstance(value, float) else _clean(value) for key, value in data.items()}


def _clean(data: Any) -> Any:
    """With clean texts.  NaN and infinity, which Python's parser takes, become null, as JavaScript writes them: what stands in
    lists and objects is passed on and echoed, and an answer must be JSON.  A field that is such a number is refused by name."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, str):
        return data if len(data) > LONG else clean_text(data)  # long ones were cleaned as they came in
    if isinstance(data, list):
        return [_clean(value) for value in data]
    if isinstance(data, dict):
        return {clean_text(key): _clean(value) for key, value in data.items()}
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
