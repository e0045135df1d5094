"""Tensors out of a file and into networks.

Weights are views of the memory-mapped file; a network that was built on the meta device takes them as they are where number
format and device fit, else converted one by one.  Names were brought to ours before (`keys`).
"""

from __future__ import annotations

import logging
import mmap
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import torch
from torch import Tensor, nn

from modules.checkpoints import keys
from modules.checkpoints.completeness import check_format, check_missing, check_scale, check_shape, listed
from modules.checkpoints.header import Header, Scales, TensorEntry
from modules.checkpoints.keys import Place, Slice, stored_name
from modules.diffusion.block_formats import BLOCK_FORMATS
from modules.diffusion.block_numbers import dequantised
from modules.diffusion.quantised import PACKED, QuantisedLinear, fits
from modules.errors import CheckpointError

log = logging.getLogger(__name__)

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
"""Number formats in which weights may be stored."""


class Weights:
    """The tensors of an open file, or of several (`Header.files`), as views of their memory-mapped bytes.

    Blocks of quantised numbers are brought to float32 on `device`: fewer bytes go there.
    """

    def __init__(self, file: BinaryIO | Sequence[BinaryIO], header: Header, device: torch.device | str = "cpu") -> None:
        self._header, self._device = header, device
        files = file if isinstance(file, Sequence) else (file,)
        # Copy on write: torch wants writable memory, the file must never change
        self._mappings = [mmap.mmap(each.fileno(), 0, access=mmap.ACCESS_COPY) for each in files]

    def __getitem__(self, name: str) -> Tensor:
        """The tensor `name` in its stored number format; no byte is read until it is used."""
        entry = self._header.tensors[name]
        if not entry.pieces:
            return self._at(name, entry)
        pieces = [self._at(name, piece) for piece in entry.pieces]
        return torch.cat([piece.to(pieces[0].dtype) for piece in pieces])

    def _at(self, name: str, entry: TensorEntry) -> Tensor:
        check_format(name, entry.dtype)
        if entry.dtype in BLOCK_FORMATS:
            return dequantised(self._bytes(entry).to(self._device), entry.dtype).view(entry.shape)
        dtype = DTYPES[entry.dtype]
        if entry.start == entry.end:
            return torch.empty(entry.shape, dtype=dtype)
        count = (entry.end - entry.start) // dtype.itemsize
        mapping, offset = self._mappings[entry.file], self._header.data_start + entry.start
        flat = torch.frombuffer(mapping, dtype=dtype, count=count, offset=offset)
        aligned = flat if flat.data_ptr() % dtype.itemsize == 0 else flat.clone()
        return aligned.view(entry.shape)

    def _bytes(self, entry: TensorEntry) -> Tensor:
        """A tensor as bytes (n,) uint8; one in NF4 as the blocks of `block_formats`."""
        start, end = self._header.data_start + entry.start, self._header.data_start + entry.end
        stored = torch.frombuffer(self._mappings[entry.file], dtype=torch.uint8, count=end - start, offset=start)
        if entry.scales is None:
            return stored
        packed = stored.view(-1, BLOCK_FORMATS["NF4"].numbers // 2)
        scales = self._scales(entry.scales)[entry.scales.first :][: len(packed)]
        return torch.cat([scales.contiguous().view(torch.uint8).view(-1, 4), packed], dim=1).flatten()

    def _scales(self, scales: Scales) -> Tensor:
        """All of them, float32."""
        absmax = self._bytes(scales.absmax)
        if scales.outer is None or scales.codes is None:
            return absmax.clone().view(torch.float32)  # the bytes may lie at any place
        codes, outer = (self._bytes(entry).clone().view(torch.float32) for entry in (scales.codes, scales.outer))
        return codes[absmax.int()] * outer.repeat_interleave(scales.outer_block)[: len(absmax)] + scales.offset

    def shape(self, name: str) -> tuple[int, ...]:
        return self._header.tensors[name].shape

    def block_format(self, name: str) -> str:
        """The format in whose blocks (`block_formats`) all rows of the matrix `name` are; "" where they are not."""
        entry = self._header.tensors[name]
        forms = {piece.dtype for piece in entry.pieces or (entry,)}
        return forms.pop() if len(entry.shape) == 2 and len(forms) == 1 and forms <= BLOCK_FORMATS.keys() else ""

    def blocks(self, name: str) -> Tensor:
        """The blocks of a matrix that has a `block_format`, (out, bytes of a row) uint8."""
        entry = self._header.tensors[name]
        pieces = [self._bytes(piece) for piece in entry.pieces or (entry,)]
        return (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).view(entry.shape[0], -1)

    def unscaled(self, name: str) -> Tensor:
        """The tensor `name`, in float32 and multiplied by its scale where it has one (`keys.scale_of`).

        Raises:
            CheckpointError: the scale is not one positive, finite number.
        """
        stored, scale_name = self[name], keys.scale_of(name)
        if scale_name not in self._header.tensors:
            return stored
        check_scale(scale_name, self._header.tensors[scale_name])
        scale = self[scale_name].float().reshape(())
        if not (scale.isfinite() and scale > 0):
            raise CheckpointError(
                f"has the scale {scale_name!r} of {scale.item():g}, which no weight can have; use another file"
            )
        return stored.float().mul_(scale) if stored.dtype != torch.float32 else stored * scale


class Filler:
    """Gives networks that were built on the meta device their weights.

    With `keeps_blocks` linear layers whose weights are blocks of quantised numbers in the file keep them so
    (`quantised.QuantisedLinear`); else, and elsewhere, they become the computing format now.
    """

    def __init__(self, weights: Weights, device: torch.device, file_name: str, keeps_blocks: bool = False) -> None:
        self._weights, self._device, self._file_name = weights, device, file_name
        self._keeps_blocks = keeps_blocks

    def __call__(self, network: nn.Module, names: Mapping[str, Place], dtype: torch.dtype, part: str) -> None:
        """Fill `network` from the file's tensors (our name -> its place in the file) in `dtype`.

        Raises:
            CheckpointError: tensors are missing or have the wrong shape.
        """
        wanted = network.state_dict()
        check_missing([name for name in wanted if name not in names], part)
        if superfluous := [stored_name(place) for name, place in names.items() if name not in wanted]:
            log.warning("%s: ignored %s", self._file_name, listed(superfluous))
        packed = self._packed(network, names, dtype) if self._keeps_blocks else {}
        kept = {f"{name}.weight" for name in packed}
        state = {name: self._placed(names[name], tensor, dtype) for name, tensor in wanted.items() if name not in kept}
        state |= {f"{name}.{PACKED}": blocks.to(self._device) for name, blocks in packed.items()}
        network.load_state_dict(state, assign=True)
        network.requires_grad_(False).eval()

    def _packed(self, network: nn.Module, names: Mapping[str, Place], dtype: torch.dtype) -> dict[str, Tensor]:
        """The blocks of layers that keep them, by the layer's name; they become `QuantisedLinear`."""
        found = {}
        for name, layer in list(network.named_modules()):
            place = names.get(f"{name}.weight")
            if not isinstance(place, str) or not fits(layer, form := self._weights.block_format(place)):
                continue
            assert isinstance(layer, nn.Linear)
            check_shape(place, self._weights.shape(place), (layer.out_features, layer.in_features))
            QuantisedLinear.take(layer, form, dtype)
            found[name] = self._weights.blocks(place)
        return found

    def _placed(self, place: Place, wanted: Tensor, dtype: torch.dtype) -> Tensor:
        stored = self._weights.unscaled(stored_name(place))
        if isinstance(place, Slice):
            stored = stored.chunk(place.parts)[place.number] if stored.dim() and place.parts > 1 else stored
            stored = stored.T.contiguous() if place.transposed else stored
        check_shape(stored_name(place), tuple(stored.shape), tuple(wanted.shape))
        stored = stored.view(wanted.shape)
        if stored.dtype == dtype and stored.device == self._device:
            return stored
        # A copy is made anyway, so it may as well lie as convolutions like it.  Measured on a CPU, one thread, fp32: our
        # first starter's decoder 168 -> 130 ms, its U-Net 17.0 -> 16.0 ms; SD 1.5's decoder at 256x256 4.6 -> 3.9 s, its U-Net
        # at 512x512 9.0 -> 8.5 s.  Not enough to give up the mapping of a file that fits as it is.
        layout = torch.channels_last if stored.dim() == 4 else torch.contiguous_format
        return stored.to(self._device).to(dtype, memory_format=layout)
