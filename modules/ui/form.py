"""A form: Gradio components by the names of the request's fields.

Values are collected once, as a dict keyed by name, and checked by `modules.request`, which speaks the user's language; so the
components themselves refuse nothing.  The form does not know what is done with a request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from modules.errors import AtelierError, RequestError, without_folders
from modules.fields import about, bounds_of, kind_of
from modules.options import EXTENSIONS
from modules.request import EXTENSIONS as INSTALLED
from modules.request import MAX_SEED, Img2Img
from modules.request.extensions import nested, understood, value_of
from modules.request.kept_extensions import as_kept_text, of_kept_text, sorted_out
from modules.ui.gradio import gr

Values = dict[str, Any]

KEPT = "kept_extensions"
"""The field with the options of extensions that are not in use, which a form carries as text."""

_NAMED = re.compile(r"([a-z0-9_.]+): (.*)", re.DOTALL)


class Range(gr.Slider):
    """A slider whose number box may hold anything: the request's own checks answer, beside the form and in plain words."""

    def preprocess(self, payload: Any) -> Any:
        return payload

    def get_block_name(self) -> str:
        return "slider"


class Choice(gr.Dropdown):
    """A dropdown whose choices may have changed since the page was opened: the request's checks answer for unknown ones."""

    def preprocess(self, payload: Any) -> Any:
        return payload

    def get_block_name(self) -> str:
        return "dropdown"


class Figure(gr.Textbox):
    """A number that may be left out: it is typed as text, and the default stands there in grey."""

    default: float | str | None = None

    def preprocess(self, payload: Any) -> Any:
        return str(payload).strip() or None if payload is not None else None

    def postprocess(self, value: Any) -> str:
        if isinstance(value, (int, float)):
            return "" if value == self.default else repr(value)
        return value if isinstance(value, str) else ""

    def get_block_name(self) -> str:
        return "textbox"


