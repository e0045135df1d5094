"""What people do with guidance beyond its scale: one small file for each, and here the choice that a request makes.

Each changes how the answers to the prompts become one (a `Combine`), adds to that (an `Addition`), or leaves the negative
prompt out for a while (a `Skips`).  They know neither samplers nor steps, so every one works with every sampler.
"""

from modules.pipelines.guidance.choice import Guidance, guidance_for

__all__ = ["Guidance", "guidance_for"]
