"""Samplers, and the table by which everything else knows them."""

from modules.diffusion.samplers.protocol import CfgPPProgram, Denoised, SamplerFunction, SamplerProgram, ancestral_step
from modules.diffusion.samplers.table import SAMPLERS, Sampler, counted_as, find_sampler

__all__ = [
    "SAMPLERS",
    "CfgPPProgram",
    "Denoised",
    "Sampler",
    "SamplerFunction",
    "SamplerProgram",
    "ancestral_step",
    "counted_as",
    "find_sampler",
]
