"""Denoiser wrappers: functions around the denoiser of one denoising loop, from the hook `denoiser_wrappers`.

A wrapper stands around guidance and inside of what a mask keeps: it sees x and its noise level before any network is asked, and
the guided x0 prediction after.  The consistency boundary of LCM is one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.forward import SkipEdit
from modules.diffusion.samplers import Denoised, Sampler
from modules.errors import EditFailed
from modules.extensions.isolation import call, program
from modules.hooks import HOOKS, Listing, hookimpl
from modules.pipelines.consistency import consistent
from modules.pipelines.denoisers import Denoiser
from modules.pipelines.ops import DeviceOp, Predict, Program
from modules.pipelines.stages import Stage
from modules.pipelines.without import start_again, taking_part

HOOK = "denoiser_wrappers"


@dataclass(frozen=True, eq=False)
class Run:
    """One denoising loop: the stage that it is of, with the request's options as `stage.settings`, the model, the sampler, and
    the noise levels `sigmas` between which it steps.  `notes` are sentences for the picture's record, each said once."""

    stage: Stage
    model: ModelHandle
    sampler: Sampler
    sigmas: Sequence[float]
    notes: dict[str, None] = field(default_factory=dict)

    def note(self, sentence: str) -> None:
        """Have the picture's record say so."""
        self.notes[sentence] = None

    def done(self, sigma: float) -> float:
        """How far the way from pure noise is at a noise level, 0 to 1, in the model's training timesteps: the same of every
        sampler and schedule, and of a second pass, which begins further on."""
        return self.model.noise.trained.behind(sigma)


Wrap = Callable[[Denoiser, Run], Denoiser]


@dataclass(frozen=True)
class Wrapper:
    """`wrap` answers what it was given where the request does not ask for it, so that nothing changes by a bit.

    It is asked once for each denoising loop, so its closure may count evaluations.
    """

    name: str
    wrap: Wrap


def wrapped(denoise: Denoiser, run: Run, without: Collection[str] = ()) -> Denoiser:
    """`denoise` within every wrapper, the built-in ones innermost; `without` names plugins that are left out.

    Raises:
        StartAgain: an extension's wrapper raised, and the picture is to be made without it; the denoiser may raise that too.
        ExtensionFailed: as its manifest asks for.
    """
    for one in taking_part(WRAPPERS, without):
        around = one.entry.wrap if HOOKS.is_built_in(one.owner) else partial(_guarded, one.owner, one.entry)
        denoise = around(denoise, run)
    return denoise


def _guarded(owner: str, wrapper: Wrapper, denoise: Denoiser, run: Run) -> Denoiser:
    """An extension's wrapper, whose own errors name it; those of networks, devices and other wrappers pass."""
    again = partial(start_again, owner)
    outer = call(owner, HOOK, lambda: wrapper.wrap(denoise, run), again)
    if outer is denoise:
        return denoise

    def guarded(x: Tensor, sigma: float) -> Program[Denoised]:
        edits: set[SkipEdit] = set()
        try:
            return (yield from program(owner, HOOK, lambda: _noted(outer(x, sigma), x, edits), again))
        except EditFailed as failed:
            if failed.edit not in edits:
                raise
            return call(owner, HOOK, failed.again, again)

    return guarded


def _noted(denoised: Program[Denoised], x: Tensor, edits: set[SkipEdit]) -> Program[Denoised]:
    """`denoised`, noting the edits of the rows that it asks about.

    Raises:
        TypeError: its result is no pair of predictions for x.
    """
    answer: object = None
    try:
        op: DeviceOp = next(denoised)
        while True:
            if isinstance(op, Predict):
                edits.update(edit for row in op.rows for edit in row.skip_edits)
            try:
                answer = yield op
            except Exception as error:
                op = denoised.throw(error)
            else:
                op = denoised.send(answer)
    except StopIteration as finished:
        answer = finished.value
    finally:
        denoised.close()
    return _checked(answer, x)


def _checked(answer: object, x: Tensor) -> Denoised:
    if not isinstance(answer, Denoised) or answer.guided.shape != x.shape or answer.negative.shape != x.shape:
        raise TypeError(f"a denoiser answers two x0 predictions (Denoised) of the shape of x, {tuple(x.shape)}")
    return answer


def _boundary(denoise: Denoiser, run: Run) -> Denoiser:
    return denoise if run.sampler.distilled is None else consistent(denoise, run.model.noise)


class _BuiltIn:
    @hookimpl
    def denoiser_wrappers(self) -> tuple[Wrapper, ...]:
        return (Wrapper("LCM boundary", _boundary),)


WRAPPERS: Listing[Wrapper] = Listing(HOOKS, HOOK, "denoiser wrapper", lambda wrapper: (wrapper.name,))
"""Every wrapper from the innermost on, those of extensions last."""

HOOKS.register(_BuiltIn(), "atelier.wrappers", built_in=True)
