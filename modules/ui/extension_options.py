"""The accordions of extensions' options, one each, behind the form's own: the same controls from the same kind of declarations.

They are built with the page from the extensions that are on then.  One that is switched off later keeps its place, which the
page hides (`static/extensions/states.js`), and its values: the form does not read them while it is off.
"""

from __future__ import annotations

from modules.hooks import HOOKS
from modules.request import EXTENSIONS, RequestExtension, Txt2Img
from modules.request.extensions import idle_options, offered_by
from modules.ui.form import Form
from modules.ui.gradio import gr
from modules.ui.options import Options
from modules.ui.tabs.base import Updates


class ExtensionOptions(Options):
    """The accordion of one extension in one form."""

    classes = ("options", "extension-options")
    decide = ()

    def __init__(self, form: Form, tell: str, extension: RequestExtension) -> None:
        super().__init__(form, tell, groups=offered_by(extension))
        self.name, self.title, self.part = extension.name, extension.title, f"extension_{extension.name}"

    def says(self, group: str) -> bool:
        return group != self.title

    def idle(self, request: Txt2Img) -> set[str]:
        return idle_options(request.extensions) & set(self.names)

    def _shown(self, asked: str) -> Updates:
        return super()._shown(asked) if self.name in EXTENSIONS else {self.state: gr.skip()}


def extension_options(form: Form, tell: str) -> list[ExtensionOptions]:
    """Build the accordions of all extensions that name this form's tab, by their titles, inside the current column.

    One whose options cannot be shown is left out, and `HOOKS.problems` says so.
    """
    built = []
    for owned in sorted(EXTENSIONS.entries.owned(), key=lambda one: one.entry.title.casefold()):
        extension, before = owned.entry, set(form.components)
        if form.prefix not in extension.tabs:
            continue
        try:
            accordion = ExtensionOptions(form, tell, extension)
            if accordion.names:
                accordion.build()
                built.append(accordion)
        except Exception as error:
            for name in set(form.components) - before:
                del form.components[name]
            text = f"its options could not be shown: {type(error).__name__}: {error}"
            HOOKS.report(owned.owner, "request_extensions", text, error)
    return built
