"""Error responses: the status of each of our errors, and the body in the shape that the caller knows.

A1111 1.10.1 answers every error as {error, detail, body, errors}, and its clients show `detail`; our own page and API say
{error} and nothing else.  Neither ever echoes what was sent.
"""

from __future__ import annotations

import math

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from modules.accounts import AccountsUnavailable
from modules.errors import (
    AtelierError,
    EngineError,
    ExtensionError,
    LimitError,
    OutputError,
    QueueError,
    RequestError,
    without_folders,
)

A1111_PATHS = ("/sdapi/", "/controlnet/", "/internal/progress", "/internal/pending-tasks", "/internal/ping", "/queue/status")
"""Paths of A1111's API, of its ControlNet extension, and of what its clients call beside them."""

_STATUS: dict[type[Exception], int] = {
    RequestError: 422,
    ExtensionError: 422,
    LimitError: 429,
    EngineError: 503,
    QueueError: 503,
    AccountsUnavailable: 503,
    OutputError: 507,
}


class ErrorResponse(BaseModel):
    """The body of an error response."""

    error: str = Field(description="What was asked, what was found, what to do.")


class A1111ErrorResponse(BaseModel):
    """The body of an error response of A1111's API."""

    error: str = Field(description="The kind of error.")
    detail: str = Field(description="What was asked, what was found, what to do.")
    body: str = Field(description="Always empty: nothing that was sent is echoed.")
    errors: str = Field(description="The status and the detail.")


def error_response_for(request: Request, error: Exception) -> Response:
    """The answer to a request that ended in one of our errors or in an HTTPException."""
    if isinstance(error, HTTPException):
        return error_response(request.url.path, error.status_code, str(error.detail), dict(error.headers or {}))
    assert isinstance(error, AtelierError)
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    headers = {"retry-after": str(math.ceil(error.retry_after))} if isinstance(error, LimitError) else {}
    return error_response(request.url.path, status, without_folders(str(error)), headers)


def error_response(path: str, status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(error_body(path, status, reason), status_code=status, headers=headers)


def error_body(path: str, status: int, reason: str) -> dict[str, str]:
    """
    >>> error_body("/api/v1/jobs", 404, "There is no such job.")
    {'error': 'There is no such job.'}
    """
    if path.startswith(A1111_PATHS):
        return A1111ErrorResponse(error="HTTPException", detail=reason, body="", errors=f"{status}: {reason}").model_dump()
    return ErrorResponse(error=reason).model_dump()


def caller(request: Request) -> str:
    """Whose request it is.

    Raises:
        RequestError: nobody knows.
    """
    user: str = request.state.user
    if not user:
        raise RequestError("nobody knows whose job this would be: keep the cookie of the first answer and send it along")
    return user


def only_administrators(request: Request) -> None:
    """
    Raises:
        HTTPException: 403, the caller is none.
    """
    if getattr(request.state, "role", "user") != "administrator":
        raise HTTPException(403, "only an administrator may do this")
