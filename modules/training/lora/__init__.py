"""A LoRA trainer (Hu et al. 2021, arXiv:2106.09685) for Stable Diffusion 1.x checkpoints: ``python -m modules.training lora``.

`data` reads pictures with captions, `styles` makes a folder of them with the checkpoint's own help, `network` is what is
trained (side paths of the project's own networks), `training` the loop, `export` the file that it writes.
"""
