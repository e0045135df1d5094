"""What people do with guidance beyond its scale: one small file for each, and the rules by which a request chooses.

Each changes how the answers to the prompts become one (a `Combine`), adds to that (an `Addition`), or leaves the negative
prompt out for a while (a `Skips`).  They know neither samplers nor steps, so every one works with every sampler.
"""

from modules.pipelines.guidance.choice import RULES, Guidance, Rule, guidance_for

__all__ = ["RULES", "Guidance", "Rule", "guidance_for"]
