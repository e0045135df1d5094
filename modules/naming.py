"""Patterns of file names and folders, with A1111's tags: `[seed]-[prompt_spaces]`, `[datetime<%Y-%m><Europe/Berlin>]`.

A pattern is parsed when it is set, and everything that is wrong with it is said then.  Rendering cannot fail and cannot leave
the folder: values hold no separators, and each part is made a name that Linux, macOS and Windows all accept.  Facts: A1111
v1.10.1, `modules/images.py` (`FilenameGenerator`).  Standard library only.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import string
import unicodedata
import zoneinfo
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

DEFAULT_NAME = "[time]-[job]-[index]-[seed]"
DEFAULT_FOLDER = "[date]"

MAX_PATTERN = 500
"""Characters of a pattern."""
MAX_FOLDERS = 8
"""Folders below each other that a pattern may make."""
MAX_BYTES = 150
"""UTF-8 bytes of a name without its suffix, or of a folder; with what makes it unique it stays below file systems' 255."""

_MAX_VALUE = 128  # characters of one tag's value, as in A1111
_MAX_WORDS = 8
_BETWEEN_WORDS = re.compile(rf"[\s{re.escape(string.punctuation)}]+")
_TAG = re.compile(r"\[([^\[\]]*)\]")
_CALL = re.compile(r"([A-Za-z_]+)((?:<[^<>]*>)*)")
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_DIRECTIVES = "aAbBcdfGHIjmMpSuUVwWxXyYzZ%"  # those that strftime knows on every platform
_FORBIDDEN = frozenset('<>:"/\\|?*#')
_NO_TEXT = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))  # control characters, directions, halves of pairs
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\.|$)")


@dataclass(frozen=True)
class Facts:
    """What a picture's name may tell.

    `when` is the job's creation, in seconds since 1970; `index` is the picture's place among the `count` of its job, from 0.
    `prompt` and `negative_prompt` are as painted, `own_prompt` is the prompt without the texts of its styles.  `schedule` is
    the schedule that was used, `denoising` None where nothing was denoised from a picture.  `image_hash` gives the SHA-256 of
    the pixels, in hex.
    """

    when: float
    job: str
    index: int
    count: int
    seed: int
    first_seed: int
    last_seed: int
    steps: int
    cfg: float
    width: int
    height: int
    sampler: str
    schedule: str
    model_name: str
    model_hash: str
    vae: str
    clip_skip: int
    prompt: str
    negative_prompt: str
    own_prompt: str
    styles: tuple[str, ...]
    denoising: float | None
    user: str
    image_hash: Callable[[], str]


Value = Callable[[Facts, Sequence[str]], "str | None"]
"""Of a tag and its <arguments>; None leaves out the text before the tag too."""


def _plain(read: Callable[[Facts], object]) -> Value:
    return lambda facts, _: str(read(facts))


def _of_several(read: Callable[[Facts], object]) -> Value:
    return lambda facts, _: str(read(facts)) if facts.count > 1 else None


def _hash(read: Callable[[Facts], str]) -> Value:
    return lambda facts, given: hashlib.sha256(read(facts).encode("utf-8", "replace")).hexdigest()[: _length(given)]


def _length(given: Sequence[str]) -> int:
    return int(given[0]) if given else 8


def _datetime(facts: Facts, given: Sequence[str]) -> str:
    zone = zoneinfo.ZoneInfo(given[1]) if len(given) > 1 and given[1] else None
    return datetime.fromtimestamp(facts.when, zone).strftime((given[0] if given else "") or "%Y%m%d%H%M%S")


def _words(facts: Facts, _: Sequence[str]) -> str:
    words = [word for word in _BETWEEN_WORDS.split(facts.prompt) if word]
    return " ".join(words[:_MAX_WORDS])


def _has_prompt(facts: Facts, given: Sequence[str]) -> str:
    prompt, found = facts.prompt.lower(), ""
    for each in given:
        word, _, otherwise = each.partition("|")
        found += word if word and word.lower() in prompt else otherwise
    return found


def _squeezed(text: str) -> str:
    return re.sub(r"\s", "_", text.strip())


