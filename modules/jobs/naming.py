"""What the patterns of file names may tell of a picture: of a job before it is painted, and of the picture when it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from modules.images.infotext import GenerationInfo
from modules.naming import Facts
from modules.prompts.compose import without_comments
from modules.queue.records import Job
from modules.request import GenerationRequest


def facts_of(job: Job, index: int) -> Facts:
    """Of picture `index` of a job; the tags of `naming.KNOWN_BEFORE` have their final values."""
    request, one = job.request, job.request.image(index)
    return Facts(
        when=job.created,
        job=job.id,
        index=index,
        count=request.count,
        seed=one.seed,
        first_seed=request.image(0).seed,
        last_seed=request.image(request.count - 1).seed,
        steps=request.steps,
        cfg=request.cfg_scale,
        width=request.width,
        height=request.height,
        sampler=request.sampler,
        schedule=request.schedule,
        model_name=request.checkpoint or "",
        model_hash="",
        vae=request.vae,
        clip_skip=request.clip_skip,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        own_prompt=request.prompt,
        styles=request.styles,
        denoising=_denoising(request),
        user=job.user,
        image_hash=lambda: "",
    )


def painted_facts(job: Job, index: int, info: GenerationInfo, pixels: Callable[[], bytes]) -> Facts:
    """Of a picture that is painted; `info.request` has its final words."""
    return replace(
        facts_of(job, index),
        schedule=info.schedule_label or info.request.schedule,
        model_name=info.model_name,
        model_hash=info.model_hash,
        prompt=info.request.prompt,
        negative_prompt=info.request.negative_prompt,
        own_prompt=_unstyled(job.request) if job.request.styles else info.request.prompt,
        image_hash=lambda: hashlib.sha256(pixels()).hexdigest(),
    )


def _unstyled(request: GenerationRequest) -> str:
    """As its owner wrote it: where words were drawn, which of them came from a style cannot be told."""
    return without_comments(request.prompt) if request.comments else request.prompt


def _denoising(request: GenerationRequest) -> float | None:
    strength = getattr(request, "denoising_strength", None)
    if strength is None and request.hires is not None:
        strength = request.hires.denoising_strength
    return None if strength is None else float(strength)
