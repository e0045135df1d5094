"""ComfyUI's other graph, the one that its page draws, as the one that it executes: for pictures that carry only that.

There a node's values stand in a list without names, so only nodes whose lists are known can be read.

Format: ComfyUI's workflow JSON, {"nodes": [{"id", "type", "mode", "inputs": [{"name", "link"}], "widgets_values"}], "links":
[[id, from node, from slot, to node, to slot, type]]}.
"""

from __future__ import annotations

from typing import Any

_MOST = 5_000
_OFF = (2, 4)  # modes of nodes that are muted or bypassed

_WIDGETS: dict[str, tuple[str, ...]] = {
    "KSampler": ("seed", "", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": ("", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler"),
    "SamplerCustom": ("", "noise_seed", "", "cfg"),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "KarrasScheduler": ("steps",),
    "RandomNoise": ("noise_seed",),
    "CFGGuider": ("cfg",),
    "CLIPTextEncode": ("text",),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name",),
    "LoraLoader": ("lora_name",),
    "LoraLoaderModelOnly": ("lora_name",),
    "EmptyLatentImage": ("width", "height"),
    "EmptySD3LatentImage": ("width", "height"),
    "PrimitiveNode": ("value",),
}
"""What stands where in the values of a node; "" for what is not needed, such as what becomes of a seed afterwards."""


def executed(workflow: dict[str, Any]) -> dict[str, Any]:
    """The graph in the form that is executed, as far as it is understood.  Never raises."""
    nodes, links = workflow.get("nodes"), workflow.get("links")
    if not isinstance(nodes, list) or not isinstance(links, list):
        return {}
    origins = {
        link[0]: [str(link[1]), link[2]]
        for link in links[:_MOST]
        if isinstance(link, list) and len(link) >= 5 and all(isinstance(part, int) for part in link[:5])
    }
    return {str(node["id"]): _node(node, origins) for node in nodes[:_MOST] if _is_on(node)}


def _is_on(node: Any) -> bool:
    known = isinstance(node, dict) and isinstance(node.get("id"), int) and isinstance(node.get("type"), str)
    return known and node.get("mode") not in _OFF


def _node(node: dict[str, Any], origins: dict[int, list[Any]]) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    values = node.get("widgets_values")
    if isinstance(values, list):
        inputs = {name: value for name, value in zip(_WIDGETS.get(node["type"], ()), values, strict=False) if name}
    slots = node.get("inputs")
    for slot in slots[:_MOST] if isinstance(slots, list) else ():
        if isinstance(slot, dict) and isinstance(slot.get("name"), str) and isinstance(link := slot.get("link"), int):
            inputs |= {slot["name"]: origins[link]} if link in origins else {}
    return {"class_type": node["type"], "inputs": inputs}
