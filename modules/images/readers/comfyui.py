"""ComfyUI: the graph that was executed, walked from the node that saved back to words, model and numbers.

The graph is anybody's program: nodes are known by the names of their inputs more than by their own, unknown ones are passed
through, links may lead in circles or nowhere.  Every walk visits a node once and stops after `_MOST_NODES`.

Format: ComfyUI's API format, {id: {"class_type", "inputs": {name: value or [id, slot]}}}; PNG "prompt", WebP an EXIF text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modules.images.infotext_keys import ZERO_SNR
from modules.images.readers import comfy_sampling, comfyui_parts, language
from modules.images.readers.comfyui_page import executed
from modules.images.readers.file_texts import (
    MAX_ITEMS,
    ExtraNetwork,
    FileTexts,
    Reading,
    made,
    number,
    parse_object,
    said,
    stem,
)

_MOST_NODES = 2_000
"""Nodes that one walk visits."""
_MOST_TO_A_VALUE = 20
"""The same for one number that stands in a node of its own."""
_PARTS = ("noise", "guider", "sampler", "sigmas")
"""Inputs of SamplerCustom and its like, behind which the numbers of a sampler stand in nodes of their own."""
_WORDS = ("text", "string", "value", "prompt", "text_g", "text_l", "clip_l", "t5xxl", "string_a", "string_b")
_PARSERS_OF_A1111 = ("A1111", "full")
"""What encoders of the extension smZNodes are set to when they do not read prompts as ComfyUI does."""
_VALUES = ("value", "seed", "noise_seed", "int", "float", "number", "Value", "a")
_SCALES = (
    ("RescaleCFG", "multiplier", "CFG rescale"),
    ("PerturbedAttentionGuidance", "scale", "PAG scale"),
    ("SelfAttentionGuidance", "scale", "SAG scale"),
    ("SelfAttentionGuidance", "blur_sigma", "SAG blur sigma"),
)
"""Nodes on the model's way, an input of theirs, and the key that says the same here."""
_NOT_TAKEN = {
    "controlnet": "a ControlNet",
    "ipadapter": "an IP-Adapter",
    "t2iadapter": "a T2I-Adapter",
    "gligen": "boxes for words (GLIGEN)",
    "stylemodel": "a style model",
    "freeu": "FreeU",
    "hypertile": "HyperTile",
    "tomepatch": "token merging",
    "hypernetwork": "a hypernetwork",
    "fluxguidance": "distilled guidance",
    "dualcfg": "two guidance scales",
    "conditioningsetarea": "regions of the picture with words of their own",
    "conditioningsetmask": "regions of the picture with words of their own",
    "conditioningaverage": "a mean of two prompts",
    "conditioningsettimesteprange": "words for a part of the steps",
    "unclip": "a picture as a prompt",
    "modelmerge": "a merge of models",
    "vaeencodeforinpaint": "a mask",
    "setlatentnoisemask": "a mask",
    "differentialdiffusion": "differential diffusion",
}
"""Parts of the names of nodes that change the picture and are not taken over."""
_NOT_WORDS = {
    "clip",
    "model",
    "vae",
    "control_net",
    "image",
    "pixels",
    "mask",
    "latent",
    "samples",
    "clip_vision",
    "style_model",
}


def read(file: FileTexts) -> Reading | None:
    graph = Graph(parse_object(_text(file, "prompt")))
    if not graph.nodes:
        # Some savers put the graph where A1111 has its text, alone or among other things.
        among = parse_object(file.comment)
        graph = Graph(inner if isinstance(inner := among.get("prompt"), dict) else among)
    drawn = {} if graph.nodes else parse_object(_text(file, "workflow"))
    if drawn:
        graph = Graph(executed(drawn))
    if sampler := graph.sampler():
        return _read(graph, sampler)
    note = "its graph has no sampler that is known here, so there are no settings to take over"
    return Reading("ComfyUI", {}, notes=(note,)) if graph.nodes or "nodes" in drawn else None


def _text(file: FileTexts, name: str) -> str:
    """A PNG chunk, or the EXIF text that begins with its name: which tag it is differs between savers."""
    if text := file.chunks.get(name, ""):
        return text.strip()
    begins = (text for text in file.tags.values() if text[: len(name) + 1].casefold() == f"{name}:")
    return next(begins, "")[len(name) + 1 :].strip()


