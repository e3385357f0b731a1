"""What an answer may look like: its constrained form, and how many labels fit into it.

Pure functions over the two labels. A constrained answer to k texts is k lines, each a label; a
free one may be anything, and what it holds is read by ``packsweep.run.scoring``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from packsweep.sweep.texts import LABELS

# No tokenizer spells a label in more tokens than it has letters, however the model chooses to
# split it. One more is for the line break, or the end-of-sequence token after the last label.
MAX_TOKENS_PER_LINE = max(map(len, LABELS)) + 1
_LINE, _SPACE = "\n", " "


def lines_regex(labels: Sequence[str], num_lines: int) -> str:
    """Return a regular expression of exactly ``num_lines`` lines, each one of ``labels``.

    A counted repetition: written out, k alternatives take a grammar compiler k times as long.
    """
    label = f"({'|'.join(labels)})"
    return label if num_lines == 1 else f"{label}(\\n{label}){{{num_lines - 1}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCost:
    """Tokens that labels take in an answer, for the label that takes most.

    Attributes:
        first: of the first label.
        each: of every further label with what separates it from the one before.
    """

    first: int
    each: int

    @property
    def per_text(self) -> int:
        """The least ``grid.output_tokens_per_text`` at which every label fits."""
        return max(self.first, self.each)

    def constrained_tokens(self, num_lines: int) -> int:
        """Return the tokens of ``num_lines`` labels and of the end, spelt in the usual way."""
        return self.first + (num_lines - 1) * self.each + 1

    def labels_held(self, num_tokens: int) -> int:
        """Return how many whole labels an answer of ``num_tokens`` tokens can hold.

        Source: first + (k - 1) * each <= num_tokens, solved for k.
        """
        return 0 if num_tokens < self.first else 1 + (num_tokens - self.first) // self.each


def label_cost(
    count: Callable[[Sequence[str]], Sequence[int]], separator: str = _LINE
) -> LabelCost:
    """Return what labels cost in a tokenizer.

    Args:
        count: texts to their numbers of tokens, without special tokens.
        separator: what stands between two labels.
    """
    one, two, three = (
        max(count([separator.join([label] * repeats) for label in LABELS])) for repeats in (1, 2, 3)
    )
    return LabelCost(first=one, each=max(two - one, three - two))


def spellings() -> tuple[str, ...]:
    """Return the forms in which an answer writes a label: bare, after a space, before a break."""
    return tuple(form for label in LABELS for form in (label, _SPACE + label, label + _LINE))
