"""What the generation tabs share: the checkpoint, the styles of this instance, and settings that come from somewhere else.

Settings come from the browser's memory when the page opens, from a picture that is to be made again, or with another
checkpoint.  It does not know what a tab does with its form.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from modules.app import App
from modules.checkpoints.families import FAMILIES
from modules.checkpoints.files import CheckpointInfo
from modules.checkpoints.vaes import AUTOMATIC, OWN
from modules.diffusion.samplers import SAMPLERS, find_sampler
from modules.diffusion.schedules import SCHEDULES
from modules.errors import AtelierError, LimitError, RequestError, SettingsError, UnknownName, without_folders
from modules.model_library.edits import own_defaults
from modules.pixels.enlarging import hires_upscalers
from modules.request import LATENT_UPSCALERS, LATER_FIELDS, Img2Img, Txt2Img
from modules.request.checkpoint import SIZE_FIELDS
from modules.request.starting import FROM_NOISE, NOISE_LEVEL, NOT_ENLARGING
from modules.scripts.preview import Preview
from modules.ui import second_pass
from modules.ui.form import KEPT, Choice, Form, Values, fields_of, keep_unused
from modules.ui.gradio import gr
from modules.ui.results import Results, message
from modules.ui.script import complaint
from modules.ui.second_pass import CHECKPOINT
from modules.ui.tabs.base import AT_ONCE, Updates, no_user

log = logging.getLogger("atelier")

PREFERRED = ("negative_prompt", "clip_skip", "vae")
"""Fields for which a checkpoint may have defaults of its own and that people type into; `defaults` are always brought."""
_SHOWN = (*PREFERRED, "size_by", "size_factor")
"""Fields whose values decide what another checkpoint brings."""

_FITTING = ("sampler", "schedule", "hires_sampler", "hires_schedule", "cfg_scale")
"""Fields of which the page offers a value that fits the checkpoint."""

TO_SIZE, BY_FACTOR = "To a size", "By a factor"
"""How the size of a picture from a picture is said."""


class FormSync:
    """`forms` are those of the generation tabs by their names, in the order of the bar; tabs put theirs in when they build."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.forms: dict[str, Form] = {}
        self.scripts: dict[str, Callable[[Values, Values, Values, str], Preview]] = {}
        """By tab, what a script would make: (the form's values by name, the script, the size of a picture by factor, user)."""

    def build(self) -> None:
        """The checkpoint's place in the masthead."""
        usable, chosen = self.usable(), self.app.default_checkpoint()
        with gr.Row(elem_id="checkpoint_area", elem_classes="plain"):
            name = chosen.name if chosen else None
            self.checkpoint = Choice(_titles(usable), value=name, label="Checkpoint", elem_id="checkpoint", min_width=100)
            self.rescan = gr.Button("Rescan the models folder", elem_id="rescan", elem_classes=["icon", "icon-rescan"])
            self.kept = gr.Textbox(visible=False)  # what this browser remembers, see _RECALL

    def connect(self, results: Results, page: gr.Blocks) -> None:
        self.results = results
        everything = list({id(c): c for form in self.forms.values() for c in form.outputs}.values())
        shown = {self.checkpoint} | {
            form.components[name] for form in self.forms.values() for name in _SHOWN if name in form.components
        }
        self.checkpoint.input(self._chosen, shown, [*everything, results], **AT_ONCE)
        self.rescan.click(self._rescanned, shown, [*everything, results], js=_CLOSED, **AT_ONCE)
        results.reuse(self._reused, None, [*everything, results], **AT_ONCE)
        results.choose(self._chosen_elsewhere, shown, [*everything, results], **AT_ONCE)
        results.more(self._more, None, results, trigger_mode="multiple", **AT_ONCE)
        results.plan(self._planned, None, results, trigger_mode="always_last", **AT_ONCE)
        page.load(self._opened, self.kept, [*everything, results], js=_RECALL, **AT_ONCE)

    # ---- what is here

    def usable(self) -> list[CheckpointInfo]:
        return [info for info in self.app.checkpoints() if not info.problem]

    def vaes(self) -> list[str]:
        """What can be chosen as autoencoder."""
        return [AUTOMATIC, OWN, *(info.name for info in self.app.vaes() if not info.problem)]

    def refiners(self) -> list[tuple[str, str]]:
        """What can be chosen as refiner: any checkpoint; which one fits the form's is for the request to say."""
        return [("None", ""), *self.titles()]

    def titles(self) -> list[tuple[str, str]]:
        """The checkpoints that can be used, as (label, name)."""
        return _titles(self.usable())

    def upscalers(self) -> list[str]:
        """What can be chosen for a second pass."""
        return [*hires_upscalers(), *(info.name for info in self.app.upscalers() if not info.problem)]

    def styles(self) -> tuple[list[str], str | None]:
        """The names in the styles file, and what is wrong with it."""
        try:
            return list(self.app.library.styles()), None
        except SettingsError as error:
            return [], f"{error}."

    # ---- what comes from somewhere else

    def _chosen(self, data: Mapping[Any, Any]) -> Updates:
        return self._choose(data[self.checkpoint], data)

    def _choose(self, name: str | None, shown: Mapping[Any, Any]) -> Updates:
        """Another checkpoint brings the settings it is best run with; `shown` is what the forms hold of `_SHOWN`."""
        try:
            # Every output is answered: for one of our own components Gradio cannot leave an update out
            return {**self._bring(self.app.checkpoint(name), shown), self.results: message("chosen")}
        except UnknownName:  # its file went away after the list was made
            words = (
                f"Checkpoint {str(name)[:80]!r} is not in the models folder any more. Rescan the folder, or choose another one."
            )
        except RequestError as error:
            words = without_folders(str(error)).rstrip(".") + "."
        return {self.results: message("refused", error=words[:1].upper() + words[1:], fields=[self.checkpoint.elem_id])}

    def _chosen_elsewhere(self, shown: Mapping[Any, Any], event: gr.EventData) -> Updates:
        """`{"checkpoint": name}`: as if chosen in the masthead; `{"vae": name, "tab": tab}`: for the form of that tab;
        `{"styles": true}`: the styles file was changed; `{"fields": {...}, "tab": tab}`: values that fit the checkpoint."""
        data = event._data if isinstance(event._data, dict) else {}
        if data.get("styles") is True:
            styles, about = self.styles()
            changed = gr.update(choices=styles, info=about, visible=bool(styles or about))
            boxes = {form.components["styles"]: changed for form in self.forms.values()}
            return {**boxes, self.results: message("chosen")}
        if isinstance(vae := data.get("vae"), str) and (form := self.forms.get(str(data.get("tab")))):
            return {form.components["vae"]: gr.update(choices=self.vaes(), value=vae), self.results: message("chosen")}
        if (fitting := fields_of(data.get("fields"))) and (form := self.forms.get(str(data.get("tab")))):
            chosen = {name: fitting[name] for name in _FITTING if name in fitting}
            self._drop_unknown(form, chosen)
            return {**filled(form, chosen), self.results: message("chosen")}
        name = data.get("checkpoint")
        updates = self._choose(name if isinstance(name, str) else None, shown)
        if len(updates) > 1:  # it may have come after the list was made
            updates[self.checkpoint] = gr.update(choices=_titles(self.usable()), value=name)
        return updates

    def _bring(self, info: CheckpointInfo | None, shown: Mapping[Any, Any]) -> Updates:
        updates: Updates = {}
        for form in self.forms.values():
            fields = {**defaults(info), **self._preferred(form, info, shown), **_size_by(form, info, shown)}
            if form.prefix != "txt2img":  # there a picture says how large
                del fields["width"], fields["height"]
            updates |= with_hints(filled(form, fields), channel_hints(form, info))
        return updates

    def _preferred(self, form: Form, info: CheckpointInfo | None, shown: Mapping[Any, Any]) -> Values:
        """Further fields as people prefer them with a checkpoint, where they are empty, at their default, or as another
        checkpoint has brought them: what was typed stays."""
        own = own_defaults(info.path) if info else {}
        others = [own_defaults(each.path) for each in self.usable()]
        fields: Values = {}
        for name in PREFERRED:
            usual = Txt2Img.model_fields[name].default
            brought = {str(usual), *(str(each[name]) for each in others if name in each)}
            if (now := shown.get(form.components[name])) in (None, "") or str(now) in brought:
                fields[name] = own.get(name, None if name in form.optional else usual)
        return fields

    def _rescanned(self, data: Mapping[Any, Any]) -> Updates:
        name, usable = data[self.checkpoint], self.usable()
        broken = [f"{info.name}: {info.problem}" for info in (*self.app.checkpoints(), *self.app.vaes()) if info.problem]
        notes = [f"{info.name}: {info.note}" for info in usable if info.note]
        updates: Updates = {self.results: message("rescanned", usable=len(usable), broken=broken, notes=notes)}
        if name not in [info.name for info in usable]:
            chosen = self.app.default_checkpoint()
            name = chosen.name if chosen else None
            updates |= self._bring(chosen, data)
        vaes, refiners = self.vaes(), self.refiners()
        updates |= {form.components["vae"]: gr.update(choices=vaes) for form in self.forms.values()}
        updates |= {form.components["refiner"]: gr.update(choices=refiners) for form in self.forms.values()}
        updates |= {box: gr.update(choices=self.upscalers()) for box in self._upscaler_boxes()}
        updates |= self._second_checkpoints({})
        updates[self.checkpoint] = gr.update(choices=_titles(usable), value=name)
        return updates

    def _reused(self, event: gr.EventData) -> Updates:
        """`{"tab", "fields"}`: the settings of a picture, for the form of that tab."""
        data = event._data if isinstance(event._data, dict) else {}
        form = self.forms.get(str(data.get("tab")))
        if form is None:
            return {self.results: message("reused", missing=[])}
        fields = {**_ABSENT, **fields_of(data.get("fields"))}
        missing = self._drop_unknown(form, fields)
        notes = keep_unused(fields)
        if "mask_blur_x" in fields:
            fields["mask_blur"] = fields["mask_blur_x"]  # one slider for both
        updates = filled(form, fields)
        if "checkpoint" in fields:
            for other in self.forms.values():
                updates = with_hints(updates, channel_hints(other, self.app.checkpoint(fields["checkpoint"])))
        return {**updates, self.results: message("reused", missing=missing, notes=notes, tab=form.prefix)}

    def _more(self, event: gr.EventData, request: gr.Request) -> str:
        """`{"what", "requests": [{"fields", "key"}]}`: what the page goes on with by itself, a batch or a loop."""
        data = event._data if isinstance(event._data, dict) else {}
        wanted = [one for one in data.get("requests") or [] if isinstance(one, dict)]
        user, taken = request.request.state.user, {}
        error, full = "" if user else no_user(request), False
        try:
            for one in wanted if user else []:
                key = str(one.get("key", ""))
                taken[key] = self.app.submit(fields_of(one.get("fields")), user, key).id
        except AtelierError as problem:
            error, full = without_folders(str(problem)), isinstance(problem, LimitError)
        what = str(data.get("what"))[:20]
        return message("more", what=what, ids=list(taken.values()), keys=list(taken), error=error, full=full)

    def _planned(self, event: gr.EventData, request: gr.Request) -> str:
        """How many pictures the script of a tab would make and how long that takes, or what is wrong with it."""
        data = event._data if isinstance(event._data, dict) else {}
        tab, number = str(data.get("tab")), data.get("number")
        form, preview = self.forms.get(tab), self.scripts.get(tab)
        user = request.request.state.user or ""
        if form is None or preview is None:
            return message("planned", tab=tab[:40], number=number, error="There is no such tab.", fields=[])
        try:
            values, script = fields_of(data.get("values")), fields_of(data.get("script"))
            found = preview(values, script, fields_of(data.get("size")), user)
        except AtelierError as problem:
            return message("planned", tab=tab, number=number, **complaint(form, problem))
        shown = {name: getattr(found, name) for name in ("cells", "pictures", "columns", "rows", "sheets", "seconds", "notes")}
        return message("planned", tab=tab, number=number, **shown)

    def _opened(self, stored: Any, request: gr.Request) -> Updates:
        """A page begins with its forms as this browser left them, else as its user's presets say, and with what is in the
        models folders now."""
        usable, vaes, (styles, about) = self.usable(), self.vaes(), self.styles()
        kept = {**self._starting(request), **fields_of(stored)}
        updates: Updates = {}
        name = None
        for tab, form in self.forms.items():
            fields = fields_of(kept.get(tab))
            self._drop_unknown(form, fields)
            name = name or fields.get("checkpoint")
            if not fields.get("checkpoint"):
                first = self.app.default_checkpoint()
                own = own_defaults(first.path) if first else {}
                fields = {
                    **{name: own[name] for name in PREFERRED if name in own},
                    **fields,
                    **defaults(first),
                    **_size_by(form, first, {}),
                }
            updates |= filled(form, fields)
            box = form.components["styles"]
            vae, refiner = form.components["vae"], form.components["refiner"]
            updates[vae] = gr.update(choices=vaes, value=updates.get(vae, AUTOMATIC))
            updates[refiner] = gr.update(choices=self.refiners(), value=updates.get(refiner, ""))
            updates[box] = gr.update(choices=styles, value=updates.get(box, []), info=about, visible=bool(styles or about))
        for box in self._upscaler_boxes():
            updates[box] = gr.update(choices=self.upscalers(), value=updates.get(box, LATENT_UPSCALERS[0]))
        updates |= self._second_checkpoints(updates)
        chosen = self.app.checkpoint(name) if name else self.app.default_checkpoint()
        for form in self.forms.values():
            updates = with_hints(updates, channel_hints(form, chosen))
        updates[self.checkpoint] = gr.update(choices=_titles(usable), value=chosen.name if chosen else None)
        return updates | {self.results: message("opened")}

    def _upscaler_boxes(self) -> list[Any]:
        """Where the upscaler of a second pass is chosen."""
        boxes = (form.components.get("hires_upscaler") for form in self.forms.values())
        return [box for box in boxes if box is not None]

    def _starting(self, request: gr.Request) -> Values:
        """By tab, the fields of the presets that the user starts with."""
        try:
            return dict(self.app.preferences.start_fields(request.request.state.user or ""))
        except AtelierError as error:
            log.warning("%s", error)
            return {}

    def _second_checkpoints(self, updates: Updates) -> Updates:
        """What can be chosen for a second pass now, beside the values among `updates`."""
        boxes = [form.components[CHECKPOINT] for form in self.forms.values() if CHECKPOINT in form.components]
        found = second_pass.choices(self.titles())
        return {box: gr.update(choices=found, **({"value": updates[box]} if box in updates else {})) for box in boxes}

    def _drop_unknown(self, form: Form, fields: Values) -> list[str]:
        """Take names out that nothing here carries; returns them for a note to the user."""
        known = {
            "checkpoint": {info.name for info in self.usable()},
            "sampler": set(SAMPLERS),
            "schedule": set(SCHEDULES),
            "vae": set(self.vaes()),
            "refiner": {name for _, name in self.refiners()},
            "hires_upscaler": set(self.upscalers()),
        }
        if CHECKPOINT in form.components:
            known[CHECKPOINT] = {name for _, name in second_pass.choices(self.titles())}
            if isinstance(hires := fields.get("hires"), dict) and (name := hires.get("checkpoint")) not in known[CHECKPOINT]:
                fields["hires"] = {**hires, "checkpoint": ""}
                fields |= {CHECKPOINT: name} if name else {}  # is dropped and named below
        missing = [name for name in known if fields.get(name) is not None and fields[name] not in known[name]]
        notes = [f"{form.labels[name]} {str(fields.pop(name))[:80]!r}" for name in missing]
        if isinstance(hires := fields.get("hires"), dict) and hires.get("upscaler") not in (None, *known["hires_upscaler"]):
            notes.append(f"Upscaler {str(hires['upscaler'])[:80]!r}")
            fields["hires"] = {**hires, "upscaler": "Lanczos"}
        if isinstance(styles := fields.get("styles"), list):
            here = self.styles()[0]
            fields["styles"] = [name for name in styles if name in here]
            notes += [f"Style {str(name)[:80]!r}" for name in styles if name not in here]
        return notes


