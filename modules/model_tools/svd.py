"""The best approximation of a matrix by one of low rank (Eckart and Young 1936), as the two factors of a LoRA."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def low_rank(matrix: Tensor, rank: int, clamp: float = 1.0) -> tuple[Tensor, Tensor]:
    """(up, down): `up` (out, rank) and `down` (rank, in) whose product is nearest to `matrix` (out, in); fp32.

    By the eigenvectors of the smaller Gram matrix in fp64, which costs a tenth of a full decomposition of a wide matrix and is
    as good as fp32 can tell.  Both factors have the same norm, so that half precision holds them.  With `clamp` below 1,
    numbers beyond that quantile of both are clamped, as kohya's scripts do against outliers.
    """
    exact = matrix.double()
    wide = exact.shape[0] <= exact.shape[1]
    gram = exact @ exact.T if wide else exact.T @ exact
    values, vectors = torch.linalg.eigh(gram)  # ascending
    basis = vectors[:, -rank:].flip(1)
    size = values[-rank:].flip(0).clamp(min=0).sqrt().sqrt()  # roots of the singular values
    share = torch.where(size > 1e-6 * size.max().clamp(min=1e-30), size, torch.ones_like(size))
    if wide:
        up, down = basis * share, (basis.T @ exact) / share[:, None]
    else:
        up, down = (exact @ basis) / share, share[:, None] * basis.T
    if clamp < 1:
        both = torch.cat([up.flatten(), down.flatten()]).numpy()
        bound = float(np.quantile(both, clamp))
        up, down = up.clamp(-bound, bound), down.clamp(-bound, bound)
    return up.float(), down.float()
