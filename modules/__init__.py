"""Atelier: a Stable Diffusion web UI for several users.  The map is in README.md beside this file."""

__version__ = "0.1.0"
