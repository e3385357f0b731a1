"""The JavaScript that draws the charts: Vega, Vega-Lite and Vega-Embed, as one text.

Taken from vl-convert, which carries the three inside its package: no network. Putting them together
takes seconds, so the text is kept in the cache, by vl-convert's version.
"""

from __future__ import annotations

import contextlib
from importlib.metadata import version
from pathlib import Path

from packsweep.errors import UserError
from packsweep.files import cache_root, replace_file

INSTALL = "make setup, or pip install vl-convert-python"


def installed() -> bool:
    """Return whether what draws charts is installed."""
    from importlib.util import find_spec

    return find_spec("vl_convert") is not None


def check_installed() -> None:
    """Refuse to continue without what draws charts.

    Raises:
        UserError: vl-convert is not installed.
    """
    if not installed():
        raise UserError(f"the report needs vl-convert: {INSTALL}")


def javascript() -> str:
    """Return the script; it defines ``vegaEmbed`` and can stand inside a script element."""
    kept = _kept()
    if kept is not None and kept.is_file():
        return kept.read_text(encoding="utf-8")
    import vl_convert

    made = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    assert "</script" not in made.lower()
    if kept is not None:
        with contextlib.suppress(OSError):  # the page needs no cache
            kept.parent.mkdir(parents=True, exist_ok=True)
            replace_file(kept, made.encode())
    return made


def _kept() -> Path | None:
    """Return where the script is kept; None without a home folder."""
    try:
        return cache_root() / "report" / f"vega-{version('vl-convert-python')}.js"
    except UserError:
        return None
