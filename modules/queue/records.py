"""A job and a picture as the job list keeps them, and how they are read from its rows.

Plain frozen data.  What a stored request of another version still says is shown here; whether it may be run is decided by the
store when it takes up its jobs.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, cast

from modules.errors import RequestError
from modules.request import GenerationRequest, Txt2Img, parse_request, parse_stored
from modules.roles import by_role

State = Literal["queued", "running", "done", "failed", "cancelled"]
Outcome = Literal["done", "failed", "cancelled"]

OVER = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Picture:
    """A finished picture of a job.  `path` is below the outputs folder; `sha256` of the file in hex; sizes in pixels."""

    index: int
    path: str
    sha256: str
    infotext: str
    width: int
    height: int
    seed: int
    created: float


@dataclass(frozen=True)
class Job:
    """A request that a user submitted, and what became of it.

    `position` is the order of acceptance, never reused; `place` the order of the queue, which owners may change.  Times are
    seconds since 1970, for people: nothing is ordered by them.  `attempts` counts the engines that died while they painted it,
    since its last finished picture.  `error` is for the user, "" without one.  `sent` is a digest of what was submitted, ""
    where it was not taken.
    """

    id: str
    user: str
    request: GenerationRequest
    state: State
    position: int
    place: int
    created: float
    started: float | None
    finished: float | None
    error: str
    attempts: int
    pictures: tuple[Picture, ...]
    sent: str = ""

    @property
    def over(self) -> bool:
        return self.state in OVER


def read_job(row: sqlite3.Row, pictures: list[sqlite3.Row]) -> Job:
    return Job(
        id=row["id"],
        user=row["user"],
        request=_request(row["request"]),
        state=cast(State, row["state"]),
        position=row["position"],
        place=row["place"],
        created=row["created"],
        started=row["started"],
        finished=row["finished"],
        error=row["error"],
        attempts=row["attempts"],
        pictures=tuple(read_picture(picture) for picture in pictures),
        sent=row["sent"],
    )


def read_picture(row: sqlite3.Row) -> Picture:
    return Picture(
        index=row["number"],
        path=row["path"],
        sha256=row["sha256"],
        infotext=row["infotext"],
        width=row["width"],
        height=row["height"],
        seed=row["seed"] % 2**64,
        created=row["created"],
    )


def signed(seed: int) -> int:
    """A seed of 64 bits as SQLite's integers hold it, which have a sign; `read_picture` brings it back.

    >>> signed(7), signed(2**64 - 1), signed(2**64 - 1) % 2**64 == 2**64 - 1
    (7, -1, True)
    """
    return seed - 2**64 if seed >= 2**63 else seed


def folded_prompt(text: str) -> str:
    """The prompt of a stored request without its case, for searching; "" where there is none."""
    try:
        prompt = json.loads(text)["prompt"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return prompt.casefold() if isinstance(prompt, str) else ""


def unreadable(text: str) -> str:
    """Why this version cannot carry out a stored request, "" when it can."""
    try:
        parse_stored(json.loads(text))
    except (RequestError, ValueError, TypeError) as error:
        return str(error)
    return ""


def _request(text: str) -> GenerationRequest:
    """The stored request.  One of another version is shown as far as it is understood."""
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        return Txt2Img()
    with suppress(RequestError):
        return parse_stored(data)
    with suppress(ValueError):
        data = by_role(data)
    start = {"pictures": data["pictures"]} if "pictures" in data and _makes_sense({"pictures": data["pictures"]}) else {}
    understood = {name: value for name, value in data.items() if _makes_sense({**start, name: value})}
    return parse_request({**understood, "count": 1})


def _makes_sense(fields: dict[str, Any]) -> bool:
    try:
        parse_request(fields)
    except RequestError:
        return False
    return True
