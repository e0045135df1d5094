"""Model families: which kinds of checkpoints this version can run, one file each, and how a file's family is detected.

A family is data (`family.Family`): which networks its files hold and under which names, how text encoders are read, what the
latent space is, what conditions the network beside the text.  Adding one that denoises with a U-Net is a file with a table here
and an entry of the plugin in `recognise`.  No torch: the web process lists models with it.
"""

from modules.checkpoints.families.family import Defaults, Family, LatentFormat, TextPart
from modules.checkpoints.families.recognise import FAMILIES, recognise
from modules.checkpoints.families.sd1 import EDITING, SD1_LATENT

__all__ = ["EDITING", "FAMILIES", "SD1_LATENT", "Defaults", "Family", "LatentFormat", "TextPart", "recognise"]
