"""``python -m packsweep``."""

import os
import sys

# "python -m" searches the working directory first: what lies there is no module of ours.
if not sys.flags.safe_path and sys.path[0] == os.getcwd():  # noqa: PTH109  (as Python wrote it)
    del sys.path[0]

from packsweep.cli import main

main()