@dataclass(frozen=True)
class Node:
    """`inputs` hold values and links; a link is the id of the node that it comes from."""

    id: str
    kind: str
    inputs: dict[str, Any]

    def link(self, name: str) -> str:
        return _target(self.inputs.get(name))

    def links(self) -> Iterator[tuple[str, str]]:
        for name, value in self.inputs.items():
            if target := _target(value):
                yield name, target


def _target(value: Any) -> str:
    linked = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int) and isinstance(value[1], int)
    return str(value[0]) if linked else ""


class Graph:
    """The nodes by id; whatever does not look like one is left out."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.nodes: dict[str, Node] = {}
        for name, node in data.items():
            if isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict):
                self.nodes[name] = Node(name, node["class_type"], node["inputs"])

    def upstream(
        self, start: str, *names: str, without: frozenset[str] = frozenset(), most: int = _MOST_NODES
    ) -> Iterator[Node]:
        """`start` and what it comes from, nearest first, along links of these `names`, or of all but `without`."""
        waiting, seen = [start], {start}
        while waiting and len(seen) < most:
            node = self.nodes.get(waiting.pop(0))
            if node is None:
                continue
            yield node
            for name, target in node.links():
                if target not in seen and (name in names if names else name not in without):
                    seen.add(target)
                    waiting.append(target)

    def sampler(self) -> Node | None:
        """The first sampler on the way to the picture that was saved; a graph that saves nothing, the first at all."""
        ends = [node.id for node in self.nodes.values() if "save" in node.kind.casefold() or "preview" in node.kind.casefold()]
        for end in ends[:MAX_ITEMS]:
            on_the_way = [node for node in self.upstream(end) if _samples(node)]
            whole = [node for node in on_the_way if self.is_whole(node)]
            if on_the_way:
                return (whole or on_the_way)[-1]
        return next((node for node in self.nodes.values() if _samples(node)), None)

    def is_whole(self, sampler: Node) -> bool:
        """Whether it begins with noise alone, as a second pass does not."""
        strength = self.number(sampler, "denoise")
        return strength is None or strength >= 1

    def value(self, node: Node, *names: str) -> Any:
        """The first of these inputs that is there, of the node itself or of its parts; links are followed to a plain value."""
        places = [node, *(self.nodes[part] for name in _PARTS if (part := node.link(name)) in self.nodes)]
        for place in places:
            for name in names:
                if name not in place.inputs:
                    continue
                found = place.inputs[name]
                if target := _target(found):
                    found = next(self._plain(target), None)
                if found is not None and not isinstance(found, list | dict):
                    return found
        return None

    def number(self, node: Node, *names: str) -> float | None:
        return number(self.value(node, *names))

    def _plain(self, start: str) -> Iterator[Any]:
        for node in self.upstream(start, most=_MOST_TO_A_VALUE):
            for name in _VALUES:
                if isinstance(value := node.inputs.get(name), int | float | str) and value != "":
                    yield value

    def words(self, start: str, side: str) -> str:
        """The text of a conditioning: of all encoders that lead to it on this `side`, "positive" or "negative"."""
        texts: list[str] = []
        joined = ", "
        waiting, seen = [start], {start}
        while waiting and len(seen) < _MOST_NODES and len(texts) < MAX_ITEMS:
            node = self.nodes.get(waiting.pop(0))
            if node is None or node.kind == "ConditioningZeroOut":
                continue
            if node.kind == "ConditioningConcat":
                joined = " BREAK "
            # A loader that encodes both prompts itself, such as Efficient Loader, has them under the sides' names
            if said_here := [text for name in (*_WORDS, side) if isinstance(text := node.inputs.get(name), str)]:
                in_ours = str if said(node.inputs.get("parser")) in _PARSERS_OF_A1111 else language.comfy
                texts += dict.fromkeys(in_ours(text) for text in said_here if text.strip())
                continue
            same_side = node.link(side)
            follow = [same_side] if same_side else [to for name, to in node.links() if name not in _NOT_WORDS]
            waiting[:0] = [target for target in dict.fromkeys(follow) if target not in seen]
            seen.update(follow)
        return joined.join(texts)


def _samples(node: Node) -> bool:
    """Whether it looks like a sampler: it has words to go by, and the numbers or the parts of one."""
    has = node.inputs.keys()
    return ({"steps", "sampler_name"} <= has) or ({"sampler", "sigmas"} <= has)


def _read(graph: Graph, sampler: Node) -> Reading:
    guide = graph.nodes.get(sampler.link("guider"), sampler)
    sigmas = graph.nodes.get(sampler.link("sigmas"), sampler)
    positive = guide.link("positive") or guide.link("conditioning")
    loader, loras = _model(graph, guide.link("model") or sampler.link("model") or sigmas.link("model"))
    width, height, from_picture = _size(graph, sampler.link("latent_image") or sampler.link("samples"))
    strength = graph.number(sampler, "denoise")
    words = graph.words(positive, "positive")
    negative = graph.words(guide.link("negative"), "negative")
    begins = graph.number(sampler, "start_at_step") in (None, 0)
    sampled, differs = _sampled(graph, sampler, sigmas, begins and not from_picture and graph.is_whole(sampler))
    items = made(
        language.whole_weight(words),
        negative,
        steps=graph.number(sampler, "steps"),
        sampler=sampled.get("Sampler"),
        schedule=sampled.get("Schedule type"),
        cfg=graph.number(guide, "cfg") if guide.inputs.get("cfg") is not None else graph.number(sampler, "cfg"),
        seed=graph.value(sampler, "seed", "noise_seed"),
        width=width,
        height=height,
        model=stem(loader),
        strength=strength if from_picture and strength is not None else None,
        clip_skip=_clip_skip(graph, positive),
        rng="CPU",
    )
    items |= sampled
    told, differs_in_size = _told_sizes(graph, positive, guide.link("negative"), (width, height))
    items |= told
    differs += differs_in_size
    if language.weighs(words, negative):
        items["Emphasis"] = "No norm"
    items |= _of_the_model(graph, guide.link("model") or sampler.link("model"))
    passes = sum(_samples(node) for node in graph.nodes.values())
    notes = [f"its graph samples {passes} times; these are the settings of the first"] if passes > 1 else []
    notes += differs
    if left_out := _left_out(graph, sampler):
        notes.append(f"its graph also has {', '.join(left_out)}, which is not taken over")
    return Reading("ComfyUI", items, networks=(*loras, *_inversions(graph, guide)), notes=tuple(notes))


def _inversions(graph: Graph, guide: Node) -> list[ExtraNetwork]:
    """The textual inversions that the texts on the way to the sampler name."""
    texts = [value for node in graph.upstream(guide.id) for value in node.inputs.values() if isinstance(value, str)]
    return [ExtraNetwork("embedding", name) for name in language.embeddings(" ".join(texts))[:MAX_ITEMS]]


def _of_the_model(graph: Graph, start: str) -> dict[str, str]:
    """What nodes on the model's way say of how it is run, under this program's keys; the one next to the sampler counts."""
    said_so: dict[str, str] = {}
    for node in graph.upstream(start, "model"):
        if node.kind == "ModelSamplingDiscrete":
            prediction = {"v_prediction": "v", "eps": "eps"}.get(said(node.inputs.get("sampling")))
            if prediction:
                said_so.setdefault("Prediction", prediction)
            if node.inputs.get("zsnr") is True:
                said_so.setdefault("Noise Schedule", ZERO_SNR)
        for kind, name, key in _SCALES:
            if node.kind == kind and (scale := graph.number(node, name)) is not None:
                said_so.setdefault(key, f"{scale:g}")
    return said_so


_SIZES = (
    ("width", "SDXL original width", 0),
    ("height", "SDXL original height", 1),
    ("crop_w", "SDXL crop left", None),
    ("crop_h", "SDXL crop top", None),
)
"""Inputs of CLIPTextEncodeSDXL, the keys that say the same here, and the side of the picture that goes without saying."""


def _told_sizes(graph: Graph, positive: str, negative: str, size: tuple[Any, Any]) -> tuple[dict[str, str], list[str]]:
    """What SDXL's encoders are told of the picture beside its words, and sentences about what differs."""
    told: dict[str, str] = {}
    notes: list[str] = []
    for node in graph.upstream(positive):
        if node.kind == "CLIPTextEncodeSDXL":
            for name, key, side in _SIZES:
                value = graph.number(node, name)
                if value is not None and value != (0 if side is None else size[side]):
                    told[key] = f"{value:g}"
            target = graph.number(node, "target_width"), graph.number(node, "target_height")
            if None not in target and target != size:
                notes.append(f"its graph tells SDXL a target size of {target[0]:g}x{target[1]:g}, which is left out")
            break
    for start, key in ((positive, "Aesthetic score"), (negative, "Negative aesthetic score")):
        for node in graph.upstream(start):
            if node.kind == "CLIPTextEncodeSDXLRefiner" and (score := graph.number(node, "ascore")) is not None:
                told[key] = f"{score:g}"
                break
    return told, notes