def defaults(info: CheckpointInfo | None) -> Values:
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
        **({"distilled_cfg_scale": best.distilled_cfg_scale} if _distilled(info) else {}),
    }


def _distilled(info: CheckpointInfo) -> bool:
    family = FAMILIES.find(info.family)
    return family is not None and family.distilled


def _size_by(form: Form, info: CheckpointInfo | None, shown: Mapping[Any, Any]) -> Values:
    """How img2img says its size: by the factor of a network that enlarges pictures, and as usual again behind one."""
    if form.prefix != "img2img":
        return {}
    family = FAMILIES.find(info.family) if info else None
    if family is not None and family.concat == "low-res":
        return {"size_by": BY_FACTOR, "size_factor": family.latent.factor}
    now = [shown.get(form.components[name]) for name in ("size_by", "size_factor")]
    factors = {each.latent.factor for each in FAMILIES if each.concat == "low-res"}
    return {"size_by": TO_SIZE, "size_factor": 1} if now[0] == BY_FACTOR and now[1] in factors else {}


def filled(form: Form, fields: Values) -> Updates:
    """The form with these values, and its schedule as the sampler among them has it."""
    updates = form.write(fields)
    schedule = form.components["schedule"]
    hint = schedule_hint(fields.get("sampler"))
    if hint:
        updates[schedule] = hint | ({"value": updates[schedule]} if schedule in updates else {})
    return updates


