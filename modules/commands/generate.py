"""`generate`: pictures without a server, through the same App, engine and files as with one."""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from modules.app import App
from modules.commands.folders import check_writable
from modules.commands.starting import starting_fields
from modules.errors import GenerationError, RequestError, UnknownName
from modules.extensions import lines
from modules.images.encoding import KINDS, SUFFIXES, Form, form_of
from modules.images.infotext import GenerationInfo
from modules.images.infotext_fields import IMG2IMG_FIELDS
from modules.images.outputs import Outputs, SavedImage
from modules.images.recipe import read_recipe
from modules.jobs.views import JobView
from modules.naming import Facts
from modules.options import EXTENSIONS, FROM_PICTURES, OPTIONS
from modules.request.extensions import nested
from modules.settings import Settings

USER = "command line"

log = logging.getLogger("atelier")

FIELDS = (
    *("prompt", "negative_prompt", "seed", "steps", "cfg_scale", "sampler", "schedule", "count", "checkpoint"),
    *("denoising_strength", *(option.name for option in FROM_PICTURES)),
    *(option.name for group in OPTIONS.values() for option in group),
)
"""Flags that are fields of a request under the same name; --size and the pictures are not."""


def run(values: argparse.Namespace, settings: Settings) -> int:
    """Make the pictures; prints their paths, or one JSON object.  130 after Ctrl-C, with what was finished kept.

    Raises:
        AtelierError: a flag makes no sense, the picture could not be made or saved.
    """
    fields = given_fields(values)
    if fields.get("prompt") is None and values.source is None and values.init is None:
        raise RequestError('say what to see: generate "a red fox", or --from FILE.png')
    check_writable(settings.data_dir, "--data-dir")
    form = form_of(settings.output_format, settings.output_quality)
    outputs = target(values.output, fields.get("count"), form) if values.output else None
    if outputs is None:
        check_writable(settings.outputs_dir, "--outputs-dir")
    log.setLevel(logging.WARNING)

    end_lines = lines.install()
    app = App(with_workers(settings, fields.get("count")), outputs=outputs, durable=False)
    try:
        fields |= starting_fields(app, values, fields, USER)
        if values.source is not None:
            fields = over(recipe_fields(app, Path(values.source), fields.get("checkpoint")), fields)
            if "source" not in fields and not IMG2IMG_FIELDS.isdisjoint(fields):
                raise RequestError(f"{values.source} was painted from another picture, which its text does not tell")
            app.input_images.adopt(fields, USER, Path(values.source))
        started = time.monotonic()
        app.start()
        view = _watch(app, app.submit(fields, USER).id)
        _report(view, time.monotonic() - started, values.json)
        return 0
    finally:
        app.close()
        end_lines()


def with_workers(settings: Settings, count: Any) -> Settings:
    """The settings with no more workers than there are pictures to make: a start of each takes seconds."""
    pictures = int(count) if str(count).isascii() and str(count).isdecimal() and len(str(count)) < 6 else 1
    return replace(settings, workers=max(1, min(settings.workers, pictures)))


def given_fields(values: argparse.Namespace) -> dict[str, Any]:
    """What was said on the command line, as fields of a request.  Whether it makes sense is for the request to say."""
    flags = (*FIELDS, *(name for name in vars(values) if name.startswith(EXTENSIONS)))
    fields = nested({name: getattr(values, name) for name in flags if getattr(values, name) is not None})
    if values.size is not None:
        size = re.fullmatch(r"\s*(\d{1,6})\s*[xX×]\s*(\d{1,6})\s*", values.size)
        if not size:
            raise RequestError(f"size {values.size[:40]!r} is not understood; write WIDTHxHEIGHT in pixels, such as 512x768")
        fields["width"], fields["height"] = size.groups()
    return fields


