"""From untrusted or stored fields to a request, and what is wrong with them in the user's words."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import ValidationError

from modules.errors import RequestError
from modules.request.explaining import allowed, explained
from modules.request.hires import Hires
from modules.request.kinds import MAX_STYLES
from modules.request.requests import GenerationRequest, Img2Img, Txt2Img
from modules.request.upscaling import Upscaling
from modules.roles import Role, picture_name


def parse_request(fields: dict[str, Any]) -> GenerationRequest:
    """A request from untrusted fields; one with `pictures` (or a `source`) starts from them, one with `upscaler_1` enlarges.

    Raises:
        RequestError: one line per bad field, saying what was given and what is allowed.
    """
    return _parse(fields, stored=False)


def _parse(fields: dict[str, Any], stored: bool) -> GenerationRequest:
    kind: type[Txt2Img] = Img2Img if "source" in fields or "pictures" in fields else Txt2Img
    kind = Upscaling if "upscaler_1" in fields else kind
    try:
        return kind.model_validate(fields, context={"stored": stored})
    except ValidationError as error:
        problems = error.errors(include_url=False)
        explained = dict.fromkeys(_explain(problem, fields, kind) for problem in problems)  # a box may be wrong four times
        raise RequestError("; ".join(explained)) from None


def parse_stored(fields: dict[str, Any]) -> GenerationRequest:
    """A request that some version of this program stored.  What a field means that it did not have yet is what it did then.

    Texts were taken as they are and UniPC ran exactly the steps that were asked for until `raw_text` came, with which records
    tell the two times apart.  Options of extensions that are not installed are kept as they are.

    Raises:
        RequestError: as `parse_request`.
    """
    before = {} if "raw_text" in fields or "upscaler_1" in fields else {"raw_text": True, "exact_steps": True}
    return _parse({**before, **fields}, stored=True)


def _explain(error: Any, fields: dict[str, Any], kind: type[Txt2Img]) -> str:
    name = str(error["loc"][0]) if error["loc"] else "request"
    if name == "pictures":
        name = picture_name(error["loc"], fields)
    if error["type"] == "extra_forbidden":
        return f"{'.'.join(map(str, error['loc'][:2])) if name == 'hires' else name}: there is no such field"
    if name == "request" or (error["type"] == "value_error" and name in ("pictures", "extensions", "kept_extensions")):
        return str(error["msg"]).removeprefix("Value error, ")
    if name == "styles" and error["type"] == "too_long":
        return f"styles: at most {MAX_STYLES} names, {len(error['input'])} were given"
    if name == "hires" and len(error["loc"]) > 1:
        return _explain_hires(error)
    if error["type"] == "missing" and len(error["loc"]) == 1:
        return f"{name}: must be {_allowed(name)}, none was given"
    if words := _allowed(name):
        given = fields[name] if name in ("box", "source") else error["input"]
        return f"{name}: must be {words}, {repr(given)[:60]} was given"
    return explained(kind if kind is Upscaling else Img2Img, error)


def _explain_hires(error: Any) -> str:
    name = str(error["loc"][1])
    if error["type"] == "missing":
        return f"hires.{name}: must be {allowed(Hires, name)}, none was given"
    return explained(Hires, {**error, "loc": error["loc"][1:]}, "hires.")


def _allowed(name: str) -> str:
    """What a field takes whose declaration has no words for it, "" for any other."""
    if name.endswith(("source", "mask", "pictures.init")):
        return "the id of a picture that was sent before, 64 hexadecimal digits"
    if name == "pictures" or name.startswith("pictures."):
        return f"ids of pictures by role ({', '.join(get_args(Role))})"
    if name == "hires":
        return f"an object with the fields of a second pass ({', '.join(Hires.model_fields)})"
    if name == "extensions":
        return "an object with an object of options for each extension"
    if name == "kept_extensions":
        return "an object with {version, options} for each extension"
    return "four whole numbers from 0 to 8192: x, y, width, height" if name == "box" else ""