def schedule_hint(sampler: Any) -> dict[str, Any]:
    """The schedule's field with this sampler: greyed, with the reason, where it makes no difference."""
    if not isinstance(sampler, str) or sampler not in SAMPLERS:
        return {}
    own = find_sampler(sampler)[0].spacing is not None
    return dict(gr.update(interactive=not own, info=f"{sampler} has noise levels of its own" if own else None))


PROMPT_HINTS = {
    "text": "What should the picture show?",
    "class": "A class: its name (golden retriever) or its number",
    "boxes": "A box on each line: class x y width height, such as: 5 0.1 0.2 0.5 0.6",
    "": "This checkpoint paints without words",
}
NEGATIVE_HINT = "What should it not show?"
"""What empty prompts say, by what the prompt is for the checkpoint (`families.parts.Words`)."""


def channel_hints(form: Form, info: CheckpointInfo | None) -> Updates:
    """Fields that only some kinds of checkpoint know are seen with those alone."""
    family = next((family for family in FAMILIES if info and family.name == info.family), None)
    concat, numbers = (family.concat, family.numbers) if family else ("", ())
    noised, words = (family.noises_low_res, family.words) if family else (False, "text")
    seen = {"conditioning_mask_strength": concat == "mask", "image_cfg_scale": concat == "picture"}
    seen |= {"upscaler_noise_level": noised} | dict.fromkeys(NOT_ENLARGING, concat not in FROM_NOISE)
    seen |= dict.fromkeys(SIZE_FIELDS, bool(numbers)) | {"cfg_scale": bool(words)}
    seen |= {"distilled_cfg_scale": family is not None and family.distilled}
    updates = {form.components[name]: gr.update(visible=show) for name, show in seen.items() if name in form.components}
    hints = {"prompt": PROMPT_HINTS[words], "negative_prompt": NEGATIVE_HINT if words else PROMPT_HINTS[""]}
    # Placeholders: what is not seen leaves the page, and with it the tools that scripts have put beside a prompt
    return updates | {
        form.components[name]: gr.update(placeholder=hint) for name, hint in hints.items() if name in form.components
    }


