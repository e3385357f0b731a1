"""What the documents say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from packsweep.results import schema

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
)


def test_metrics_page_is_made_from_the_column_table() -> None:
    """``python -m packsweep.results.schema > docs/METRICS.md`` changes nothing."""
    page = ROOT / "docs" / "METRICS.md"
    assert page.read_text(encoding="utf-8") == schema.to_markdown()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    """Every relative link in a page names a file or a folder that is there."""
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    relative = [link for link in links if "://" not in link]
    missing = [link for link in relative if not (page.parent / link).exists()]
    assert not missing


def test_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    """Every ``make TARGET`` that the README shows exists."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = set(re.findall(r"^make ([a-z]+)", readme, flags=re.MULTILINE))
    assert shown >= {"sweep", "test"}
    assert not [target for target in shown if not re.search(f"^{target}:", makefile, re.MULTILINE)]
