"""What the source of a model means: a Hugging Face repository, a file in one, or a direct link.  No network, no torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

HUB = "https://huggingface.co"
SAFE = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
WEIGHTS = (SAFE, *PICKLES)
PIPELINE = "model_index.json"
"""The file that makes a repository a diffusers pipeline; named as the file to take, it means the whole pipeline."""
MAX_STEM = 150

_OWNER = re.compile(r"\w[\w.-]{0,95}")
_NAME = re.compile(r"(?P<name>\w[\w.-]{0,95})(?:@(?P<revision>[\w./-]{1,200}))?")
_WAYS = ("tree", "blob", "resolve", "raw")
_HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_FORBIDDEN = re.compile(r'[\\/:*?"<>|]')
_RESERVED = re.compile(r"(?i)(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")


@dataclass(frozen=True)
class Repository:
    """`name` is "owner/name"; an empty `revision` is the default branch, an empty `file` leaves the choice open."""

    name: str
    revision: str = ""
    file: str = ""


@dataclass(frozen=True)
class Link:
    url: str


def endpoint() -> str:
    """Where repositories are: $HF_ENDPOINT, else huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)


def shown(url: str) -> str:
    """An address as messages name it: without its query, in which tokens are sent."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.hostname or "", parts.path, "", ""))


def parse_source(text: str, file: str = "") -> Repository | Link:
    """`owner/name`, `owner/name@revision`, `owner/name/file`, a page of the hub, or the link of a file.

    Raises:
        ValueError: it is none of these; says what is expected.
    """
    text = text.strip()
    if not re.match(r"(?i)[a-z][a-z0-9+.-]*:", text):
        return _repository(text.split("/"), file)
    try:
        parts = urlsplit(text)
        known = origin(text) == origin(endpoint()) or (parts.hostname or "").lower() in _HUB_HOSTS
    except ValueError:
        raise ValueError("must be an address such as https://example.org/model.safetensors") from None
    if parts.scheme.lower() not in ("https", "http") or not parts.hostname or not text.isprintable() or " " in text:
        raise ValueError("must be owner/name of a Hugging Face repository, or a link that begins with https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must be a link without a name and a password in it")
    if known:
        return _page([unquote(part) for part in parts.path.strip("/").split("/")], file)
    if file:
        raise ValueError("is the link of one file; file is for repositories, so leave it empty")
    return Link(text)


def _page(parts: list[str], file: str) -> Repository:
    if parts[0] in ("datasets", "spaces", "api", "collections", "papers"):
        raise ValueError(f"must be the page of a model, and this is one of {parts[0]}")
    if len(parts) > 3 and parts[2] in _WAYS:
        name, (revision, *rest) = "/".join(parts[:2]), parts[3:]
        return _repository([*name.split("/")[:1], f"{parts[1]}@{revision}", *(rest if parts[2] != "tree" else [])], file)
    return _repository(parts[:2], file)


def _repository(parts: list[str], file: str) -> Repository:
    found = _NAME.fullmatch(parts[1]) if len(parts) > 1 else None
    if found is None or not _OWNER.fullmatch(parts[0]):
        raise ValueError(
            "must be owner/name of a Hugging Face repository, owner/name/file, or a link that begins with https://"
        )
    inside = "/".join(parts[2:])
    if inside and file and inside != file:
        raise ValueError(f"names the file {inside}, and file another one")
    inside = inside or file.strip()
    if inside and not is_inside(inside):
        raise ValueError("must name a file inside the repository, such as folder/model.safetensors")
    return Repository(f"{parts[0]}/{found['name']}", found["revision"] or "", inside)


def is_inside(path: str) -> bool:
    """Whether a path of a repository stays in the folder that it is written into, on every system."""
    parts = path.split("/")
    return (
        len(path) <= 1000
        and path.isprintable()
        and all(part and not part.startswith(".") and not _FORBIDDEN.search(part) for part in parts)
        and not any(_RESERVED.fullmatch(part) or part.endswith((".", " ")) for part in parts)
    )


def safe_name(text: str) -> str:
    """A file's name out of what a server or an address says, without folders; "" where nothing is left of it.

    >>> safe_name("../../etc/passwd"), safe_name("C:\\\\x\\\\ink?.safetensors"), safe_name(".."), safe_name("nul.ckpt")
    ('passwd', 'ink_.safetensors', '', '_nul.ckpt')
    """
    name = re.split(r"[/\\]", text)[-1]
    name = _FORBIDDEN.sub("_", "".join(c for c in name if c.isprintable())).lstrip(". ").rstrip(". ")
    suffix = next((each for each in WEIGHTS if name.lower().endswith(each)), "")
    stem = name[: len(name) - len(suffix)].rstrip(". ")[:MAX_STEM]
    while len(stem.encode()) > 220:
        stem = stem[:-1]
    if not stem:
        return ""
    return ("_" if _RESERVED.fullmatch(stem) else "") + stem + suffix
