"""Lines broken between words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from packsweep.report.wrap import longest_word, wrapped


@given(st.text("ab 語[],1", max_size=60), st.integers(1, 30))
def test_every_letter_stays_and_lines_fit_unless_a_word_does_not(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    indent = len(text) - len(text.lstrip(" "))
    assert max(map(cell_len, lines)) <= max(width, indent + longest_word(text), 1)


def test_a_word_wider_than_the_line_is_whole() -> None:
    assert wrapped("see /data/models/llama for it", 10) == ["see", "/data/models/llama", "for it"]


def test_an_interval_is_a_word() -> None:
    assert wrapped("ratio 1.80x [1.783, 1.818], faster", 22) == [
        "ratio 1.80x",
        "[1.783, 1.818], faster",
    ]
    assert longest_word("87% [85, 89] [see above]") == len("[85, 89]")


def test_what_is_broken_keeps_its_indent() -> None:
    assert wrapped("  all cells: measured", 13) == ["  all cells:", "  measured"]


def test_letters_are_counted_as_wide_as_a_terminal_shows_them() -> None:
    assert wrapped("配送 請求", 8) == ["配送", "請求"]
