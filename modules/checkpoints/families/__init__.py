"""Model families: which kinds of checkpoints this version can run, one file each, and how a file's family is detected.

A family (`family.Family`) recognises its files, checks them, and makes of one the networks that run: their batches, noise
process, prompts and latent space (`diffusion.networks`).  U-Nets with cross-attention have that in common, so such a family is
a table (`unet.UNetFamily`): which networks its files hold, how text encoders are read, what conditions the network in addition
to the text.  Adding one is a file here and an entry of the plugin in `recognise`.  No torch at import: the web process lists
models with it.
"""

from modules.checkpoints.families.family import Family
from modules.checkpoints.families.parts import Defaults, LatentFormat, TextPart
from modules.checkpoints.families.recognise import FAMILIES, recognise
from modules.checkpoints.families.sd1 import SD1_LATENT
from modules.checkpoints.families.unet import UNetFamily

__all__ = ["FAMILIES", "SD1_LATENT", "Defaults", "Family", "LatentFormat", "TextPart", "UNetFamily", "recognise"]
