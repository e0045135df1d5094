"""The original latent-diffusion checkpoints (Rombach et al. 2022, arXiv:2112.10752; CompVis/latent-diffusion's configurations).

What conditions their U-Net is told by its tensors: a text or a layout of boxes through a transformer, a class through a table
of vectors, or nothing; and further input channels: a picture to be enlarged, a masked one, a map of classes.  First stages are
KL or VQ autoencoders.  What is known of the members is in `MEMBERS`; adding one is a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modules.checkpoints import keys, sizes
from modules.checkpoints.completeness import check_part, check_vae, part_shapes
from modules.checkpoints.families.family import Family
from modules.checkpoints.families.parts import Concat, Defaults, LatentFormat, Words
from modules.checkpoints.ldm_layout import (
    BETAS,
    CLASSES,
    MAP,
    POSITIONS,
    SCALE,
    TOKENS,
    LDMLayout,
    bert_sizes,
    bert_tensors,
    ldm_layout,
)
from modules.checkpoints.small_tensors import read_numbers
from modules.errors import CheckpointError, RequestError
from modules.prompts.labels import IMAGENET_CLASSES, WORDLESS, Labels, boxes_in, labels_for
from modules.prompts.wordpiece import VOCABULARY_SIZE, WordPieces

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from modules.checkpoints.header import Header
    from modules.checkpoints.model_file import ModelFile
    from modules.diffusion.networks import Networks
    from modules.diffusion.samplers import Sampler
    from modules.prompts.chunks import Encodes

WITHOUT_WORDS = "nothing is said to the network, so there is nothing to guide it by"
UNPAIRED = "it steers by the difference between two prompts, and nothing is said to this network"

LAYOUT_TOKENS = 8192
"""Classes and points of a layout's vocabulary."""


@dataclass(frozen=True)
class Form:
    """What tells the members apart: what the prompt is, concat conditioning, and the first stage."""

    words: Words
    concat: Concat
    codebook: bool
    channels: int
    factor: int


def form_of(shapes: Mapping[str, tuple[int, ...]]) -> Form | None:
    """The form of an original latent-diffusion checkpoint with these tensors (`keys.canonical` names); None for any other."""
    stem, out = shapes.get(keys.UNET + "input_blocks.0.0.weight", ()), shapes.get(keys.UNET + "out.2.weight", ())
    if len(stem) != 4 or len(out) != 4:
        return None
    words: Words
    if len(tokens := shapes.get(TOKENS, ())) == 2 and POSITIONS in shapes:
        words = "text" if tokens[0] > LAYOUT_TOKENS else "boxes"
    elif CLASSES in shapes:
        words = "class"
    elif keys.UNET + "middle_block.1.qkv.weight" in shapes:
        words = ""
    else:
        return None
    further = stem[1] - out[0]
    concats: dict[int, Concat] = {0: "", out[0]: "map" if MAP in shapes else "low-res", out[0] + 1: "mask"}
    levels = next(
        level for level in range(10) if f"{keys.VAE}decoder.up.{level}.block.0.conv1.weight" not in shapes or level == 9
    )
    return Form(
        words,
        concats.get(further, "picture"),
        keys.VAE + "quantize.embedding.weight" in shapes,
        out[0],
        2 ** max(0, levels - 1),
    )


