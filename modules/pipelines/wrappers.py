"""Denoiser wrappers: functions around the denoiser of one denoising loop, from the hook `denoiser_wrappers`.

A wrapper stands around guidance and inside of what a mask keeps: it sees x and its noise level before any network is asked, and
the guided x0 prediction after.  The consistency boundary of LCM is one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.forward import SkipEdit
from modules.diffusion.samplers import Denoised, Sampler
from modules.errors import AtelierError, EditFailed
from modules.extensions.calls import calling, failed, taking_part
from modules.hooks import HOOKS, Listing, hookimpl
from modules.pipelines.consistency import consistent
from modules.pipelines.denoisers import Denoiser
from modules.pipelines.ops import DeviceOp, Predict, Program
from modules.pipelines.stages import Stage

HOOK = "denoiser_wrappers"


@dataclass(frozen=True, eq=False)
class Run:
    """One denoising loop: the stage that it is of, with the request's options as `stage.settings`, the model, the sampler, and
    the noise levels `sigmas` between which it steps."""

    stage: Stage
    model: ModelHandle
    sampler: Sampler
    sigmas: Sequence[float]

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
    """`denoise` within every wrapper, the built-in ones innermost; `without` names extensions that are left out.

    Raises:
        ExtensionFailed: an extension's wrapper raised; the denoiser may raise it too.
    """
    for one in taking_part(WRAPPERS, without):
        if HOOKS.is_built_in(one.owner):
            denoise = one.entry.wrap(denoise, run)
        else:
            denoise = _guarded(one.owner, one.entry, denoise, run)
    return denoise


def _guarded(owner: str, wrapper: Wrapper, denoise: Denoiser, run: Run) -> Denoiser:
    """An extension's wrapper, whose own errors name it; those of networks, devices and other wrappers pass."""
    others: list[Exception] = []

    def inner(x: Tensor, sigma: float) -> Program[Denoised]:
        try:
            return (yield from denoise(x, sigma))
        except Exception as error:
            others.append(error)
            raise

    with calling(owner, HOOK):
        outer = wrapper.wrap(inner, run)
    if outer is inner:
        return denoise

    def guarded(x: Tensor, sigma: float) -> Program[Denoised]:
        edits: set[SkipEdit] = set()
        try:
            answer = yield from _watched(outer(x, sigma), others, edits)
            return _checked(answer, x)
        except EditFailed as error:
            if error.edit in edits and isinstance(error.error, Exception):
                raise failed(owner, HOOK, error.error) from error
            raise
        except AtelierError:
            raise
        except Exception as error:
            if any(error is other for other in others):
                raise
            raise failed(owner, HOOK, error) from error

    return guarded


def _watched(program: Program[Denoised], others: list[Exception], edits: set[SkipEdit]) -> Program[Denoised]:
    """`program`, noting what is thrown into it as the errors of others, and the edits of the rows that it asks about."""
    try:
        op: DeviceOp = next(program)
        while True:
            if isinstance(op, Predict):
                edits.update(edit for row in op.rows for edit in row.skip_edits)
            try:
                answer = yield op
            except Exception as error:
                others.append(error)
                op = program.throw(error)
            else:
                op = program.send(answer)
    except StopIteration as finished:
        denoised: Denoised = finished.value
        return denoised
    finally:
        program.close()


def _checked(answer: Denoised, x: Tensor) -> Denoised:
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