_PLAIN: dict[str, Value] = {
    "seed": _plain(lambda facts: facts.seed),
    "seed_first": _plain(lambda facts: facts.first_seed),
    "seed_last": _plain(lambda facts: facts.last_seed),
    "steps": _plain(lambda facts: facts.steps),
    "cfg": _plain(lambda facts: f"{facts.cfg:g}"),
    "width": _plain(lambda facts: facts.width),
    "height": _plain(lambda facts: facts.height),
    "sampler": _plain(lambda facts: facts.sampler),
    "scheduler": _plain(lambda facts: facts.schedule),
    "sampler_scheduler": _plain(lambda facts: f"{facts.sampler} {facts.schedule}".strip()),
    "model_name": _plain(lambda facts: facts.model_name.rpartition("/")[2]),
    "model_hash": _plain(lambda facts: facts.model_hash),
    "vae_filename": _plain(lambda facts: facts.vae.rpartition("/")[2]),
    "clip_skip": _plain(lambda facts: facts.clip_skip),
    "styles": _plain(lambda facts: ", ".join(facts.styles) or "None"),
    "date": lambda facts, _: f"{datetime.fromtimestamp(facts.when):%Y-%m-%d}",
    "time": lambda facts, _: f"{datetime.fromtimestamp(facts.when):%H%M%S}",
    "job_timestamp": lambda facts, _: f"{datetime.fromtimestamp(facts.when):%Y%m%d%H%M%S}",
    "prompt": _plain(lambda facts: _squeezed(facts.prompt)),
    "prompt_spaces": _plain(lambda facts: facts.prompt.strip()),
    "prompt_no_styles": _plain(lambda facts: facts.own_prompt.strip()),
    "prompt_words": _words,
    "batch_number": _of_several(lambda facts: facts.index + 1),
    "batch_size": _of_several(lambda facts: facts.count),
    "generation_number": _of_several(lambda facts: facts.index + 1),
    "denoising": lambda facts, _: None if facts.denoising is None else f"{facts.denoising:g}",
    "user": _plain(lambda facts: facts.user),
    "none": lambda *_: "",
    "counter": lambda *_: "",  # A1111's number before the name, known only when the file is put in place
    "basename": lambda *_: None,  # of an enlarged picture's source, which a painted picture has not
    "job": lambda facts, _: re.sub("[^0-9A-Za-z]", "", facts.job)[:8],
    "index": _plain(lambda facts: f"{facts.index:03d}"),
}

_HASHES: dict[str, Value] = {
    "prompt_hash": _hash(lambda facts: facts.prompt),
    "negative_prompt_hash": _hash(lambda facts: facts.negative_prompt),
    "full_prompt_hash": _hash(lambda facts: f"{facts.prompt} {facts.negative_prompt}"),
    "image_hash": lambda facts, given: facts.image_hash()[: _length(given)],
}

TAGS: dict[str, Value] = {**_PLAIN, **_HASHES, "datetime": _datetime, "hasprompt": _has_prompt}
"""By name, without brackets.  `time`, `job` and `index` are ours, and `counter`, which A1111 has as a setting of its own; the
others are A1111's."""

KNOWN_BEFORE = frozenset(
    (
        *("seed", "seed_first", "seed_last", "steps", "cfg", "width", "height", "sampler", "vae_filename", "clip_skip"),
        *("date", "time", "datetime", "job_timestamp", "batch_number", "batch_size", "generation_number", "denoising"),
        *("user", "none", "basename", "job", "index", "counter"),
    )
)
"""Tags whose values a job tells before it is painted; the others need the model, the drawn words or the pixels."""


@dataclass(frozen=True)
class _Call:
    tag: str
    given: tuple[str, ...]


_COUNTER = _Call("counter", ())


@dataclass(frozen=True)
class Pattern:
    """`parts` are folders below each other, or the one name: each of texts and tags."""

    text: str
    parts: tuple[tuple[str | _Call, ...], ...]

    @property
    def counts(self) -> bool:
        """Whether a running number comes before the name, which `render` leaves out."""
        return self.parts[:1] != () and self.parts[0][:1] == (_COUNTER,)

    @property
    def foreseeable(self) -> bool:
        """Whether the names, but for a running number, are known before the picture is."""
        return all(isinstance(each, str) or each.tag in KNOWN_BEFORE for part in self.parts for each in part)

    def render(self, facts: Facts) -> list[str]:
        """The parts as safe names, without those that are empty."""
        rendered = (safe_name(_rendered(part, facts)) for part in self.parts)
        return [name for name in rendered if name]


def _rendered(part: Sequence[str | _Call], facts: Facts) -> str:
    done, text = "", ""
    for each in part:
        if isinstance(each, str):
            text = each
            continue
        value = TAGS[each.tag](facts, each.given)
        if value is not None:
            done += text + value[:_MAX_VALUE]
        text = ""
    return done + text


def name_pattern(text: str) -> Pattern:
    """The pattern of a file's name, without suffix.

    Raises:
        ValueError: the rest of a sentence that begins "it must be": what is wrong, and what is known.
    """
    pattern = folder_pattern(text, "a name for files", _COUNTER)
    if len(pattern.parts) > 1:
        raise ValueError("a name without / and \\: folders belong into output_folder")
    if not any(isinstance(each, _Call) for part in pattern.parts for each in part):
        raise ValueError(f"a pattern with a tag such as [seed], so that names differ; known are {_known()}")
    return pattern


