"""Our JSON record of a picture: everything that made it, without the losses of the text form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from modules.errors import RequestError
from modules.images.infotext_info import GenerationInfo
from modules.request import GenerationRequest, Img2Img, Upscaling, clean_text, parse_stored

RECORD_FORMAT = 5
"""Version of the JSON record; raised when an older reader would misunderstand it.  2 has pictures by role and second passes, 3
options of extensions, 4 pictures that were only enlarged, 5 options of extensions that were not in use; a record with none of
them is one of format 1, so that older readers go on reading it."""


def render_record(info: GenerationInfo, job: str = "", index: int = 0) -> str:
    """The complete JSON record of picture `index` of `job`: request, facts, versions.  Nothing is lost to the text form."""
    record = {
        "format": _format(info.request),
        "version": info.version,
        "job": job,
        "index": index,
        "request": info.request.model_dump(mode="json"),
        "model": {"name": info.model_name, "hash": info.model_hash},
        "schedule": info.schedule_label,
        "extras": dict(info.extras),
        "facts": dict(info.facts),
    }
    return clean_text(json.dumps(record, ensure_ascii=False, separators=(",", ":")))


def _format(request: GenerationRequest) -> int:
    if isinstance(request, Upscaling):
        return 4
    if request.kept_extensions:
        return 5
    return 3 if request.extensions else 2 if isinstance(request, Img2Img) or request.hires else 1


@dataclass(frozen=True)
class Record:
    """A picture's own account of itself: which job and which picture of it, and how it was made."""

    info: GenerationInfo
    job: str
    index: int


def parse_record(text: str) -> Record:
    """The record that `render_record` wrote.

    Raises:
        RequestError: not a record, one of a newer program, or one whose request makes no sense.
    """
    try:
        data = json.loads(text)
        if isinstance(data["format"], bool) or data["format"] not in range(1, RECORD_FORMAT + 1):
            found = repr(data["format"])[:20]
            raise RequestError(f"the picture's record has format {found}; this program reads up to {RECORD_FORMAT}")
        info = GenerationInfo(
            request=_recorded_request(data["request"]),
            model_name=_string(data["model"]["name"]),
            model_hash=_string(data["model"]["hash"]),
            schedule_label=_string(data["schedule"]),
            version=_string(data["version"]),
            extras={_string(key): _string(value) for key, value in data["extras"].items()},
            facts={_string(key): _string(value) for key, value in data["facts"].items()},
        )
        if not isinstance(index := data["index"], int) or not 0 <= index < 1 << 31:
            raise ValueError("not a picture's number")
        return Record(info, _string(data["job"]), index)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RequestError("the picture's record is damaged or was not written by this program") from None


def _recorded_request(value: Any) -> GenerationRequest:
    try:
        return parse_stored(value)
    except RequestError as error:
        raise RequestError(f"the request in the picture's record makes no sense here: {error}") from None


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, not {type(value).__name__}")
    return clean_text(value)
