"""Where packsweep keeps what it may make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the cache folder, which need not exist yet.

    ``$PACKSWEEP_CACHE``, else ``$XDG_CACHE_HOME/packsweep``, else ``~/.cache/packsweep``. An empty
    variable counts as unset.
    """
    if own := os.environ.get("PACKSWEEP_CACHE"):
        return Path(own).expanduser().absolute()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser().absolute() / "packsweep"
    return Path.home() / ".cache" / "packsweep"
