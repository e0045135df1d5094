"""What a person may set, in one table, and where a value comes from: defaults < file < environment < command line.

The flags, the environment's names, the help texts, the checks and the table in the README all come from `TABLE`.  It
knows no devices: "auto" stays "auto" here, and `modules.engine.setup` decides with a reason what that means on this machine.
"""

from modules.settings.loading import FILE_NAME, FILE_VARIABLE, check_workers, load, read_file, unknown_variables
from modules.settings.readers import MAX_WORKERS, OneOf
from modules.settings.settings import ROOT, Settings
from modules.settings.table import BY_NAME, TABLE, Setting

__all__ = [
    "BY_NAME", "FILE_NAME", "FILE_VARIABLE", "MAX_WORKERS", "ROOT", "TABLE", "OneOf", "Setting", "Settings", "check_workers",
    "load", "read_file", "unknown_variables",
]  # fmt: skip
