"""The Script section of a generation form: its place on the page, and a script's errors as the page shows them.

The section's controls are the page's (`static/forms/script.js`): which there are depends on the script that is chosen, and what
they hold is kept by the browser.  It comes to Python as one JSON object beside the form.
"""

from __future__ import annotations

from typing import Any

from modules.errors import AtelierError, RequestError, without_folders
from modules.scripts.plan import ScriptError
from modules.ui.files import STATIC
from modules.ui.form import Form, Values
from modules.ui.gradio import gr

ONE_PICTURE = (
    "A script is carried out with one picture. Take the files out of Many pictures, or choose None in the field Script."
)


def build(form: Form) -> None:
    """Inside the current column."""
    template = (STATIC / "forms" / "script.html").read_text("utf-8").replace("PREFIX", form.prefix)
    gr.HTML(template, elem_id=form.id("script_area"), js_on_load=None)


def as_sent(form: Form, values: Values) -> dict[gr.components.Component, Any]:
    """Values by name, as the page's scripts know them, as Gradio hands them to a callback."""
    data = {}
    for name, component in form.components.items():
        try:
            data[component] = component.preprocess(values.get(name))
        except gr.Error:  # no choice of it: the request's own checks say so
            data[component] = values.get(name)
    return data


def script_of(attached: Values) -> Values | None:
    """The script that comes with a form, None where none is chosen."""
    script = attached.get("script")
    return script if isinstance(script, dict) and script.get("name") else None


def one_of(requests: list[Values]) -> Values:
    """The request that a script is carried out with.

    Raises:
        RequestError: there are several.
    """
    if len(requests) != 1:
        raise RequestError(ONE_PICTURE)
    return requests[0]


def complaint(form: Form, error: AtelierError) -> Values:
    """An error as the page shows it: a sentence, and the ids of the fields that it is about."""
    if not isinstance(error, ScriptError):
        return form.complaint(error)
    text = without_folders(str(error))
    place = form.id(error.place) if error.place in form.components else form.id(f"script_{error.place}")
    return {"error": text[:1].upper() + text[1:].rstrip(".") + ".", "fields": [place] if error.place else []}