@dataclass
class Form:
    """The components of one tab; `prefix` begins their element ids: field `steps` of `txt2img` is `#txt2img_steps`.

    Names in `page_only` are remembered like any other, but are the page's business and no fields of a request; those in
    `optional` may be left empty, which leaves the request's default.
    """

    prefix: str
    components: dict[str, gr.components.Component] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    page_only: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)
    spread: Callable[[Mapping[str, Any]], Values] = dict
    """A request's fields as those of this form, where one of them has several controls."""

    def id(self, name: str) -> str:
        return f"{self.prefix}_{name}"

    def text(self, name: str, label: str, placeholder: str, **options: Any) -> gr.Textbox:
        attributes = gr.InputHTMLAttributes(spellcheck=False, autocomplete="off")
        box = gr.Textbox(label=label, placeholder=placeholder, elem_id=self.id(name), html_attributes=attributes, **options)
        return self._keep(name, label, box)

    def number(self, name: str, label: str, value: float | None, **options: Any) -> gr.Number:
        return self._keep(name, label, gr.Number(value, label=label, elem_id=self.id(name), min_width=60, **options))

    def slider(self, name: str, label: str, low: float, high: float, value: float, step: float, visible: bool = True) -> Range:
        own = {"elem_id": self.id(name), "buttons": [], "min_width": 120, "visible": visible}
        slider = Range(low, high, value, step=step, label=label, **own)
        return self._keep(name, label, slider)

    def declared(self, name: str) -> gr.components.Component:
        """The control of a switch, of one of several words or of a number, as the request declares the field."""
        default, kind, one = Img2Img.model_fields[name].default, kind_of(Img2Img, name), about(Img2Img)[name]
        if kind is bool:
            return self.check(name, one.label, default)
        if words := get_args(kind):
            return self.choice(name, one.label, words, default)
        bounds = bounds_of(Img2Img, name)
        return self.slider(name, one.label, bounds.ge, bounds.le, default, one.step)

    def choice(self, name: str, label: str, choices: Iterable[Any], value: str | list[str] | None, **options: Any) -> Choice:
        choice = Choice(list(choices), value=value, label=label, elem_id=self.id(name), min_width=100, **options)
        return self._keep(name, label, choice)

    def check(self, name: str, label: str, value: bool = False, **options: Any) -> gr.Checkbox:
        return self._keep(name, label, gr.Checkbox(value, label=label, elem_id=self.id(name), min_width=60, **options))

    def figure(self, name: str, label: str, default: float | str | None, otherwise: str = "", **options: Any) -> Figure:
        """A number that may be left out; `otherwise` says in a word what then counts where there is no default to show."""
        self.optional.add(name)
        attributes = gr.InputHTMLAttributes(spellcheck=False, autocomplete="off")
        shown = otherwise if default is None else default if isinstance(default, str) else f"{default:g}"
        figure = Figure(
            label=label,
            placeholder=shown,
            elem_id=self.id(name),
            max_lines=1,
            min_width=60,
            html_attributes=attributes,
            **options,
        )
        figure.default = default
        return self._keep(name, label, figure)

    def kept(self) -> None:
        """What a picture's settings say of extensions that are not in use: seen where there is something; may be emptied."""
        label = "Options of extensions that are not in use"
        self.optional.add(KEPT)
        about = "They are kept in the pictures' files and change nothing. Empty this field to leave them out."
        self.text(KEPT, label, "None", info=about, lines=1, max_lines=4, elem_classes="kept-extensions")

    def share(self, name: str, label: str, component: gr.components.Component) -> None:
        """Take in a field that stands elsewhere on the page and belongs to several forms."""
        self._keep(name, label, component)

    def keep_for_page(self, name: str, label: str, component: gr.components.Component) -> None:
        """A field that is remembered, and none of the request."""
        self._keep(name, label, component)
        self.page_only.add(name)

    def _keep(self, name: str, label: str, component: Any) -> Any:
        self.components[name] = component
        self.labels[name] = label
        return component

    @property
    def names(self) -> list[str]:
        return list(self.components)

    @property
    def outputs(self) -> list[gr.components.Component]:
        return list(self.components.values())

    @property
    def inputs(self) -> set[gr.components.Component]:
        """As a set, so that Gradio hands the values over keyed by component."""
        return set(self.components.values())

    def read(self, data: Mapping[gr.components.Component, Any]) -> Values:
        """The request's fields; options of extensions among them as its `extensions`.

        Raises:
            RequestError: a field that needs a value is empty.
        """
        away = {name for name in self.components if name.startswith(EXTENSIONS) and name.split(".")[1] not in INSTALLED}
        values = {name: data[component] for name, component in self.components.items() if name not in self.page_only | away}
        values = {name: value for name, value in values.items() if value is not None or name not in self.optional}
        empty = [self.labels[name] for name, value in values.items() if value is None and name != "checkpoint"]
        if empty:
            raise RequestError("; ".join(f"{label} is empty, please fill it in" for label in empty))
        values["seed"] = _seed(values["seed"])
        if (text := str(values.pop(KEPT, "") or "").strip()) and (kept := of_kept_text(text)) is None:
            raise RequestError(f"{KEPT}: must be as it was read from a picture, or empty")
        return nested({**values, KEPT: kept} if text else values)

    def write(self, values: Mapping[str, Any]) -> dict[gr.components.Component, Any]:
        """Gradio's updates that show `values`; names that the form does not have and odd types are left out.

        `values` with `extensions` set all options of extensions, those that it does not name to their defaults.
        """
        updates: dict[gr.components.Component, Any] = {}
        values = self.spread(values)
        if isinstance(given := values.get("extensions"), dict):
            known, _ = understood(given)
            own = [name for name in self.components if name.startswith(EXTENSIONS) and name.split(".")[1] in INSTALLED]
            values = {**values, **{name: value_of(known, name) for name in own}}
        if isinstance(kept := values.get(KEPT), dict):
            values = {**values, KEPT: as_kept_text(kept)}
        for name, value in values.items():
            component = self.components.get(name)
            if name == "seed":
                value = "" if value in (-1, None) else str(value)
            if component is not None and _fits(component, value):
                updates[component] = value
        return updates

    def complaint(self, error: AtelierError) -> Values:
        """An error as the page shows it: sentences with the form's own labels, and the ids of the fields they are about."""
        sentences, ids = [], []
        for part in without_folders(str(error)).split("; "):
            match = _NAMED.fullmatch(part)
            name = match.group(1) if match else next((n for n, label in self.labels.items() if part.startswith(label)), "")
            name = name.replace("hires.", "hires_")  # the second pass's fields have controls of their own
            if name in self.components:
                ids.append(str(self.components[name].elem_id))
            sentences.append(f"{self.labels[name]} {match.group(2)}" if match and name in self.labels else part)
        text = "; ".join(sentences)
        return {"error": text[:1].upper() + text[1:].rstrip(".") + ".", "fields": ids}


def fields_of(source: Any) -> Values:
    """Fields out of what a browser sent, as text or as an object; whatever else it is, nothing."""
    if isinstance(source, str):
        try:
            source = json.loads(source)
        except ValueError:
            return {}
    return dict(source) if isinstance(source, dict) else {}


def keep_unused(fields: Values) -> list[str]:
    """Let `fields` of a picture keep the options of extensions that are not in use; a sentence for each of these."""
    if not isinstance(given := fields.get("extensions"), dict):
        return []
    fields["extensions"], kept, notes = sorted_out(given)
    fields[KEPT] = {**fields_of(fields.get(KEPT)), **kept}
    return notes


def _seed(text: Any) -> int:
    """Gradio's number fields show 0 when they are empty, so a seed is typed as text; nothing means a random one."""
    text = str(text).strip()
    try:
        return int(text) if text else -1
    except ValueError:
        raise RequestError(
            f"seed: must be a whole number from 0 to {MAX_SEED}, or empty for a random one, {text[:40]!r} was given"
        ) from None


def _fits(component: gr.components.Component, value: Any) -> bool:
    if isinstance(component, Figure):
        return value is None or (isinstance(value, (int, float, str)) and not isinstance(value, bool))
    if isinstance(component, gr.Textbox):
        return isinstance(value, str)
    if isinstance(component, (gr.Radio, gr.CheckboxGroup)):
        known = {value for _, value in component.choices}
        return set(value if isinstance(value, list) else [value]) <= known if isinstance(value, (str, list)) else False
    if isinstance(component, gr.Checkbox):
        return isinstance(value, bool)
    if isinstance(component, Choice) and component.multiselect:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if isinstance(component, Choice):
        return isinstance(value, str) or value is None
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
