"""What can be asked for: the models in the models folders, and a full request from some of its fields.

It knows files' headers and tables of names; not jobs, users or the engine, and it never imports torch.
"""

from modules.catalogue.prompts import PROMPT_FIELDS
from modules.catalogue.requests import COST_FIELDS, Catalogue, enlarging_factor
from modules.catalogue.weights import weights_of

__all__ = ["COST_FIELDS", "PROMPT_FIELDS", "Catalogue", "enlarging_factor", "weights_of"]