def _left_out(graph: Graph, sampler: Node) -> list[str]:
    """What stands on the sampler's way that changes the picture and has no field here."""
    kinds = [node.kind.casefold() for node in graph.upstream(sampler.id)]
    return [what for mark, what in _NOT_TAKEN.items() if any(mark in kind for kind in kinds)]


def _sampled(graph: Graph, sampler: Node, sigmas: Node, whole: bool) -> tuple[dict[str, str], list[str]]:
    """The items of sampler and schedule, by their names or by the nodes that make them, and sentences about what differs."""
    name, scheduler = said(graph.value(sampler, "sampler_name")), said(graph.value(sampler, "scheduler"))
    further: dict[str, str] = {}
    unknown = []
    if not name and (part := graph.nodes.get(sampler.link("sampler"))):
        name, further = comfyui_parts.sampler(part.kind, part.inputs)
        if not name:
            unknown.append(f"its sampler comes from the node {said(part.kind)[:60]}, which is not known here: it is left out")
    if not scheduler and sigmas is not sampler:
        scheduler, ends = comfyui_parts.sigmas(sigmas.kind, sigmas.inputs)
        further |= ends
        if not scheduler:
            unknown.append(
                f"its noise levels come from the node {said(sigmas.kind)[:60]}, which is not known here: they are left out"
            )
    items, differs = comfy_sampling.sampling(name, scheduler, whole and not comfy_sampling.starts_lower(further))
    return items | further, [*unknown, *differs]


