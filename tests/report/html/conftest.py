"""Results and pages that the tests of the report share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.report.html.composed import compose

from packsweep.analysis import frames
from packsweep.report import html
from packsweep.report.html import Found, Report
from packsweep.results.store import Store


@pytest.fixture(scope="session")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with measured, failed, invalid, infeasible and missing cells."""
    return Path(compose(Store(tmp_path_factory.mktemp("composed") / "results")).root)


@pytest.fixture(scope="session")
def found(composed: Path) -> Found:
    """What that folder holds."""
    passes = frames.load_table(composed, "passes")
    requests = frames.load_table(composed, "requests")
    return html.collect(
        passes,
        lambda cells: requests[[cell in cells for cell in requests["cell_id"]]],
        name="composed",
        sweep=Store(composed).kept_sweep(),
    )


@pytest.fixture(scope="session")
def built(found: Found) -> Report:
    """Its page, before it is HTML."""
    return html.build(found)