def with_hints(updates: Updates, hints: Updates) -> Updates:
    """The updates with hints for fields, of which some get a value too."""
    found = dict(updates)
    for component, hint in hints.items():
        now = found.get(component, {})
        found[component] = {**hint, **(now if isinstance(now, dict) else {"value": now})}
    return found


def _titles(usable: list[CheckpointInfo]) -> list[tuple[str, str]]:
    """Titles may repeat, names do not."""
    titles = [info.title for info in usable]
    return [(info.title if titles.count(info.title) == 1 else info.name, info.name) for info in usable]


_ABSENT: Values = {
    "hires": None,
    KEPT: {},
    **{name: Img2Img.model_fields[name].default for name in LATER_FIELDS},
    "upscaler_noise_level": NOISE_LEVEL,
}
"""What requests do not name where it is the usual."""

_RECALL = """() => {
  const kept = {};
  try {
    for (let i = 0; i < localStorage.length; i++) {
      const name = localStorage.key(i).match(/^atelier\\.form\\.(\\w+)$/)?.[1];
      if (name) kept[name] = localStorage.getItem(`atelier.form.${name}`);
    }
  } catch { /* forbidden: then nothing was kept */ }
  return [JSON.stringify(kept)];
}"""

_CLOSED = """async (...values) => {
  const end = performance.now() + 1000;
  while (document.querySelector("ul.option-list") && performance.now() < end) await new Promise((go) => setTimeout(go, 20));
  return values;
}"""
"""Waits until a dropdown's list has faded out: Gradio still draws it for 200 ms, and breaks when its choices become fewer."""
