"""The JavaScript that draws the charts: Vega, Vega-Lite and Vega-Embed, as one text.

Taken from vl-convert, which carries the three inside its package: no network. Putting them together
takes seconds, so the text is kept in the cache, by vl-convert's version.
"""

from __future__ import annotations

from importlib.metadata import version

from packsweep.errors import UserError
from packsweep.files import cache_root, replace_file

INSTALL = "make setup, or pip install altair vl-convert-python"


def installed() -> bool:
    """Tell whether what draws charts is installed."""
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in ("altair", "vl_convert"))


def check_installed() -> None:
    """Refuse to go on without what draws charts.

    Raises:
        UserError: Altair or vl-convert is not installed.
    """
    if not installed():
        raise UserError(f"the report needs Altair and vl-convert: {INSTALL}")


def javascript() -> str:
    """Return the script; it defines ``vegaEmbed`` and can stand inside a script element."""
    import vl_convert

    path = cache_root() / "report" / f"vega-{version('vl-convert-python')}.js"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    made = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    assert "</script" not in made.lower()
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, made.encode())
    return made
