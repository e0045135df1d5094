"""The options beside what everybody sets: a closed accordion at the end of a painting form.

Built from the table in `modules.options` and the request's declarations.  What makes no difference beside the other settings is
greyed, and the accordion's title says how many options are not at their default.  Numbers may be left out; what was typed is
checked by the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from modules.diffusion.samplers.relevance import idle_options
from modules.errors import AtelierError
from modules.options import OPTIONS, Option
from modules.request import Txt2Img, parse_request
from modules.ui.form import Form, Values
from modules.ui.gradio import gr
from modules.ui.tabs.base import AT_ONCE, Updates

TITLE = "Advanced"
OWN = "its own"
"""What counts where a number without a default is left out: that of the sampler."""

NAMES = tuple(option.name for group in OPTIONS.values() for option in group)
_DECIDE = ("sampler", "schedule")
"""Other fields that decide which options make a difference."""


def build_options(form: Form) -> None:
    """The accordion, inside the current column; all of it works by itself.  `form` has sampler and schedule already."""
    with gr.Accordion(TITLE, open=False, elem_id=form.id("options"), elem_classes="options") as accordion:
        idle = _idle(_readable({name: form.components[name].value for name in _DECIDE}))
        for group, options in OPTIONS.items():
            with gr.Group(elem_classes="plain option-group"):
                gr.HTML(f"<h3>{group}</h3>", js_on_load=None)
                right = False
                for option in options:
                    _control(form, option, option.name not in idle, right and not option.switch)
                    right = not right and not option.switch  # a switch has a line of its own
        reset = gr.Button("Set all back", elem_id=form.id("options_reset"), elem_classes="quiet", size="sm")

    own = [form.components[name] for name in NAMES]
    inputs = {form.components[name] for name in (*NAMES, *_DECIDE)}
    show = partial(_shown, form, accordion)
    gr.on([component.change for component in inputs], show, inputs, [*own, accordion], trigger_mode="always_last", **AT_ONCE)
    reset.click(lambda: form.write(_DEFAULTS), None, own, **AT_ONCE)


def _control(form: Form, option: Option, interactive: bool, right: bool) -> None:
    """One option; `right`: in the second of the two columns, where its help must not reach beyond the settings."""
    classes = ["figure", "right"] if right else ["figure"]
    default, more = _DEFAULTS[option.name], {"info": option.help, "interactive": interactive}
    if option.switch:
        form.check(option.name, option.label, default, **more)
    elif option.choices:
        form.choice(option.name, option.label, option.choices, default, elem_classes=classes, **more)
    else:
        form.figure(option.name, option.label, default, OWN, elem_classes=classes, **more)


_DEFAULTS: Values = {name: Txt2Img.model_fields[name].default for name in NAMES}


def _shown(form: Form, accordion: gr.Accordion, data: Mapping[Any, Any]) -> Updates:
    """Which fields may be changed, and the title, as the form is now."""
    values = {name: data[form.components[name]] for name in (*NAMES, *_DECIDE)}
    given = {name: value for name, value in values.items() if value is not None}
    request = _readable(given)
    idle = _idle(request)
    changed = [name for name in NAMES if name not in idle and name in given and getattr(request, name) != _DEFAULTS[name]]
    updates: Updates = {form.components[name]: gr.update(interactive=name not in idle) for name in NAMES}
    updates[accordion] = gr.update(label=f"{TITLE} · {len(changed)} set" if changed else TITLE)
    return updates


def _idle(request: Txt2Img) -> set[str]:
    try:
        return idle_options(request)
    except AtelierError:  # a sampler that is not here: the request says so
        return set()


def _readable(given: Values) -> Txt2Img:
    """The request of these values; those that make no sense (yet: somebody types) are left out."""
    try:
        return parse_request(given)
    except AtelierError:
        pass
    sound = {}
    for name, value in given.items():
        try:
            parse_request({name: value})
            sound[name] = value
        except AtelierError:
            continue
    try:
        return parse_request(sound)
    except AtelierError:
        return Txt2Img()
