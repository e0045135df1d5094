"""What every tab that paints has: prompts, the settings of a picture, Generate and Cancel.

Handlers return at once: they hand a dict of fields to the App and a short message to the results, which follows the job by
itself.  Nothing here waits for a picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modules.app import App
from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import SCHEDULES
from modules.errors import AtelierError, LimitError, RequestError
from modules.request import SIDE_STEP
from modules.scripts.plan import OF_MANY
from modules.scripts.preview import Preview
from modules.ui import script
from modules.ui.extension_options import extension_options
from modules.ui.files import STATIC
from modules.ui.form import Form, Values
from modules.ui.form_sync import NEGATIVE_HINT, PROMPT_HINTS, FormSync, defaults, schedule_hint
from modules.ui.gradio import gr
from modules.ui.options import Options
from modules.ui.results import Results, message
from modules.ui.tabs.base import AT_ONCE, no_user

TOGETHER = 8
"""Fields whose changes the page's scripts are told by one listener."""


class GenerationTab:
    """Builds the tab inside the current column; `connect` then ties it to the results."""

    name = ""
    label = ""
    shows = "pictures"

    def __init__(self, app: App, sync: FormSync) -> None:
        self.app, self.sync = app, sync
        self.form = Form(self.name)
        sync.forms[self.name] = self.form
        sync.scripts[self.name] = self._preview

    def build(self) -> None:
        """From top to bottom, as a phone shows it and a keyboard walks through it."""
        self.form.share("checkpoint", "Checkpoint", self.sync.checkpoint)
        self.build_prompt()
        self.build_canvas()
        with gr.Column(elem_id=self.form.id("settings"), elem_classes="plain settings", min_width=200):
            self.build_settings()
            listed = {"vae": self.sync.vaes(), "refiner": self.sync.refiners()}
            tell = f"window.atelierForms[{json.dumps(self.name)}]"
            self.options = Options(self.form, tell=tell, listed=listed)
            self.options.build()
            self.extensions = extension_options(self.form, tell)
            self.form.kept()
            script.build(self.form)
        # What the page's scripts add to a request, as JSON: the job's key, and what is on the canvas.
        self.attachment = gr.Textbox(visible=False, elem_id=self.form.id("attachment"))

    def build_prompt(self) -> None:
        form = self.form
        with gr.Row(elem_id=form.id("prompt_area"), elem_classes="plain prompt-area"):
            form.text("prompt", "Prompt", PROMPT_HINTS["text"], lines=2, max_lines=10, elem_classes="prompt")
            form.text("negative_prompt", "Negative prompt", NEGATIVE_HINT, lines=2, max_lines=10)
            with gr.Column(elem_id=form.id("actions"), elem_classes="plain actions", min_width=120):
                self.generate = gr.Button("Generate", variant="primary", elem_id=form.id("generate"), elem_classes="generate")
                self.cancel = gr.Button("Cancel", elem_id=form.id("cancel"), elem_classes="cancel")
        reading = (STATIC / "prompt" / "prompt_check.html").read_text("utf-8").replace("PREFIX", self.name)
        gr.HTML(reading, elem_id=form.id("reading_area"), elem_classes="reading-area", js_on_load=None)

    def build_canvas(self) -> None:
        """The place of a source picture, in tabs that have one."""

    def build_settings(self) -> None:
        self.build_styles_and_sampler()
        self.build_size()
        self.build_seed_and_count()

    def build_styles_and_sampler(self) -> None:
        form, best = self.form, defaults(self.app.default_checkpoint())
        styles, about = self.sync.styles()
        shown = bool(styles or about)  # an instance without styles is not bothered with an empty list
        form.choice("styles", "Styles", styles, [], multiselect=True, info=about, visible=shown)
        form.choice("sampler", "Sampler", SAMPLERS, best["sampler"])
        form.choice("schedule", "Schedule type", SCHEDULES, best["schedule"])
        form.slider("steps", "Steps", 1, 150, best["steps"], 1)
        form.slider("cfg_scale", "CFG scale", 0, 30, best["cfg_scale"], 0.5)
        told = best.get("distilled_cfg_scale")
        form.slider("distilled_cfg_scale", "Distilled CFG scale", 0, 60, told or 3.5, 0.1, visible=told is not None)

    def build_size(self) -> None:
        form, best = self.form, defaults(self.app.default_checkpoint())
        with gr.Row(elem_id=form.id("size"), elem_classes="pair"):
            width = form.number("width", "Width", best["width"], step=SIDE_STEP)
            swap = gr.Button("Swap width and height", elem_id=form.id("swap"), elem_classes=["icon", "icon-swap"])
            height = form.number("height", "Height", best["height"], step=SIDE_STEP)
        gr.HTML(
            f'<p class="estimate" id="{form.id("estimate")}" role="status"></p>',
            elem_id=form.id("estimate_area"),
            js_on_load=None,
        )
        swap.click(None, [width, height], [width, height], js="(width, height) => [height, width]")

    def build_seed_and_count(self) -> None:
        form = self.form
        with gr.Row(elem_classes="pair"):
            seed = form.text("seed", "Seed", "Random", max_lines=1, min_width=60, elem_classes="seed")
            random = gr.Button("Random seed", elem_id=form.id("seed_random"), elem_classes=["icon", "icon-dice"])
            again = "Reuse the seed of the picture shown"
            same = gr.Button(again, elem_id=form.id("seed_reuse"), elem_classes=["icon", "icon-again"])
        form.number("count", "Pictures", 1, step=1, elem_classes="count-field")  # no precision: it would round
        random.click(None, None, seed, js="() => ['']")
        shown = "(seed) => [document.querySelector('#results [data-seed]')?.dataset.seed ?? seed]"
        same.click(None, seed, seed, js=shown)

    # ---- what it does

    def connect(self, results: Results, page: gr.Blocks) -> None:
        form, sampler = self.form, self.form.components["sampler"]
        attach = _ATTACH.replace("TAB", json.dumps(self.name))
        self.generate.click(self._submit, self.inputs, [results], js=attach, trigger_mode="multiple", **AT_ONCE)
        sampler.input(lambda name: schedule_hint(name) or gr.skip(), sampler, form.components["schedule"], **AT_ONCE)

        # These stay in the browser.
        self.cancel.click(None, js="() => document.dispatchEvent(new Event('atelier:cancel'))")
        changed = _CHANGED.replace("TAB", json.dumps(self.name))
        page.load(None, form.outputs, js=changed.replace("NAMES", json.dumps(form.names)))
        # Some together: Gradio takes time for each input at each change, and at the opening for each listener and component
        for first in range(0, len(form.names), TOGETHER):
            names, some = form.names[first : first + TOGETHER], form.outputs[first : first + TOGETHER]
            told = changed.replace("NAMES", json.dumps(names))
            gr.on([component.change for component in some], None, some, js=told, trigger_mode="multiple")
        for accordion in (self.options, *self.extensions):
            accordion.connect()

    def _submit(self, data: Mapping[Any, Any], request: gr.Request) -> str:
        user = request.request.state.user
        if not user:
            return message("refused", error=no_user(request), fields=[])
        try:
            attached = _attached(data.get(self.attachment))
            requests = self.requests(data, attached, user)
        except AtelierError as error:
            return message("refused", **self.complaint(error))
        chosen = script.script_of(attached)
        if attached.get("forever") is True:
            return self._start_forever(chosen, requests, user)
        if chosen is not None:
            return self._start(chosen, requests, attached.get("key", ""), user)
        return self._submit_all(requests, attached.get("key", ""), user)

    def _start(self, chosen: Values, requests: list[Values], key: str, user: str) -> str:
        """A script over the request."""
        try:
            many = requests if len(requests) > 1 and chosen.get("name") in OF_MANY else []
            run = self.app.scripts.start(chosen, requests[0] if many else script.one_of(requests), user, key, many)
        except AtelierError as error:
            return message("refused", **script.complaint(self.form, error))
        return message("submitted", tab=self.name, ids=[], rest=[], run=run.id)

    def _start_forever(self, chosen: Values | None, requests: list[Values], user: str) -> str:
        """The request again and again, until the user ends it."""
        try:
            if chosen is not None:
                raise RequestError("A script is carried out once. Choose None in the field Script to generate forever.")
            if len(requests) != 1:
                raise RequestError("One picture is made forever. Take the files out of Many pictures.")
            begun = self.app.forever.start(requests[0], user)
        except AtelierError as error:
            return message("refused", **self.complaint(error))
        return message("submitted", tab=self.name, ids=list(begun.jobs), rest=[], forever=True)

    def _preview(self, values: Values, chosen: Values, size: Values, user: str) -> Preview:
        """What a script would make of the form's values, whatever picture is on the canvas.

        Raises:
            AtelierError: they make no sense.
        """
        data = script.as_sent(self.form, values)
        anything = {"source": "0" * 64, "mask": "0" * 64}
        requests = self.requests(data, {"canvas": anything, "size": size}, user)
        return self.app.scripts.preview(chosen, script.one_of(requests))

    def _submit_all(self, requests: list[Values], key: str, user: str) -> str:
        """As many of the requests as the results takes; the page offers the rest again when there is a place."""
        ids: list[str] = []
        try:
            for number, fields in enumerate(requests):
                own = f"{key}-{number}" if key and len(requests) > 1 else key
                ids.append(self.app.submit(fields, user, own).id)
        except AtelierError as error:
            if not ids or not isinstance(error, LimitError):
                return message("refused", ids=ids, **self.complaint(error))
        rest = [{"fields": fields, "key": f"{key}-{number}"} for number, fields in enumerate(requests)][len(ids) :]
        return message("submitted", tab=self.name, ids=ids, rest=rest)

    @property
    def inputs(self) -> set[Any]:
        """The inputs of Generate; the attachment is the last of them."""
        return self.form.inputs | {self.attachment}

    def requests(self, data: Mapping[Any, Any], attached: Values, user: str) -> list[Values]:
        """The fields of each job, from the form and from what the scripts attached."""
        return [self.form.read(data)]

    def complaint(self, error: AtelierError) -> Values:
        return self.form.complaint(error)


def _attached(text: Any) -> Values:
    """What the page's scripts added; without scripts of ours, nothing.

    Raises:
        RequestError: the scripts could not, and say why.
    """
    try:
        found = json.loads(text) if isinstance(text, str) and text else {}
    except ValueError:
        found = {}
    found = found if isinstance(found, dict) else {}
    if isinstance(error := found.get("error"), str):
        raise RequestError(error)
    if not isinstance(found.get("key", ""), str):
        found["key"] = ""
    return found


_ATTACH = """async (...values) => {
  const attachment = await window.atelier?.attach?.(TAB) ?? "";
  return [...values.slice(0, -1), attachment];
}"""
"""The attachment is the last of the inputs: Gradio hands them over in the order in which they were made."""

_CHANGED = """(...values) => {
  const forms = (window.atelierForms ??= {});
  Object.assign((forms[TAB] ??= {}), Object.fromEntries(NAMES.map((name, i) => [name, values[i]])));
  document.dispatchEvent(new CustomEvent('atelier:form', { detail: { tab: TAB } }));
}"""
"""Tells the page's scripts what the form holds now; they keep it in this browser."""