def _model(graph: Graph, start: str) -> tuple[str, list[ExtraNetwork]]:
    """The file that the model was loaded from, and the LoRAs on the way."""
    loras: list[ExtraNetwork] = []
    for node in graph.upstream(start, "model", "model1", "MODEL", "unet", "base_model"):
        loras += _loras(node)
        for name in ("ckpt_name", "unet_name", "model_name", "gguf_name"):
            if isinstance(value := node.inputs.get(name), str):
                return value, loras[:MAX_ITEMS]
    return "", loras[:MAX_ITEMS]


def _loras(node: Node) -> list[ExtraNetwork]:
    """Of one loader; some hold a list of {"on", "lora", "strength"}."""
    given = [node.inputs.get("lora_name")]
    for value in list(node.inputs.values())[:MAX_ITEMS]:
        if isinstance(value, dict) and value.get("on", True):
            given.append(value.get("lora"))
    return [ExtraNetwork("lora", stem(name)) for name in given if isinstance(name, str) and name not in ("", "None")]


def _size(graph: Graph, start: str) -> tuple[Any, Any, bool]:
    """Width and height of the empty latent that it began with, and whether it began with a picture instead."""
    from_picture = False
    for node in graph.upstream(start, without=frozenset({"model", "clip", "vae", "positive", "negative"})):
        from_picture = from_picture or "pixels" in node.inputs
        width = graph.number(node, "width", "empty_latent_width")
        height = graph.number(node, "height", "empty_latent_height")
        if width and height and not _samples(node):
            return width, height, from_picture
    return None, None, from_picture


def _clip_skip(graph: Graph, start: str) -> int | None:
    for node in graph.upstream(start):
        for name in ("stop_at_clip_layer", "clip_skip"):
            last = number(node.inputs.get(name))
            if last is not None and -12 <= last <= -2:
                return int(-last)
    return None