def over(recipe: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """`recipe` with what the command line names in its place; of the options of an extension each by itself."""
    if not {"extensions"} <= recipe.keys() & fields.keys():
        return {**recipe, **fields}
    both = {name: {**recipe["extensions"].get(name, {}), **options} for name, options in fields["extensions"].items()}
    return {**recipe, **fields, "extensions": {**recipe["extensions"], **both}}


def recipe_fields(app: App, source: Path, checkpoint: str | None) -> dict[str, Any]:
    """The settings of the picture `source`, with a checkpoint that is here: `checkpoint`, or the one that it was made with.

    Raises:
        RequestError: it is no picture with settings, or its checkpoint is not here.
    """
    recipe = read_recipe(source)
    fields, renamed = app.with_local_loras(dict(recipe.fields), recipe.loras)
    for note in (*recipe.notes, *renamed):
        log.warning("%s: %s", source.name, note)
    fields.pop("checkpoint", None)
    known = (app.recipe_vae(fields), app.recipe_refiner(fields), app.recipe_hires(fields), app.recipe_upscaler(fields))
    for note in filter(None, known):
        log.warning("%s: %s", source.name, note)
    if checkpoint is not None or not recipe.checkpoints:
        return fields
    for name in recipe.checkpoints:
        try:
            return {**fields, "checkpoint": app.checkpoint(name).name}
        except UnknownName:
            continue
    raise RequestError(
        f"{source} was made with the checkpoint {' / '.join(reversed(recipe.checkpoints))}, which is in none of the models "
        "folders; add it, or choose another with --checkpoint"
    )


# ---- where to


class Target(Outputs):
    """Saves under the name or in the folder that the user gave, in no dated folder."""

    def __init__(self, folder: Path, form: Form, name: str = "") -> None:
        super().__init__(folder, form)
        self.name = name

    def save(
        self,
        pixels: bytes,
        width: int,
        height: int,
        info: GenerationInfo,
        job: str,
        index: int,
        when: float | None = None,
        facts: Facts | None = None,
    ) -> SavedImage:
        path = self.folder / (self.name or self._free_name(info))
        return self.save_as(path, pixels, width, height, info, job, index)

    def _free_name(self, info: GenerationInfo) -> str:
        stem = "picture" if info.request.private else f"{slug(info.request.prompt)}-{info.request.seed}"
        names = (f"{stem}{ending}{SUFFIXES[self.form.kind]}" for ending in _endings())
        return next(name for name in names if not (self.folder / name).exists())


def _endings() -> Iterator[str]:
    yield ""
    number = 2
    while True:
        yield f"-{number}"
        number += 1


def slug(prompt: str) -> str:
    """A short file name from a prompt.

    >>> slug("A red fox, 4k!")
    'a-red-fox-4k'
    >>> slug("🦊")
    'picture'
    """
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "picture"


def target(output: str, count: Any, form: Form | None = None) -> Target:
    """Where --output points, found to be writable.

    Raises:
        RequestError: it cannot be what was meant.
        OutputError: the file exists already, or nothing can be written there.
    """
    form = form or Form()
    path = Path(output).expanduser()
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # a name that is too long for the disk, a folder that may not be looked into
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        shown = output if len(output) <= 60 else f"{output[:60]}..."
        raise RequestError(f"--output {shown} cannot be used: {why[:1].lower()}{why[1:]}; choose another name") from None
    is_folder = path.is_dir() or output.endswith(("/", "\\")) or not path.suffix
    if is_folder:
        found = Target(path, form)
        found.check_writable()
        return found
    if path.suffix.lower() not in KINDS:
        raise RequestError(f"--output {output}: pictures are saved as {', '.join(KINDS)}; use a name with one of these endings")
    if count is not None and str(count).strip() != "1":
        raise RequestError(f"--output {output} names one file for {count} pictures; name a folder")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise RequestError(f"--output {output}: there is no folder {folder}; make it first, or name a folder to have it made")
    found = Target(folder, form, path.name)
    found.check_target(path)
    return found


# ---- what is shown


def _watch(app: App, job: str) -> JobView:
    """Follow a job to its end; Ctrl-C cancels it.

    Raises:
        GenerationError: it failed.
    """
    line = Line()
    view = None
    try:
        for view in app.events(job, USER):
            line.show(progress_text(view, view.doing or app.engine().message))
    except BaseException:
        app.cancel(job, USER)
        line.clear()
        kept = app.job(job, USER)
        for picture in kept.pictures if kept else ():
            print(picture.path)
        raise
    line.clear()
    if view is None:
        raise GenerationError("the job vanished; see engine.log in the data folder")
    if view.state != "done":
        for picture in view.pictures:
            print(picture.path)
        raise GenerationError(view.error or "the job was cancelled")
    return view


def progress_text(view: JobView, engine: str) -> str:
    """One line: a bar, where it is, how long it takes yet; before the first step, what the engine is doing."""
    if not view.progress:
        return engine
    if view.progress >= 1:
        return "Saving ..."
    width = 24
    full = round(view.progress * width)
    bar = "█" * full + "░" * (width - full)
    which = f"picture {min(view.done + 1, view.count)} of {view.count}, " if view.count > 1 else ""
    left = f", {view.eta_s:.0f} s left" if view.eta_s is not None else ""
    return f"{bar} {view.progress:4.0%}  {which}{step_text(view)}{left}"


def step_text(view: JobView) -> str:
    """The step of the picture that is furthest, in its pass where there are two."""
    if view.stages == 1:
        return f"step {view.step} of {view.steps}"
    names = ("first pass", "second pass")
    name = names[view.stage - 1] if view.stages == len(names) else f"stage {view.stage} of {view.stages}"
    return f"{name}, step {view.stage_step} of {view.stage_steps}"


class Line:
    """One line on the terminal that is written anew; silent where stderr is no terminal."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()

    def show(self, text: str) -> None:
        if self.live:
            print(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _report(view: JobView, seconds: float, as_json: bool) -> None:
    pictures = sorted(view.pictures, key=lambda picture: picture.index)
    if not as_json:
        for picture in pictures:
            print(picture.path)
        return
    said = {
        "files": [str(picture.path) for picture in pictures],
        "seeds": [picture.seed for picture in pictures],
        "infotext": [picture.infotext for picture in pictures],
        "seconds": round(seconds, 3),
    }
    print(json.dumps(said, ensure_ascii=False))
