"""The accordion of further options at the end of a generation form, closed at first.

Built from the field declarations of the request (`modules.options`).  What makes no difference beside the other settings is
greyed, and the accordion's title says how many options are not at their default.  Numbers may be left out; what was typed is
checked by the request.  Each extension has such an accordion too (`extension_options`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import Any

from modules.diffusion.samplers.relevance import idle_options
from modules.errors import AtelierError
from modules.options import EXTENSIONS, OPTIONS, Groups, Option
from modules.request import Txt2Img, extensions, parse_request
from modules.ui.form import Form, Values, fields_of
from modules.ui.gradio import gr
from modules.ui.tabs.base import AT_ONCE, Updates

TITLE = "Advanced"
OWN = "its own"
"""What counts where a number without a default is left out: that of the sampler."""

ELSEWHERE = ("distilled_cfg_scale",)
"""Options with a control of their own among the settings: what guides a picture stands beside the CFG scale."""

_DECIDE = ("sampler", "schedule")
"""Other fields that decide which options make a difference."""


class Options:
    """The accordion of one form, which has sampler and schedule already.

    Args:
        form: gets the options as its fields.
        tell: JavaScript, an expression: the form's values as an object by name.
        listed: what is offered of options that name files, names or (label, name); other names may be typed.
    """

    title = TITLE
    part = "options"
    """What the id of the accordion ends in."""
    classes = ("options",)
    decide = _DECIDE

    def __init__(
        self,
        form: Form,
        tell: str,
        listed: Mapping[str, Sequence[Any]] = MappingProxyType({}),
        groups: Groups = MappingProxyType(OPTIONS),
    ) -> None:
        self.form, self.tell, self.listed, self.groups = form, tell, listed, groups
        self.names = tuple(option.name for group in self.groups.values() for option in group if option.name not in ELSEWHERE)
        self.defaults: Values = {name: _value(Txt2Img(), name) for name in self.names}

    def build(self) -> None:
        """Inside the current column."""
        form = self.form
        with gr.Accordion(self.title, open=False, elem_id=form.id(self.part), elem_classes=[*self.classes]) as self.accordion:
            idle = self.idle(_readable({name: form.components[name].value for name in self.decide}))
            for group, options in self.groups.items():
                with gr.Group(elem_classes="plain option-group"):
                    if self.says(group):
                        gr.HTML(f"<h3>{escape(group)}</h3>", js_on_load=None)
                    for option in options:
                        if option.name in ELSEWHERE:
                            continue
                        default, listed = self.defaults[option.name], self.listed.get(option.name)
                        _control(form, option, default, option.name not in idle, listed)
            self.reset = gr.Button("Set all back", elem_id=form.id(f"{self.part}_reset"), elem_classes="quiet", size="sm")
        # Which options are greyed, and what is asked about them, as JSON: one input, since the browser's side of Gradio takes
        # milliseconds for each input and each output of an event that is not left as it is.
        self.state = gr.Textbox(json.dumps(sorted(idle)), visible=False)

    def says(self, group: str) -> bool:
        """Whether the heading of this group is shown."""
        return True

    def idle(self, request: Txt2Img) -> set[str]:
        """The options of which no value would make a difference beside the others of the request."""
        try:
            return idle_options(request)
        except AtelierError:  # a sampler that is not here: the request says so
            return set()

    def connect(self) -> None:
        """Connect the events, last of all that hear a change of a field: by then the page knows the new value."""
        form = self.form
        own = [form.components[name] for name in self.names]
        changes = [form.components[name].change for name in (*self.names, *self.decide)]
        ask = f"(idle) => [JSON.stringify({{ idle: JSON.parse(idle), values: {self.tell} }})]"
        outputs = [*own, self.accordion, self.state]
        gr.on(changes, self._shown, self.state, outputs, js=ask, trigger_mode="always_last", **AT_ONCE)
        self.reset.click(lambda: form.write(self.defaults), None, own, **AT_ONCE)

    def _shown(self, asked: str) -> Updates:
        """Which fields may be changed, where that differs from before, and the title, as the form is now."""
        form, question = self.form, fields_of(asked)
        values = fields_of(question.get("values"))
        given = {name: values[name] for name in (*self.names, *self.decide) if values.get(name) not in (None, "")}
        request = _readable(given)
        idle, before = self.idle(request), _names(question.get("idle"))
        active = [name for name in self.names if name not in idle and name in given]
        changed = [name for name in active if _value(request, name) != self.defaults[name]]
        updates: Updates = {
            form.components[name]: gr.update(interactive=name not in idle) for name in self.names if name in idle ^ before
        }
        updates[self.accordion] = gr.update(label=f"{self.title} · {len(changed)} set" if changed else self.title)
        updates[self.state] = json.dumps(sorted(idle))
        return updates


def _control(form: Form, option: Option, default: Any, interactive: bool, listed: Sequence[Any] | None = None) -> None:
    classes = ["figure"]
    more = {"info": option.help, "interactive": interactive}
    if option.switch:
        form.check(option.name, option.label, default, **more)
    elif listed is not None:
        form.choice(option.name, option.label, listed, default, elem_classes=classes, allow_custom_value=True, **more)
    elif option.choices:
        form.choice(option.name, option.label, option.choices, default, elem_classes=classes, **more)
    else:
        form.figure(option.name, option.label, default, OWN, elem_classes=classes, **more)


def _value(request: Txt2Img, name: str) -> Any:
    """The value of an option, be it the request's own or an extension's."""
    return extensions.value_of(request.extensions, name) if name.startswith(EXTENSIONS) else getattr(request, name)


def _names(value: Any) -> set[str]:
    return {name for name in value if isinstance(name, str)} if isinstance(value, list) else set()


def _readable(given: Values) -> Txt2Img:
    """The request of these values; those that make no sense (yet: they are being typed) are left out."""
    try:
        return parse_request(extensions.nested(given))
    except AtelierError:
        pass
    sound = {}
    for name, value in given.items():
        try:
            parse_request(extensions.nested({name: value}))
            sound[name] = value
        except AtelierError:
            continue
    try:
        return parse_request(extensions.nested(sound))
    except AtelierError:
        return Txt2Img()
