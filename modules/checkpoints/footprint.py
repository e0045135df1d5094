"""What a checkpoint's networks take of memory, from the header of its file: weights, and activations at their peak.  No torch.

Weights are counted exactly, those of quantised layers by their bytes; text encoders and autoencoder of a transformer alone are
counted in the files that they are taken from.  Activations follow from how the blocks are evaluated (`diffusion.layers`,
`diffusion.vae`): the tensors that are alive at once in the block where they are the most, with attention that makes no score
matrix.  So they grow with the number of positions and of rows, and `tests/checkpoints/test_footprint.py` compares them with the
networks themselves.
What libraries take for themselves (a convolution's work space, memory that lies in pieces) is not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from pathlib import Path

from modules.checkpoints import keys
from modules.checkpoints.completeness import part_shapes
from modules.checkpoints.files_beside import FileBeside, files_beside, with_files
from modules.checkpoints.header import Header
from modules.checkpoints.keys import Place
from modules.checkpoints.sizes import UNetSizes, VAESizes, unet_sizes, vae_sizes
from modules.checkpoints.sources import read_source, stamp_of
from modules.diffusion.block_formats import BLOCK_FORMATS, bytes_of
from modules.errors import CheckpointError

SMALL = 100_000_000
"""Numbers in the files of smaller models.  Their layers are so narrow that a forward in bfloat16 takes as long as in float32
(a U-Net of 7 million: 0.92 to 1.16 of it), and only its rounding would be left.  SD 1.5 has a billion."""

TAESD_DECODE = TAESD_ENCODE = 64 * 3 * 64
"""Numbers that are alive at most in TAESD, for each position of a latent: 3 times its 64 channels, of 64 pixels."""


@dataclass(frozen=True)
class Weights:
    """Numbers of a network's weights.  `quantised` of them are in layers that keep the file's blocks, of `size` bytes; the
    `largest` of these layers has so many numbers, which are in the computing format while it runs."""

    numbers: int = 0
    quantised: int = 0
    size: int = 0
    largest: int = 0

    def __add__(self, other: Weights) -> Weights:
        largest = max(self.largest, other.largest)
        return Weights(self.numbers + other.numbers, self.quantised + other.quantised, self.size + other.size, largest)

    def kept(self, number: int, keeps_blocks: bool = True) -> int:
        """Bytes that they take, where a number of the computing format takes `number`."""
        return (self.numbers - self.quantised) * number + self.size if keeps_blocks else self.numbers * number

    def running(self, number: int, keeps_blocks: bool = True) -> int:
        """Bytes of the layer's weight that is made while it runs."""
        return self.largest * number if keeps_blocks else 0


@dataclass(frozen=True)
class Footprint:
    """Numbers in weights of the denoiser, the text encoders and the autoencoder; and, for each latent position (of a picture,
    one for `factor` x `factor` pixels), the numbers that are alive at most: of a row in a forward of the denoiser, of a picture
    in the autoencoder's decoder and encoder, and what waits between layers where these run in tiles (`diffusion.tiles`).

    `of_denoiser` and `of_text` are the same weights where some are quantised, `of_t5` those of T5 among them, `t5_streamed`
    what stays of T5 on the device where it is streamed: its embedding.  The buffers for its blocks are let go of where a
    forward of the denoiser needs their memory (`engine.memory`).
    """

    denoiser: int
    text: int
    vae: int
    row: float
    decode: float
    encode: float
    factor: int = 8
    decode_maps: float = 0.0
    encode_maps: float = 0.0
    of_denoiser: Weights | None = None
    of_text: Weights | None = None
    of_t5: Weights = Weights()
    t5_streamed: Weights = Weights()

    @property
    def numbers(self) -> int:
        """In all weights."""
        return self.denoiser + self.text + self.vae

    @property
    def denoiser_weights(self) -> Weights:
        return self.of_denoiser or Weights(self.denoiser)

    @property
    def text_weights(self) -> Weights:
        return self.of_text or Weights(self.text)


def footprint_of(path: Path, folders: Sequence[Path] = ()) -> Footprint | None:
    """Of the checkpoint at `path`, a file or a folder, with what it takes from other files of the models `folders`; None where
    it cannot be read, or lacks an autoencoder."""
    try:
        return _read(path, files_beside(path, folders), *stamp_of(path))
    except (OSError, CheckpointError):
        return None


