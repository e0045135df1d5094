"""The solvers, and the table by which the rest of the house knows them."""

from modules.diffusion.samplers.solver import Denoised, PairProgram, SamplerProgram, Solve, ancestral_step
from modules.diffusion.samplers.table import SAMPLERS, Sampler, find_sampler

__all__ = [
    "SAMPLERS",
    "Denoised",
    "PairProgram",
    "Sampler",
    "SamplerProgram",
    "Solve",
    "ancestral_step",
    "find_sampler",
]
