"""Atelier: a Stable Diffusion web UI that a house shares.  The map is in README.md beside this file."""

__version__ = "0.1.0"
