"""What a terminal shows of a table."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType


def printed(parts: Sequence[RenderableType]) -> list[str]:
    """Return the lines that parts of a table are printed as, without spaces at their ends."""
    file = io.StringIO()
    console = Console(file=file, width=400)
    console.print(Group(*parts), crop=False, no_wrap=True, overflow="ignore")
    return [line.rstrip() for line in file.getvalue().splitlines()]