@lru_cache(maxsize=64)
def _read(path: Path, beside: tuple[FileBeside, ...], *stamp: int) -> Footprint:
    """`stamp` is there to read a replaced file anew."""
    return of_header(with_files(read_source(path), beside))


def of_header(header: Header) -> Footprint:
    """Of a file with all of its networks.

    Raises:
        CheckpointError: its networks are of another form, or not there.
    """
    layout = keys.layout(header.tensors)
    unet, vae = part_shapes(header, layout.unet), part_shapes(header, layout.vae)
    texts = [_weights(header, layout.part(part)) for part in ("text", "text_2", "text_3")]
    denoiser, text = _weights(header, layout.unet), sum(texts, Weights())
    of_vae = vae_sizes(vae)
    row = transformer_row_peak(unet) or row_peak(unet_sizes(unet))
    found = Footprint(
        denoiser=denoiser.numbers,
        text=text.numbers,
        vae=_numbers(vae),
        row=row,
        decode=decoder_peak(of_vae),
        encode=encoder_peak(of_vae),
        factor=2 ** (len(of_vae.channels) - 1),
        decode_maps=decoder_maps(of_vae),
        encode_maps=encoder_maps(of_vae),
        of_t5=texts[2],
        t5_streamed=_t5_streamed(header, layout.text_3),
    )
    found = replace(found, of_denoiser=denoiser) if denoiser.quantised else found
    return replace(found, of_text=text) if text.quantised else found


def quantised_denoiser(header: Header) -> bool:
    """Whether linear layers of the denoiser have quantised numbers in the file."""
    return _weights(header, keys.layout(header.tensors).unet).quantised > 0


def weights_in(header: Header) -> Weights:
    """Of all tensors of a file, but for those that no network needs (`keys.IGNORED`)."""
    layout = keys.layout(header.tensors)
    others = Weights(sum(prod(header.tensors[name].shape) for name in layout.unexpected))
    return sum((_weights(header, layout.part(part)) for part in keys.PARTS), others)


