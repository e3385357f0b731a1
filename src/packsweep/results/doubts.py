"""What is passed over while results are read is named, once in a process, and stops nothing."""

from __future__ import annotations

import logging
from functools import lru_cache

from packsweep.errors import printable

_log = logging.getLogger(__name__)


@lru_cache(maxsize=4096)
def name_once(line: str) -> None:
    """Log a warning, on stderr where nobody set up logging; names of files are made printable."""
    _log.warning("packsweep: %s", printable(line, one_line=True))
