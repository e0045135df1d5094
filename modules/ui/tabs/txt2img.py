"""The txt2img tab: its form, and what happens on Generate, on another checkpoint and on reuse.

Handlers return at once: they hand a dict of fields to the App and a short message to the studio, which follows the job by
itself.  Nothing here waits for a picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modules.app import App
from modules.checkpoints.files import CheckpointInfo
from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import SCHEDULES
from modules.errors import AtelierError, RequestError, SettingsError
from modules.request import SIDE_STEP
from modules.ui.form import Form, Values
from modules.ui.gradio import gr
from modules.ui.job_bar import Studio, message

Updates = dict[Any, Any]

NO_COOKIE = "This page needs a cookie to know which pictures are yours. Allow cookies for this address and reload the page."

_AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""For events that answer within milliseconds: no queue, no spinner, not offered as an API."""


class Txt2ImgTab:
    """Builds the tab inside the current `gr.Blocks`; `connect` then ties it to the studio."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.form = Form("txt2img")

    # ---- what it looks like, area by area; the style sheet decides where they stand

    def build_checkpoint(self) -> None:
        usable, chosen = self._usable(), self.app.default_checkpoint()
        with gr.Row(elem_id="txt2img_checkpoint_area", elem_classes="plain"):
            self.form.choice("checkpoint", "Checkpoint", _choices(usable), chosen.name if chosen else None)
            self.rescan = gr.Button("Rescan the models folder", elem_id="txt2img_rescan", elem_classes=["icon", "icon-rescan"])

    def build_prompt(self) -> None:
        with gr.Row(elem_id="txt2img_prompt_area", elem_classes="plain"):
            self.form.text("prompt", "Prompt", "What should the picture show?", lines=2, max_lines=10)
            self.form.text("negative_prompt", "Negative prompt", "What should it not show?", lines=2, max_lines=10)
            with gr.Column(elem_id="txt2img_actions", elem_classes="plain", min_width=120):
                self.generate = gr.Button("Generate", variant="primary", elem_id="txt2img_generate")
                self.cancel = gr.Button("Cancel", elem_id="txt2img_cancel")

    def build_settings(self) -> None:
        form, defaults = self.form, _defaults(self.app.default_checkpoint())
        with gr.Column(elem_id="txt2img_settings", elem_classes="plain", min_width=200):
            styles, about = self._styles()
            shown = bool(styles or about)  # a house without styles is not bothered with an empty list
            form.choice("styles", "Styles", styles, [], multiselect=True, info=about, visible=shown)
            form.choice("sampler", "Sampler", SAMPLERS, defaults["sampler"])
            form.choice("schedule", "Schedule type", SCHEDULES, defaults["schedule"])
            form.slider("steps", "Steps", 1, 150, defaults["steps"], 1)
            form.slider("cfg_scale", "CFG scale", 0, 30, defaults["cfg_scale"], 0.5)
            with gr.Row(elem_classes="pair"):
                form.number("width", "Width", defaults["width"], step=SIDE_STEP)
                self.swap = gr.Button("Swap width and height", elem_id="txt2img_swap", elem_classes=["icon", "icon-swap"])
                form.number("height", "Height", defaults["height"], step=SIDE_STEP)
            with gr.Row(elem_classes="pair"):
                form.text("seed", "Seed", "Random", max_lines=1, min_width=60)
                self.random = gr.Button("Random seed", elem_id="txt2img_seed_random", elem_classes=["icon", "icon-dice"])
                self.same = gr.Button(
                    "Reuse the seed of the picture shown", elem_id="txt2img_seed_reuse", elem_classes=["icon", "icon-again"]
                )
            form.number("count", "Pictures", 1, precision=0)

    # ---- what it does

    def connect(self, studio: Studio, page: gr.Blocks) -> None:
        form = self.form
        self.studio = studio
        self.generate.click(self._submit, form.inputs, [studio], trigger_mode="multiple", **_AT_ONCE)
        form.components["checkpoint"].input(self._chosen, form.components["checkpoint"], form.outputs, **_AT_ONCE)
        self.rescan.click(self._rescanned, form.components["checkpoint"], [*form.outputs, studio], **_AT_ONCE)
        studio.reuse(self._reused, None, [*form.outputs, studio], **_AT_ONCE)
        page.load(self._opened, studio, [*form.outputs, studio], js=_RECALL, **_AT_ONCE)

        # These stay in the browser.
        self.cancel.click(None, js="() => document.dispatchEvent(new Event('atelier:cancel'))")
        self.swap.click(
            None,
            [form.components["width"], form.components["height"]],
            [form.components["width"], form.components["height"]],
            js="(width, height) => [height, width]",
        )
        self.random.click(None, None, form.components["seed"], js="() => ['']")
        self.same.click(
            None,
            form.components["seed"],
            form.components["seed"],
            js="(seed) => [document.querySelector('#studio [data-seed]')?.dataset.seed ?? seed]",
        )
        gr.on(
            [component.change for component in form.outputs],
            None,
            form.outputs,
            js=_TELL.replace("NAMES", json.dumps(form.names)),
        )

    def _submit(self, data: Mapping[Any, Any], request: gr.Request) -> str:
        user = request.request.state.user
        if not user:
            return message("refused", error=NO_COOKIE, fields=[])
        try:
            return message("submitted", id=self.app.submit(self.form.read(data), user).id)
        except AtelierError as error:
            return message("refused", **self.form.complaint(error))

    def _chosen(self, name: str | None) -> Updates:
        """Another checkpoint brings the settings it is best run with."""
        try:
            return self.form.write(_defaults(self.app.checkpoint(name)))
        except RequestError:
            return {}

    def _rescanned(self, name: str | None) -> Updates:
        usable = self._usable()
        updates: Updates = {self.studio: message("rescanned", usable=len(usable), broken=self._broken())}
        if name not in [info.name for info in usable]:
            chosen = self.app.default_checkpoint()
            name = chosen.name if chosen else None
            updates |= self.form.write(_defaults(chosen))
        updates[self.form.components["checkpoint"]] = gr.update(choices=_choices(usable), value=name)
        return updates

    def _reused(self, event: gr.EventData) -> Updates:
        fields = _fields(event._data.get("fields") if isinstance(event._data, dict) else None)
        missing = self._drop_unknown(fields)
        return {**self.form.write(fields), self.studio: message("reused", missing=missing)}

    def _opened(self, stored: Any) -> Updates:
        """A page begins with the form as this browser left it, and with what is in the models folders now."""
        usable = self._usable()
        fields = _fields(stored)
        self._drop_unknown(fields)
        if not fields.get("checkpoint"):
            chosen = self.app.default_checkpoint()
            fields |= {**_defaults(chosen), "checkpoint": chosen.name if chosen else None}
        updates = self.form.write(fields)
        updates[self.form.components["checkpoint"]] = gr.update(choices=_choices(usable), value=fields["checkpoint"])
        styles, about = self._styles()
        chosen_styles = updates.get(self.form.components["styles"], [])
        updates[self.form.components["styles"]] = gr.update(
            choices=styles, value=chosen_styles, info=about, visible=bool(styles or about)
        )
        return updates | {self.studio: message("opened")}

    def _drop_unknown(self, fields: Values) -> list[str]:
        """Take names out that nothing here carries; returns them for a note to the user."""
        known = {
            "checkpoint": {info.name for info in self._usable()},
            "sampler": set(SAMPLERS),
            "schedule": set(SCHEDULES),
        }
        missing = [name for name in known if fields.get(name) is not None and fields[name] not in known[name]]
        notes = [f"{self.form.labels[name]} {str(fields.pop(name))[:80]!r}" for name in missing]
        if isinstance(styles := fields.get("styles"), list):
            here = self._styles()[0]
            fields["styles"] = [name for name in styles if name in here]
            notes += [f"Style {str(name)[:80]!r}" for name in styles if name not in here]
        return notes

    def _styles(self) -> tuple[list[str], str | None]:
        """The names in the styles file, and what is wrong with it."""
        try:
            return list(self.app.library.styles()), None
        except SettingsError as error:
            return [], f"{error}."

    def _usable(self) -> list[CheckpointInfo]:
        return [info for info in self.app.checkpoints() if not info.problem]

    def _broken(self) -> list[str]:
        return [f"{info.name}: {info.problem}" for info in self.app.checkpoints() if info.problem]


def _choices(usable: list[CheckpointInfo]) -> list[tuple[str, str]]:
    """Titles may repeat, names do not."""
    titles = [info.title for info in usable]
    return [(info.title if titles.count(info.title) == 1 else info.name, info.name) for info in usable]


def _defaults(info: CheckpointInfo | None) -> Values:
    """What a checkpoint is best run with; without one, what suits SD 1.x."""
    if info is None:
        return {"width": 512, "height": 512, "steps": 20, "cfg_scale": 7.0, "sampler": "DPM++ 2M", "schedule": "Karras"}
    best = info.defaults
    return {
        "width": best.width,
        "height": best.height,
        "steps": best.steps,
        "cfg_scale": best.cfg_scale,
        "sampler": best.sampler,
        "schedule": best.schedule,
    }


def _fields(source: Any) -> Values:
    """Fields out of what a browser sent, as text or as an object; whatever else it is, nothing."""
    if isinstance(source, str):
        try:
            source = json.loads(source)
        except ValueError:
            return {}
    return dict(source) if isinstance(source, dict) else {}


_TELL = """(...values) => {
  const names = NAMES;
  window.atelierForm = Object.fromEntries(names.map((name, i) => [name, values[i]]));
  document.dispatchEvent(new Event('atelier:form'));
}"""
"""Tells the page's scripts what the form holds; they keep it in this browser."""

_RECALL = "() => { try { return [localStorage.getItem('atelier.txt2img') ?? '']; } catch { return ['']; } }"
