"""The trainer of the starter checkpoint: a Stable Diffusion 1.x model, only narrower, that draws stickers.

It takes glyphs from a colour emoji font, composes scenes of them on the device, trains the project's own networks in minutes on
a GPU (overnight on a CPU), and exports one ``.safetensors`` file. ``python -m modules.training --help`` lists the stages in
their order. Nothing in the application imports this package.
"""
