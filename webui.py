"""Start Atelier: `python3 webui.py`, or `python3 webui.py --help`.

Standard library only, and parsable by every Python 3, so that an old one can say that it is old.  No logic of its own: the
set-up is `modules.bootstrap`, everything else begins in `modules.cli`.
"""

import sys

if sys.version_info < (3, 10):
    sys.exit(
        "atelier: Python 3.10 or newer is needed, this is %d.%d (%s); install one from https://www.python.org/downloads/ or "
        "your system's packages and start with it, such as: python3.12 webui.py"
        % (sys.version_info[0], sys.version_info[1], sys.executable)
    )

if __name__ == "__main__":
    from modules.bootstrap import main

    sys.exit(main(sys.argv[1:]))
