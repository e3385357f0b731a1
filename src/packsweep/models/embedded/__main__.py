"""``python -m packsweep.models.embedded NAME``: the process that makes one model."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from packsweep.errors import ModelError
from packsweep.models.embedded import find, make


def main(arguments: Sequence[str]) -> int:
    """Make the model named on the command line; on failure say why in one line."""
    try:
        entry = find(" ".join(arguments))
        make(entry)
    except ImportError as error:
        sys.stderr.write(f"{error}: pip install {' '.join(entry.libraries)}\n")
        return 2
    except (ModelError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
