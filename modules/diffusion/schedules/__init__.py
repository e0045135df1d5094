"""Which noise levels a network was trained on, and how a run of n steps is spread over them.

Everything is plain floats: the web process reads the table, so nothing here imports torch or numpy, and samplers get numbers
that cost no device synchronisation.
"""

from modules.diffusion.schedules.mapping import img2img_sigmas, img2img_steps, img2img_timesteps
from modules.diffusion.schedules.partial import Partial, partial_sigmas, run_steps
from modules.diffusion.schedules.spacings import PLAIN, SamplerTraits, Spacing, Tweaks
from modules.diffusion.schedules.table import SCHEDULES, Schedule, find_schedule, resolve_schedule, sigmas_for
from modules.diffusion.schedules.trained import TrainedSigmas

__all__ = [
    "PLAIN",
    "SCHEDULES",
    "Partial",
    "SamplerTraits",
    "Schedule",
    "Spacing",
    "TrainedSigmas",
    "Tweaks",
    "find_schedule",
    "img2img_sigmas",
    "img2img_steps",
    "img2img_timesteps",
    "partial_sigmas",
    "resolve_schedule",
    "run_steps",
    "sigmas_for",
]
