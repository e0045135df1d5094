"""Attention back ends, behind one function.

Every attention in the U-Net and the autoencoder goes through an `Attend` function that is chosen once, when the network is
built.  The networks know neither xformers nor the device; this package knows nothing of the networks.
"""

from modules.diffusion.attention.backends import (
    BACKENDS,
    SLICE_BYTES,
    Attend,
    failed_device,
    sdpa,
    sliced,
    sliced_to,
    xformers,
    xformers_missing,
)
from modules.diffusion.attention.choice import AttentionChoice, choose_attention
from modules.diffusion.attention.fallback import FallingBack, with_fallback

__all__ = [
    "BACKENDS",
    "SLICE_BYTES",
    "Attend",
    "AttentionChoice",
    "FallingBack",
    "choose_attention",
    "failed_device",
    "sdpa",
    "sliced",
    "sliced_to",
    "with_fallback",
    "xformers",
    "xformers_missing",
]
