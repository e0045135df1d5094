"""Measurements: `python -m tests.bench [NAME ...] [--json] [--save FILE]`.

Each is a file of this package with `measure(...) -> Iterator[Figure]`.  They prove nothing and fail only when what they measure
fails; the tests prove.  Figures depend on the machine and on what else it does, so the machine is printed with them.
What each change was predicted to bring and brought stands in NOTES.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number: `what` in words, `value` in `unit`, how it was taken.

    Where several programs do the same thing, `by` says which one did; tables have a column for each.
    """

    what: str
    value: float
    unit: str
    how: str = ""
    by: str = ""