@dataclass(frozen=True, kw_only=True)
class LDMFamily(Family):
    """Checkpoints of one `form`.  Heads are `heads` in number or, where that is 0, `head_width` wide: shapes tell only the
    product.  `betas` are the first and last of the noise of training where the file does not have them."""

    form: Form
    betas: tuple[float, float]
    heads: int = 0
    head_width: int = 0

    @property
    def concat(self) -> Concat:
        return self.form.concat

    @property
    def words(self) -> Words:
        return self.form.words

    @property
    def black_masks(self) -> bool:
        return self.form.concat == "mask"

    @property
    def unguided(self) -> str:
        return "" if self.words else WITHOUT_WORDS

    def refuses_sampler(self, sampler: Sampler) -> str:
        return UNPAIRED if sampler.pair and not self.words else ""

    def detects(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        return form_of(shapes) == self.form

    def check(self, header: Header) -> None:
        layout = ldm_layout(header.tensors)
        of_unet, condition = part_shapes(header, layout.unet), part_shapes(header, layout.condition)
        unet = sizes.unet_sizes(of_unet)
        check_part(header, layout.unet, sizes.unet_tensors(unet), "U-Net")
        vae = check_vae(header, layout.vae)
        if vae.latent_channels != self.latent.channels:
            raise CheckpointError(
                f"has an autoencoder with {vae.latent_channels} latent channels and a U-Net for {self.latent.channels}; "
                "use another file"
            )
        width = unet.context_dim
        if self.words in ("text", "boxes"):
            text = bert_sizes(condition)
            check_part(header, layout.condition, bert_tensors(text), "text encoder")
            width = text.width
            _check_tokens(self.words, text.vocabulary, text.positions)
        elif self.words == "class":
            shape = condition["embedding.weight"]
            width = shape[1] if len(shape) == 2 else 0
        if width != unet.context_dim:
            raise CheckpointError(
                f"is conditioned by {width} numbers, where its U-Net expects {unet.context_dim}; use another file"
            )
        if self.concat == "map":
            _check_map(condition, self.latent.channels)

    def tokenizer(self) -> Encodes | None:
        return WordPieces() if self.words == "text" else None

    def labels(self, header: Header, path: Path) -> Labels:
        """The classes of things that the file at `path` knows, none where its prompt names none."""
        shapes = part_shapes(header, self.layout(header).condition)
        if self.words == "boxes":
            return labels_for(path, shapes["token_emb.weight"][0] - 2)  # one for what is not there, one unused
        rows = shapes["embedding.weight"][0] if self.words == "class" else 0
        return labels_for(path, IMAGENET_CLASSES if rows == IMAGENET_CLASSES + 1 else rows)  # the last one: no class

    def motifs(self, header: Header, path: Path) -> tuple[str, ...]:
        if self.words not in ("class", "boxes"):
            return ()
        return tuple(name.split(",")[0] for name in self.labels(header, path).names)

    def prompt_notes(self, header: Header, path: Path, texts: Iterable[str]) -> list[str]:
        texts = [text for text in texts if text.strip()]
        if not self.words:
            return [WORDLESS] if texts else []
        if self.words == "text" or not texts:
            return []
        labels, notes = self.labels(header, path), dict[str, None]()
        for text in texts:
            try:
                labels.find(text, "prompt") if self.words == "class" else boxes_in(text, labels)
            except RequestError as error:
                notes[str(error)] = None
        return list(notes)

    def load(self, file: ModelFile) -> Networks:
        from modules.checkpoints.ldm_parts import networks

        return networks(self, file)

    def layout(self, header: Header) -> LDMLayout:
        return ldm_layout(header.tensors)

    def latent_of(self, header: Header, path: Path) -> LatentFormat:
        """The latent space of the file at `path`: by its own measured scale where it has one."""
        said = read_numbers(header, path, SCALE)
        return replace(self.latent, scale=said[0]) if len(said) == 1 and said[0] > 0 else self.latent

    def betas_of(self, header: Header, path: Path) -> tuple[float, float]:
        """The first and last of the noise that the file at `path` was trained with."""
        said = read_numbers(header, path, BETAS)
        if len(said) == 1000 and 0.0 < said[0] < said[-1] < 1.0:
            return round(said[0], 7), round(said[-1], 7)
        return self.betas


def _check_tokens(words: Words, vocabulary: int, positions: int) -> None:
    if words == "text" and (vocabulary < VOCABULARY_SIZE or positions < 77):
        raise CheckpointError(
            f"has a text encoder of {vocabulary} words and {positions} positions, where BERT's tokenizer has {VOCABULARY_SIZE} "
            "and 77; use another file"
        )
    if words == "boxes" and (vocabulary != LAYOUT_TOKENS or positions % 3 != 2):
        raise CheckpointError(
            f"reads layouts of {positions} tokens out of {vocabulary}; this version knows those of three for each box and "
            f"two for the picture, out of {LAYOUT_TOKENS}; use another file"
        )


def _check_map(condition: Mapping[str, tuple[int, ...]], channels: int) -> None:
    shape = condition["channel_mapper.weight"]
    if len(shape) != 4 or shape[0] != channels or shape[2:] != (1, 1):
        size = "x".join(map(str, shape))
        raise CheckpointError(f"maps classes by a tensor of size {size}, expected {channels}xCLASSESx1x1; use another file")


KL_F8 = LatentFormat(channels=4, scale=0.18215, factor=8)
KL_F8_MEASURED = LatentFormat(channels=4, scale=1.0, factor=8)
"""Where the scale was measured in training, and is in the file."""
VQ_F4 = LatentFormat(channels=3, scale=1.0, factor=4)
VQ_F8 = LatentFormat(channels=4, scale=1.0, factor=8)


def _member(
    name: str,
    title: str,
    about: str,
    latent: LatentFormat,
    betas: tuple[float, float],
    words: Words = "",
    concat: Concat = "",
    heads: int = 0,
    codebook: bool = True,
    **defaults: float | str,
) -> LDMFamily:
    """One whose heads are 32 wide unless it has so many; without guidance, which does nothing without words."""
    said = {"width": 256, "height": 256, "steps": 50, "cfg_scale": 1.0, "sampler": "DDIM", "schedule": "Automatic"} | defaults
    return LDMFamily(
        name=name,
        title=f"Latent Diffusion, {title}",
        about=about,
        latent=latent,
        defaults=Defaults(**said),  # type: ignore[arg-type]
        form=Form(words, concat, codebook, latent.channels, latent.factor),
        betas=betas,
        heads=heads,
        head_width=0 if heads else 32,
    )


_TEXT = "Paints small pictures from a text."
_CLASS = "Paints pictures of things of one kind; the prompt is its name or number."
_LAYOUT = "Paints things in their boxes, which the prompt lists: class x y width height."
_ALONE = "Paints pictures of what it was trained on; nothing is said to it."
_ENLARGES = "Enlarges the picture of img2img to four times its size."
_FILLS = "Fills what is masked in a picture (Inpaint) from what is around it."
_MAP = (
    "Paints along a map of classes, which is img2img's picture: its grey values are the numbers of classes, or its colours "
    "those of the Pascal VOC palette."
)

MEMBERS = (
    _member("ldm-text", "text to picture", _TEXT, KL_F8, (0.00085, 0.012), "text", heads=8, codebook=False, cfg_scale=5.0),
    _member("ldm-text-vq", "text to picture (VQ)", _TEXT, VQ_F4, (0.0015, 0.0195), "text", cfg_scale=5.0),
    _member("ldm-class", "class to picture", _CLASS, VQ_F4, (0.0015, 0.0195), "class", heads=1, cfg_scale=3.0),
    _member("ldm-class-f8", "class to picture (f8)", _CLASS, VQ_F8, (0.0015, 0.0195), "class"),
    _member("ldm-layout", "layout to picture", _LAYOUT, VQ_F4, (0.0015, 0.0205), "boxes"),
    _member("ldm-unconditional", "unconditional", _ALONE, VQ_F4, (0.0015, 0.0195)),
    _member("ldm-unconditional-kl", "unconditional (KL)", _ALONE, KL_F8_MEASURED, (0.0015, 0.0155), heads=8, codebook=False),
    _member("ldm-super-resolution", "super-resolution", _ENLARGES, VQ_F4, (0.0015, 0.0155), concat="low-res", steps=100),
    _member("ldm-inpaint", "inpainting", _FILLS, VQ_F4, (0.0015, 0.0205), concat="mask", heads=8, width=512, height=512),
    _member("ldm-map", "map to picture", _MAP, VQ_F4, (0.0015, 0.0205), concat="map", heads=8, width=512, height=512),
)
"""txt2img-1p4B-eval, text2img256, cin256-v2, cin-ldm-vq-f8, layout2img-openimages256, celebahq / ffhq / lsun_beds,
lsun_churches256, bsr_sr, inpainting_big, semantic_synthesis256 and -512."""


def other_form(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What is said of an original latent-diffusion checkpoint that is none of `MEMBERS`; "" where these are of another kind.

    The end of a sentence that begins with the file's name.
    """
    form = form_of(shapes)
    if form is None or any(member.form == form for member in MEMBERS):
        return ""
    first = "VQ" if form.codebook else "KL"
    conditioned = {"text": "texts", "class": "classes", "boxes": "boxes", "": "no words"}[form.words]
    return (
        f"is a latent-diffusion checkpoint of a form that is not known here ({conditioned}, concat {form.concat or 'none'}, "
        f"{first} autoencoder with {form.channels} channels and {form.factor} pixels for a position); choose another file"
    )
