"""The prompt library: styles and wildcards, and how a request's prompts become final with them.

Both live in one folder (`styles.csv`, `wildcards/`) and may change at any time.  The order is A1111's: styles, comments, then
what is drawn by the image's seed.  What the finished words mean is `plan`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modules.errors import RequestError, SettingsError, UnknownName
from modules.prompts.compose import without_comments
from modules.prompts.dynamic import Resolved, resolve
from modules.prompts.plan import plan
from modules.prompts.styles import Style, apply_styles, read_styles
from modules.prompts.wildcards import Wildcards
from modules.request import MAX_PROMPT, GenerationRequest, Hires


@dataclass(frozen=True)
class Finished:
    """`request` with its prompts final; `template` and `negative_template` are what they were drawn from.

    `unknown` are wildcards that have no file and were left as they were written.
    """

    request: GenerationRequest
    template: str
    negative_template: str
    unknown: tuple[str, ...] = ()


@dataclass
class Library:
    r"""`folder` None has neither styles nor wildcards; one that is not there is empty.

    >>> Library(None).finish(GenerationRequest(prompt="a {red|blue} cat # or dog", seed=3)).request.prompt
    'a red cat \n'
    """

    folder: Path | None
    wildcards: Wildcards = field(init=False)

    def __post_init__(self) -> None:
        self.wildcards = Wildcards(self.folder / "wildcards" if self.folder else None)

    @property
    def styles_file(self) -> Path | None:
        return self.folder / "styles.csv" if self.folder else None

    def styles(self) -> Mapping[str, Style]:
        """By name, in the order of the file.

        Raises:
            SettingsError: the file cannot be read.
        """
        return read_styles(self.styles_file) if self.styles_file else {}

    def wildcard_names(self) -> list[str]:
        return self.wildcards.lists().names()

    def finish(self, request: GenerationRequest) -> Finished:
        """The request of one image as it is painted and recorded: the same seed and files give the same words.

        A finished request is not changed by being finished again.

        Raises:
            RequestError: a style is not here, the styles file is damaged, or the words have become too many.
        """
        prompt, negative = self._styled(request)
        if request.comments:
            prompt, negative = without_comments(prompt), without_comments(negative)
        drawn = resolve(prompt, request.seed, self.wildcards, "prompt")
        drawn_negative = resolve(negative, request.seed, self.wildcards, "negative")
        for name, text in (("prompt", drawn.text), ("negative_prompt", drawn_negative.text)):
            if len(text) > MAX_PROMPT:
                raise RequestError(
                    f"{name}: with styles and wildcards it has {len(text):,} characters, at most {MAX_PROMPT:,} are allowed"
                )
        hires = self._finished_hires(request)
        left = drawn.text + drawn_negative.text + (hires.prompt + hires.negative_prompt if hires else "")
        final = request.model_copy(
            update={
                "hires": hires,
                "prompt": drawn.text,
                "negative_prompt": drawn_negative.text,
                "styles": (),
                # A # that is left was drawn, or meant: a replay must not take it for a comment
                "comments": request.comments and "#" not in left,
            }
        )
        return Finished(final, prompt, negative, _union(drawn, drawn_negative))

    def _finished_hires(self, request: GenerationRequest) -> Hires | None:
        """The second pass with its own prompts final, as the first's: with the same styles, and drawn by the same seed."""
        if (hires := request.hires) is None or not (hires.prompt or hires.negative_prompt):
            return hires
        own = request.model_copy(update={"prompt": hires.prompt, "negative_prompt": hires.negative_prompt, "hires": None})
        done = self.finish(own).request
        final = {name: getattr(done, name) if getattr(hires, name) else "" for name in ("prompt", "negative_prompt")}
        return hires.model_copy(update=final)

    def _styled(self, request: GenerationRequest) -> tuple[str, str]:
        if not request.styles:
            return request.prompt, request.negative_prompt
        try:
            known = self.styles()
        except SettingsError as error:
            raise RequestError(f"styles: {error}") from None
        if missing := [name for name in request.styles if name not in known]:
            raise UnknownName("style", missing[0], known)
        chosen = [known[name] for name in request.styles]
        prompt = apply_styles(request.prompt, (style.prompt for style in chosen))
        return prompt, apply_styles(request.negative_prompt, (style.negative_prompt for style in chosen))


def _union(*resolved: Resolved) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for one in resolved for name in one.unknown))


def infotext_items(finished: Finished, prompt_steps: int) -> dict[str, str]:
    """What a picture's text says about how its prompts were read, in A1111's order; only what is not the usual.

    `prompt_steps` as in `Sampler.prompt_steps`.  The templates have the names that the Dynamic Prompts extension gives them.
    """
    request = finished.request
    words = plan(request.prompt, request.negative_prompt, prompt_steps, old=request.old_prompt_editing)
    items: dict[str, str] = {}
    if request.old_prompt_editing and words != plan(request.prompt, request.negative_prompt, prompt_steps):
        items["Old prompt editing timelines"] = "True"
    if request.emphasis != "Original" and words.uses_emphasis:
        items["Emphasis"] = request.emphasis
    if finished.template != request.prompt:
        items["Template"] = finished.template
    if finished.negative_template != request.negative_prompt:
        items["Negative Template"] = finished.negative_template
    return items
