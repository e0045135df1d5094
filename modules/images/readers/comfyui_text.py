"""The A1111-like texts that ComfyUI's nodes for saving write ("Version: ComfyUI"), and Civitai's own generator, which runs it.

The nodes hold A1111's names of samplers with Karras or Exponential behind them, or ComfyUI's two names joined by "_"; the other
schedules many of them leave out.
"""

from __future__ import annotations

from collections.abc import Mapping

from modules.images.infotext_keys import NEGATIVE, PROMPT
from modules.images.readers import language
from modules.images.readers.comfy_sampling import sampling
from modules.images.readers.file_texts import MAX_ITEMS, ExtraNetwork, Reading

_SCHEDULERS = (
    *("normal", "karras", "exponential", "sgm_uniform", "simple", "ddim_uniform", "beta", "linear_quadratic", "kl_optimal"),
    *("align_your_steps", "ays", "gits"),
)
_OF_THE_TEXT = ("Model", "Model hash", "VAE", "VAE hash", "Version")


def is_of_comfyui(parsed: Mapping[str, str]) -> bool:
    return parsed.get("Version", "").casefold().startswith("comfyui")


def meant(parsed: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The items of such a text as A1111 would have them, and sentences about what is unsure."""
    name, in_name = _divided(parsed.get("Sampler", ""))
    scheduler = parsed.get("Schedule type") or parsed.get("Scheduler") or in_name
    sampled, notes = sampling(name, scheduler or "normal", whole="Denoising strength" not in parsed)
    if not scheduler:
        notes = ("its text does not say the schedule: Normal is taken, with which ComfyUI begins", *notes)
    prompt, negative = language.comfy(parsed.get(PROMPT, "")), language.comfy(parsed.get(NEGATIVE, ""))
    items = {**parsed, PROMPT: language.whole_weight(prompt), NEGATIVE: negative, **sampled, "RNG": "CPU"}
    if language.weighs(prompt, negative):
        items["Emphasis"] = "No norm"
    return items, notes


def inversions(parsed: Mapping[str, str], known: tuple[ExtraNetwork, ...]) -> tuple[ExtraNetwork, ...]:
    """The textual inversions that the prompts name and no hash."""
    named = language.embeddings(f"{parsed.get(PROMPT, '')} {parsed.get(NEGATIVE, '')}")[:MAX_ITEMS]
    have = {network.name for network in known}
    return tuple(ExtraNetwork("embedding", name) for name in named if name not in have)


def with_graph(reading: Reading, graph: Reading | None) -> Reading:
    """`reading` with what the graph beside the text says of the same run, which is more; prompts and files are the text's."""
    if graph is None or any(reading.items.get(key) != graph.items.get(key, "") for key in ("Seed", "Steps")):
        return reading
    kept = {key: reading.items[key] for key in (PROMPT, NEGATIVE, *_OF_THE_TEXT) if key in reading.items}
    said_less = {key: value for key, value in reading.items.items() if key not in ("SGM noise multiplier", "Emphasis")}
    items = {**said_less, **graph.items, **kept}
    return Reading("ComfyUI", items, reading.version, reading.networks or graph.networks, graph.notes)


def _divided(name: str) -> tuple[str, str]:
    """Sampler and schedule of "DPM++ 2M Karras", "dpmpp_2m_sgm_uniform", "Euler kl optimal"."""
    words = name.strip().replace(" ", "_")
    for scheduler in sorted(_SCHEDULERS, key=len, reverse=True):
        if words.casefold().endswith(f"_{scheduler}"):
            sampler = name.strip()[: -len(scheduler) - 1]
            return sampler, scheduler
    return name, ""