def folder_pattern(text: str, what: str = "a folder", leading: _Call | None = None) -> Pattern:
    """The pattern of a folder below the outputs, with / between folders; "" is the outputs folder itself.  `leading` may
    stand at its beginning alone, where it is given.

    Raises:
        ValueError: as for `name_pattern`.
    """
    if len(text) > MAX_PATTERN:
        raise ValueError(f"{what} of at most {MAX_PATTERN} characters")
    if not text.isprintable():
        raise ValueError(f"{what} of characters that can be seen")
    parts: list[list[str | _Call]] = [[]]
    at = 0
    for match in [*_TAG.finditer(text), None]:
        literal = text[at : match.start()] if match else text[at:]
        if "[" in literal or "]" in literal:
            raise ValueError(f"{what} whose brackets [ ] enclose one tag each; known are {_known()}")
        first, *others = re.split(r"[/\\]", literal)
        parts[-1].append(first)
        parts += [[each] for each in others]
        if match:
            parts[-1].append(_call(match[1], what))
            at = match.end()
    kept = tuple(tuple(each for each in part if each != "") for part in parts)
    kept = tuple(part for part in kept if part)
    if len(kept) > MAX_FOLDERS:
        raise ValueError(f"{what} with at most {MAX_FOLDERS} folders below each other")
    if _COUNTER in [each for part in kept for each in part][1 if leading else 0 :]:
        raise ValueError(f"{what} in which [counter] " + ("comes first, and once" if leading else "is not: it counts files"))
    if bad := next((part[0] for part in kept if part in (("..",), (".",))), None):
        raise ValueError(f"{what} inside of the outputs folder, without {bad!r}")
    return Pattern(text, kept)


def _call(inside: str, what: str) -> _Call:
    match = _CALL.fullmatch(inside)
    tag = match[1].lower() if match else ""
    if match is None or tag not in TAGS:
        near = difflib.get_close_matches(tag or inside.lower(), TAGS, n=1)
        hint = f"did you mean [{near[0]}]?" if near else f"known are {_known()}"
        raise ValueError(f"{what} of known tags; [{inside[:60]}] is none; {hint}")
    given = tuple(re.findall(r"<([^<>]*)>", match[2]))
    _check(tag, given, what)
    return _Call(tag, given)


def _check(tag: str, given: tuple[str, ...], what: str) -> None:
    if tag == "datetime" and len(given) <= 2:
        _check_format(given[0] if given else "", what)
        if len(given) > 1 and given[1]:
            try:
                zoneinfo.ZoneInfo(given[1])
            except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
                raise ValueError(f"{what} with a time zone such as Europe/Berlin, not {given[1][:60]!r}") from None
    elif tag == "hasprompt":
        if not given:
            raise ValueError(f"{what} with [hasprompt<word|otherwise>]")
    elif tag in _HASHES and len(given) <= 1:
        if given and not (given[0].isascii() and given[0].isdecimal() and 1 <= int(given[0][:4]) <= 64):
            raise ValueError(f"{what} with [{tag}<digits>], digits from 1 to 64")
    elif given:
        allowed = "a format and a time zone" if tag == "datetime" else "one number" if tag in _HASHES else "nothing"
        raise ValueError(f"{what} in which [{tag}] is followed by {allowed} in < >")


def _check_format(text: str, what: str) -> None:
    for directive in _DIRECTIVE.findall(text):
        if directive not in _DIRECTIVES or not directive:
            raise ValueError(f"{what} whose [datetime] has the directives % and one of {_DIRECTIVES}, not %{directive}")


def _known() -> str:
    return ", ".join(f"[{tag}]" for tag in sorted(TAGS))


def safe_name(text: str, limit: int = MAX_BYTES) -> str:
    r"""`text` as a name that every file system takes, of at most `limit` UTF-8 bytes; "" where nothing is left of it.

    >>> safe_name("../a: b?\n")
    '_.._a_ b__'
    >>> safe_name("con.txt"), safe_name(".hidden "), safe_name("...")
    ('_con.txt', '_.hidden', '')
    """
    text = unicodedata.normalize("NFC", text)
    text = "".join("_" if each in _FORBIDDEN or unicodedata.category(each) in _NO_TEXT else each for each in text)
    text = _cut(text.strip().rstrip(" ."), limit - 1)
    return "_" + text if text.startswith(".") or _RESERVED.match(text) else text


def _cut(text: str, limit: int) -> str:
    return text.encode("utf-8")[:limit].decode("utf-8", "ignore").rstrip(" .")