def _numbers(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(map(prod, shapes.values()))


TABLES = ("shared.", "embeddings.", "relative_attention_bias.", "text_projection.", "label_emb.weight")
"""In names of matrices that are not linear layers' as they are: embeddings, and what is turned when it is loaded."""


def _weights(header: Header, places: Mapping[str, Place]) -> Weights:
    """Of a part's tensors, at `places`; as `weights.Filler` keeps them."""
    found = Weights(_numbers(part_shapes(header, places)))
    for name, place in places.items():
        if not isinstance(place, str) or not name.endswith(".weight") or any(table in name for table in TABLES):
            continue
        entry = header.tensors[place]
        forms = {piece.dtype for piece in entry.pieces or (entry,)}
        if len(entry.shape) != 2 or len(forms) != 1 or not forms <= BLOCK_FORMATS.keys():
            continue
        numbers, form = prod(entry.shape), forms.pop()
        if entry.shape[1] % BLOCK_FORMATS[form].numbers == 0:
            found += Weights(0, numbers, bytes_of(entry.shape, form), numbers)
    return found


def _t5_streamed(header: Header, places: Mapping[str, Place]) -> Weights:
    """See `Footprint`."""
    stays = {name: place for name, place in places.items() if name.startswith(("shared.", "encoder.final_layer_norm."))}
    return _weights(header, stays)


FLUX_WIDTHS, MMDIT_WIDTHS = 19, 12
"""Numbers that are alive at most for each token, in widths of the transformer: where a single block of Flux has its queries,
keys, values and hidden layer at once, and in the feed-forward of SD 3's blocks."""
TEXT_SHARE = 1 + 512 / 4096
"""Tokens of text and image by those of the image, of 1024x1024 pixels with T5's text of 512."""


def transformer_row_peak(shapes: Mapping[str, tuple[int, ...]]) -> float:
    """As `row_peak`, of SD 3's and Flux's transformers; 0 for another network."""
    for name, widths in (("img_in.weight", FLUX_WIDTHS), ("x_embedder.proj.weight", MMDIT_WIDTHS)):
        if name in shapes:
            return widths * shapes[name][0] / 4 * TEXT_SHARE
    return 0.0


def row_peak(sizes: UNetSizes) -> float:
    """Numbers that are alive at most in a row's forward, for each position of its latent."""
    return max(_row_moments(sizes))


def _row_moments(sizes: UNetSizes) -> Iterator[float]:
    """The same at each block: what later blocks wait for, and what the block itself makes."""
    skips = [float(sizes.channels[0])]
    last, channels = len(sizes.channels) - 1, sizes.channels[0]
    for level, (out, depth) in enumerate(zip(sizes.channels, sizes.transformer_depth, strict=True)):
        area = 0.25**level
        for _ in range(sizes.res_blocks):
            yield sum(skips) + area * (_res_block(channels, out) - channels)  # its input is the last skip
            yield sum(skips) + area * _transformer(out, depth)
            channels = out
            skips.append(area * out)
        if level != last:
            skips.append(area * channels / 4)
    area = 0.25**last
    yield sum(skips) + area * max(_res_block(channels, channels), _transformer(channels, sizes.middle_depth) + channels)

    depths = iter(sizes.depths_up)
    for level in reversed(range(last + 1)):
        out, area = sizes.channels[level], 0.25**level
        for block in range(sizes.res_blocks + 1):
            joined = channels + skips.pop() / area
            yield sum(skips) + area * _res_block(joined, out)
            yield sum(skips) + area * (joined + _transformer(out, next(depths)))
            channels = out
            if level and block == sizes.res_blocks:
                yield sum(skips) + area * (joined + channels + 8 * channels)  # enlarged, and convolved
    yield 3 * channels


def _res_block(channels: float, out: float) -> float:
    """A residual block's input, and what it makes of it: normalised and activated, convolved, the same again, and added."""
    return max(3 * channels, 2 * channels + out, channels + 4 * out)


def _transformer(width: float, depth: int) -> float:
    """Tokens, their residual and their norms beside a gated feed-forward, which is 16 times as wide while it is multiplied."""
    return width * (16 + (5 if depth > 1 else 4)) if depth else width


def decoder_peak(sizes: VAESizes) -> float:
    """Numbers that are alive at most while a picture is decoded, for each position of its latent."""
    levels = len(sizes.channels)
    whole, channels = 4.0 ** (levels - 1), sizes.channels[-1]
    moments = []
    for level in reversed(range(levels)):
        out, area = sizes.channels[level], whole * 0.25**level
        enlarged = channels + out + 8 * out if level else 0  # and convolved
        moments.append(area * max(_level(channels, out, sizes.res_blocks + 1), enlarged))
        channels = out
    return max(moments)


def encoder_peak(sizes: VAESizes) -> float:
    """Numbers that are alive at most while a picture is encoded, for each position of its latent."""
    whole, channels = 4.0 ** (len(sizes.channels) - 1), sizes.channels[0]
    moments = []
    for level, out in enumerate(sizes.channels):
        moments.append(whole * 0.25**level * _level(channels, out, sizes.res_blocks))
        channels = out
    return max(moments)


def decoder_maps(sizes: VAESizes) -> float:
    """Numbers of whole feature maps that wait at most while a picture is decoded in tiles, for each position of its latent."""
    levels = len(sizes.channels)
    whole, channels, most = 4.0 ** (levels - 1), sizes.channels[-1], 0.0
    for level in reversed(range(levels)):
        out, area = sizes.channels[level], whole * 0.25**level
        most = max(most, area * _maps(channels, out), area * (out + 4 * out) if level else 0.0)
        channels = out
    return most


def encoder_maps(sizes: VAESizes) -> float:
    """The same while it is encoded."""
    whole, channels, most = 4.0 ** (len(sizes.channels) - 1), sizes.channels[0], 0.0
    for level, out in enumerate(sizes.channels):
        most = max(most, whole * 0.25**level * _maps(channels, out))
        channels = out
    return most


def _maps(channels: int, out: int) -> int:
    """A residual block in tiles: input, what is between its halves, and what comes out, which may take the input's place."""
    return channels + out + (out if channels != out else 0)


def _level(channels: int, out: int, blocks: int) -> float:
    """A level of an autoencoder, whose input is alive until its last block is done.  Nothing joins its blocks in the middle."""
    first = max(3 * channels, 2 * channels + out, channels + 3 * out)
    return max(first, channels + 4 * out) if blocks > 1 else first
