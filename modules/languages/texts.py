"""The texts that people see, read from the source: scripts, templates and Python of the page, declarations, and errors.

Nothing is imported: `python -m modules.languages` says in a second what a language file lacks.  A text that is put together has
its values as `{1}`, `{2}` … in the order in which they stand.  Standard library only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path

from modules.languages.javascript import literals

MODULES = Path(__file__).parents[1]
STATIC = MODULES / "ui" / "static"

_DECLARATIONS = ("About", "Preference", "Setting", "Axis", "FormField")
"""Calls whose texts are shown wherever they stand."""

_ERRORS = (*("request", "scripts", "ui", "preferences", "jobs", "accounts", "api/page", "gallery", "model_library", "prompts"),)
"""Where what is raised reaches the page."""
_ERROR_FILES = (
    *(
        "app",
        "catalogue/names",
        "catalogue/requests",
        "naming",
        "pipelines/region",
        "pipelines/denoisers",
        "pipelines/refining",
        "queue/store",
        "queue/scripts",
    ),
    *("images/containers", "images/decode", "images/outputs", "images/recipe", "images/uploads", "api/error_responses"),
)

_NOTES = (
    "prompts/check",
    "prompts/vocabulary",
    "jobs/worker",
    "preferences/server_settings",
    "scripts/axes",
    "jobs/memory",
    "model_library/kinds",
    "api/page/settings",
)
"""Where sentences for people are made that are no errors."""

_ATTRIBUTES = ("title", "placeholder", "aria-label", "alt")

_NO_TEXT_BEFORE = re.compile(
    r"""(\b(class|className|id|name|type|role|href|for|key|autocomplete|inputmode|method|"?keys?"?|"file"|"scope"|"shown"
    |"aria-keyshortcuts"|"aria-labelledby"|"data-\w+")\s*[:=]\s*(\[.*)?
    |\b(querySelector(All)?|closest|matches|\$|\.(add|remove|toggle|contains)|addEventListener|createElement|getElementById
    |setProperty|new\ (Custom)?Event|getAttribute|import|getItem|setItem|includes|startsWith|endsWith)\(\s*
    |\bkey\s*(===|!==)\s*|\bcase\s|\bfrom\s|\.key\s===\s|setAttribute\("(?!aria-label|title|placeholder)[\w-]+",\s*
    |\bh\(|\bimport\s)$""",
    re.VERBOSE,
)
_TEXT_BEFORE = re.compile(
    r"""(\b(textContent|title|placeholder|label|words|help)"?\s*[:=]\s*|"aria-label":\s*|\},\s*|setAttribute\("aria-label",\s*
    |\b(textContent|title|"aria-label")\s?[:=][^,;]*[?:]\s)$""",
    re.VERBOSE,
)
_CODE = re.compile(r"<|=>|\]\s|^[.#\[]|::|^:|[a-z]\.[a-z-]+ \.|^--|/v1/|internal/|;$|^\?|^/|&\w+=|^\w+\(|[a-z0-9]\{\d\}[a-z]")
_NAME = re.compile(
    r"[A-Za-z]+[a-z][A-Z]\w*|[A-Z][A-Z_0-9]+|[\w-]+:[\w:-]+|[\w/.{}\d-]+\.(js|css|html|py|toml)|[a-z]+(_[a-z]+)+"
)
_LOWER = re.compile(r"[a-z0-9_.#\-\[\]:*=\"'/ {}+~^$()?&%,|\\]*")


def key_of(text: str) -> str:
    """A text as it stands in a language file: in one line, its values numbered, those next to each other as one."""
    text = " ".join(text.split())
    text = re.sub(r"(\{\d+\})+", "{}", text)
    counter = iter(range(1, 100))
    return re.sub(r"\{\}", lambda _: f"{{{next(counter)}}}", text).strip()


def is_text(text: str, certain: bool = False) -> bool:
    """Whether people read it: there are words in it, and it is no name, selector or code; `certain`: it is shown."""
    words = re.sub(r"\{\d+\}", "", text)
    if not re.search("[A-Za-z]{2}", words) or _CODE.search(text) or _NAME.fullmatch(text):
        return False
    if certain:
        return True
    if re.search(r"(\{\d\}|^\d+) [a-z]{2,}$|^[a-z]{2,} \{\d\}", text):
        return True
    if _LOWER.fullmatch(text) and not re.search(r"[a-z]{2,},? [a-z]{2,}", words):
        return False
    return bool(re.search(r"^[A-Z{“(↙]|\s[a-z]|[a-z]{2,} |^[,:;.]", text))


def all_texts() -> dict[str, str]:
    """Every text that is shown, with the file in which it stands."""
    found: dict[str, str] = {}
    for path, text in _everything():
        key = key_of(text)
        if key and key not in NOT_SHOWN and re.search("[A-Za-z]", re.sub(r"\{\d+\}", "", key)):
            found.setdefault(key, path.relative_to(MODULES).as_posix())
    return found


def _everything() -> Iterator[tuple[Path, str]]:
    for path in sorted(STATIC.rglob("*.js")):
        yield from ((path, text) for text in of_javascript(path.read_text("utf-8")))
    for path in sorted(STATIC.rglob("*.html")):
        yield from ((path, text) for text in of_html(path.read_text("utf-8")))
    for path in sorted((MODULES / "ui").rglob("*.py")):
        yield from ((path, text) for text in of_python(path.read_text("utf-8")))
    for name in ("account_pages", "accounts"):
        path = MODULES / "api" / "page" / f"{name}.py"
        yield from ((path, text) for text in of_python(path.read_text("utf-8")))
    for path in sorted(MODULES.rglob("*.py")):
        if "training" not in path.parts:
            yield from ((path, text) for text in declared(path.read_text("utf-8")))
    for path in sorted((MODULES / "request").rglob("*.py")):
        yield from ((path, text) for text in choices(path.read_text("utf-8")))
    for name in _NOTES:
        path = MODULES / f"{name}.py"
        yield from ((path, text) for text in of_python(path.read_text("utf-8")) if not re.search("%[sdr]", text))
    for folder in _ERRORS:
        for path in sorted((MODULES / folder).rglob("*.py")):
            yield from ((path, text) for text in raised(path.read_text("utf-8")))
    for name in _ERROR_FILES:
        path = MODULES / f"{name}.py"
        yield from ((path, text) for text in raised(path.read_text("utf-8")))
    yield from ((MODULES / "languages" / "texts.py", text) for text in ELSEWHERE)


def of_javascript(source: str) -> Iterator[str]:
    for text, before in literals(source):
        if not _NO_TEXT_BEFORE.search(before):
            shown = text.strip()
            if is_text(shown, bool(_TEXT_BEFORE.search(before))):
                yield shown


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.quiet = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if name in _ATTRIBUTES and value]
        self.quiet += tag in ("code", "kbd", "style", "script")

    def handle_endtag(self, tag: str) -> None:
        self.quiet -= tag in ("code", "kbd", "style", "script")

    def handle_data(self, data: str) -> None:
        if not self.quiet:
            self.found.append(data)


def of_html(source: str) -> Iterator[str]:
    """Texts and attributes; a place `{}` in a template is a value."""
    reader = _Reader()
    reader.feed(source)
    for text in reader.found:
        shown = re.sub(r"\{\}|PREFIX|VERSION", "{1}", " ".join(text.split()))
        if is_text(shown, certain=True):
            yield shown


_QUIET_KEYWORDS = ("elem_id", "elem_classes", "js", "css", "name", "kind", "key", "autocomplete", "more")
_QUIET_CALLS = ("compile", "Font", "LocalFont", "getLogger", "replace", "report", "register", "elem_id", "get", "pop", "set")


def of_python(source: str) -> Iterator[str]:
    """The strings of a module of the page that are read by people; its HTML too."""
    tree = ast.parse(source)
    quiet: set[ast.AST] = set(_docstrings(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):  # that is for `raised`
            quiet.update(ast.walk(node))
        if isinstance(node, ast.keyword) and node.arg in _QUIET_KEYWORDS:
            quiet.update(ast.walk(node.value))
        if isinstance(node, ast.Call) and _called(node) in _QUIET_CALLS:
            quiet.update(each for argument in node.args for each in ast.walk(argument))
        if isinstance(node, (ast.FormattedValue, ast.Subscript, ast.Compare)):
            quiet.update(each for each in ast.walk(node) if isinstance(node, ast.Subscript))
        if isinstance(node, ast.JoinedStr):
            quiet.update(part for part in node.values if isinstance(part, ast.Constant))
    for node in ast.walk(tree):
        if node in quiet:
            continue
        text = _text(node)
        if "<" in text and ">" in text:
            yield from of_html(text)
        elif is_text(text.strip()) and not re.search(r"[{};]\s*$|\bvar\(|=>|\bdocument\.", text):
            yield text


def declared(source: str) -> Iterator[str]:
    """What declarations of fields, preferences and settings say of themselves."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _called(node) in _DECLARATIONS:
            named = _called(node) in ("Preference", "Setting")  # their first word is a name
            if _called(node) == "Setting" and node.args:
                yield _text(node.args[0]).replace("_", " ")
            words = [*node.args[named:], *(k.value for k in node.keywords if k.arg in ("label", "help", "group"))]
            yield from (text for text in map(_text, words) if is_text(text, certain=True))


def choices(source: str) -> Iterator[str]:
    """The words of declared choices, of those that are words."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
            yield from (text for text in map(_text, ast.walk(node.slice)) if is_text(text, certain=True) and "_" not in text)


def raised(source: str) -> Iterator[str]:
    """What is said where something is refused."""
    for node in ast.walk(ast.parse(source)):
        call = node.exc if isinstance(node, ast.Raise) else node.value if isinstance(node, ast.Return) else None
        if isinstance(call, ast.Call) and re.search(r"(Error|Name)$", _called(call)) and call.args:
            parts = call.args[0].values if isinstance(call.args[0], ast.BoolOp) else [call.args[0]]
            if isinstance(parts[0], ast.Call):  # several, joined
                parts = [each.elt for each in ast.walk(parts[0]) if isinstance(each, ast.GeneratorExp)]
            texts = (re.sub(r"^([a-z_.]+|(\{\d\})+): (?=\S)", "", _text(part)) for part in parts)
            yield from (text for text in texts if is_text(text.strip()))


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""


def _docstrings(tree: ast.AST) -> Iterable[ast.AST]:
    return (each.value for each in ast.walk(tree) if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))


def _text(node: ast.AST) -> str:
    """A string with its values numbered; "" for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if not isinstance(node, ast.JoinedStr):
        return ""
    text, number = "", 0
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
        else:
            number += 1
            quoted = isinstance(part, ast.FormattedValue) and part.conversion == ord("r")
            text += f"'{{{number}}}'" if quoted else f"{{{number}}}"
    return text


NOT_SHOWN = frozenset(
    {
        *("input:not([type=range], [type=color], [type=file]), textarea, select", "input, textarea, select", "textarea"),
        *("button, input, .drawing-candidates, .drawing-problem", "input, textarea, select, [contenteditable]"),
        *(
            "background-color 120ms, border-color 120ms, color 120ms",
            "Control+Enter Meta+Enter",
            "there is no tab %s to hide; there are %s",  # the log's
            "Escape",
            "Esc",
            "Home",
            "End",
        ),
        *("Alt+Enter", "Ctrl", "title none", "SAMPLERS SCHEDULES", "Remove LABEL", "False", "false", "true", "models/loras"),
        *("DPM++ 2M", "Karras", "Lanczos", "SD 1.x", "SD 2.x", "SD 3", "Flux", "SHA-256", "U-Net", "LoRA", "+ LoRA", "fp16"),
        *("Edg", "OPR/", "Firefox/", "Chrome/", "Safari/", "Edge", "Opera", "Firefox", "Chrome", "Safari", "Android"),
        *("Windows", "Mac OS", "Linux", "Mac", "Atelier", "{1} GB", "{1} MB", "{1} kB", "{1}: HTTP {2}", "{1} % · Atelier"),
        *("{1} – Atelier", "data", "outputs", "png", "auto", 'tag:cats album:"best of"', "red fox", '"red fox"'),
        *("Crop and stitch", "Hires", "True", "Infotext", "who hears was started", "a mask that is not empty has an edge"),
        *(
            "Nothing to {1}",
            'attachment; filename="preset.json"',
            "; this is {1} the pixels",
            "To",
            "Alt Enter",
            "Alt click",
            "Alt ← Alt →",
            "Arrows",
            "Arrows Home End Enter Space",
            "Ctrl A Ctrl Z",
            "Ctrl Enter",
        ),
        *("Ctrl V", "Ctrl Z", "Ctrl ↑ Ctrl ↓", "Enter", "Enter Space", "F 0 … 5 Delete", "Shift click", "Space", "Space drag"),
        *(
            "Tab",
            "Wheel, + −",
            "{1} cancel",
            "{1} down",
            "{1} min",
            "{1} remove",
            "{1} retry",
            "{1} times",
            "{1} up",
            "for {1}",
        ),
        *("{1} pass", "← ↑ → ↓ Home End PgUp PgDn", "← → Home End", "mask {1}", "loop {1}", "by {1}", "{1} bytes"),
        *("a {red|blue} __animal__", "SD 3, Flux", "txt2img, img2img, Inpaint", "img2img", "txt2img"),
        *("https://…/name.git", "the {1} any more", "{1} in which [counter]", "{1} too much for one request; {2}"),
        *("file differs", "files differ"),
    }
)
"""Names and data, which are the same in every language, and what only looks like a text."""

ELSEWHERE: tuple[str, ...] = (
    "engine",
    # why samplers, schedules and guidance make no sense with a family of checkpoints (checkpoints/families)
    "It walks down noise levels of its own, which are made for networks that predict the noise at discrete timesteps.",
    "It steers by the answer to the negative prompt, and the network is run without one.",
    "It steers by the difference between two prompts, and nothing is said to this network.",
    "It is spread over noise levels of other networks, and would spend most steps of a flow in almost pure noise.",
    "Its guidance is the distilled CFG scale, which the network is told; above 1 each step takes twice as long.",
    "It was distilled to paint without guidance; above 1 each step takes twice as long.",
    "{1} does not fit {2}: {3}; choose {4}.",
    "it is new, and nobody has switched it on yet",
    "the browser's",
    "Name and password do not belong together.",
    "a viewer, who may look but not paint",
    "a user, who may paint",
    "an administrator, who may paint and decides who comes in",
    "read [a:b:when] as A1111 did before 1.6",
    "Extend left",
    "Extend right",
    "Extend up",
    "Extend down",
    "left side and top",
    "left side and bottom",
    "right side and top",
    "right side and bottom",
    "top",
    "bottom",
    "number input for {1}",
    "range slider for {1}",
    "models/embeddings, by name in a prompt; models/hypernetworks, <hypernet:name:1>",
    "by which the same keys change the weight of <lora:name:weight>",
    "; this is {1} times the pixels",
    "; this is {1} % of the pixels",
    "Takes {1} for {2} pictures.",
    "At least {1}.",
    "At least {1} for {2} pictures.",
    "Nothing to undo",
    "Nothing to redo",
    "the mask was empty, so the whole picture was painted",
    "transparency is left out",
    "{1} is empty",
    "the account may not paint any more",
    "a picture failed",
    "the engine died twice while making this picture; retry to have it tried once more",
    "The engine is starting.",
    "The engine is starting again.",
    "The engine could not start: {1}",
    "Nothing is begun: {1}",
    "the engine was ended by {1}",
    "the engine ended with code {1}",
    "{1} '{2}' is not here; did you mean '{3}'? Known: {4}",
    "{1} '{2}' is not here. Known: {3}",
    "The request is not of the expected form: {1}.",
    "There is no such {1} here (any more).",
    "only an administrator may do this",
    "1 picture is finished.",
    "First pass, step {1} of {2}",
    "Second pass, step {1} of {2}",
    "Stage {1} of {2}, step {3} of {4}",
    "{1} by {2}",
    "must be {1}, '{2}' was given",
    "must be {1}, {2} was given",
    "must be {1}, none was given",
    "there is no such field",
    "at most {1} characters, {2} were given",
    "a whole number from {1} to {2}",
    "a number from {1} to {2}",
    "a multiple of {1} from {2} to {3}",
    "true or false",
    "a whole number",
    "a number",
    "one of {1}",
    "on",
    "off",
    "empty",
    "how picture files are called, with A1111's tags as in [seed]-[prompt_spaces]; [counter] before them is its running "
    "number; a name that is taken gets the job's id and the picture's number behind it",
    "a name for files",
    "{1} in which [counter] comes first, and once",
    "{1} in which [counter] is not: it counts files",
    "the enlarged picture is not in the outputs folder any more",
    "the picture that is enlarged is not kept here any more",
    "{1} pictures of {2}x{3} are too much for one request; make fewer",
    "{1} pictures of {2}x{3} are too much for one request; {4} pixels is the most",
    "{1}x{2} is too much for one request; {3} pixels is the most",
    "{1} file differs",
    "{1} files differ",
    ". It is fetched and shown first; nothing of it runs.",
)
"""What is shown and stands in no source in this form, such as Gradio's own texts."""
