"""Whether a CPU computes faster in bfloat16 than in float32: measured, as its name and its flags do not say.

With AVX512-BF16 or AMX bfloat16 takes half the time; where it is emulated, products have run at 0.3 GFLOP/s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch.nn import functional as F

FASTER = 1.3
"""How many times as fast as float32 bfloat16 must be to be taken: its pictures differ from float32's."""

EMULATED = 6.0
"""A tiny product that takes so many times as long is emulated, and nothing larger is tried.  Where it is not, overheads make it
up to 3.5 times as long; emulated by AVX-512 and AVX2 without bfloat16 it took 9 to 12 times, without AVX-512 over 100 times."""

TINY, SIDE = 64, 384
"""Sides of the square matrices that are multiplied."""

CHANNELS, PLACES = 128, 20
"""The convolution's channels, and the rows and columns of its feature map."""

REPEATS = 6

Timer = Callable[[Sequence[Callable[[], object]]], list[float]]


_clock = time.thread_time if time.get_clock_info("thread_time").resolution < 1e-5 else time.perf_counter
"""The processor time of this thread where the system counts it finely: other programs' load is no part of it."""


def seconds(calls: Sequence[Callable[[], object]]) -> list[float]:
    """The least time of each call, in seconds; they take turns, so that what disturbs them meets all."""
    best = [float("inf")] * len(calls)
    for _ in range(REPEATS):
        for number, call in enumerate(calls):
            begun = _clock()
            call()
            best[number] = min(best[number], _clock() - begun)
    return best


def bfloat16_speed(timer: Timer = seconds) -> float:
    """How many times as fast as float32 this process computes bfloat16 on its CPU: the lesser of a matrix product's ratio and a
    channels-last 3x3 convolution's.  About 30 ms; where bfloat16 is emulated, less.
    """
    with torch.inference_mode():
        tiny = _ratio(_products(TINY), timer)
        if tiny < 1 / EMULATED:
            return tiny
        return min(_ratio(_products(SIDE), timer), _ratio(_convolutions(), timer))


@lru_cache(maxsize=1)
def measured_bfloat16_speed() -> float:
    """`bfloat16_speed` of one thread, once in this process: threads that wait for each other measure the machine's load."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return bfloat16_speed()
    finally:
        torch.set_num_threads(threads)


def _ratio(calls: Sequence[Callable[[], object]], timer: Timer) -> float:
    single, half = timer(calls)
    return single / half


def _products(side: int) -> list[Callable[[], object]]:
    matrix = torch.ones(side, side)
    return [lambda m=m: F.linear(m, m) for m in (matrix, matrix.bfloat16())]  # type: ignore[misc]


def _convolutions() -> list[Callable[[], object]]:
    images = torch.ones(1, CHANNELS, PLACES, PLACES).to(memory_format=torch.channels_last)
    weights = torch.ones(CHANNELS, CHANNELS, 3, 3).to(memory_format=torch.channels_last)
    pairs = [(images, weights), (images.bfloat16(), weights.bfloat16())]
    return [lambda x=x, w=w: F.conv2d(x, w, padding=1) for x, w in pairs]  # type: ignore[misc]
