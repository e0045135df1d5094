"""The trainer of the starter checkpoint: a Stable Diffusion 1.x model, only narrower, that draws stickers.

It renders its own data from Debian's ``fonts-noto-color-emoji``, trains the project's own networks on a CPU,
and exports one ``.safetensors`` file. ``python -m modules.training --help`` lists the stages in their order.
Nothing in the application imports this package.
"""
