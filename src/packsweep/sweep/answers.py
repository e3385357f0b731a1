"""What an answer may look like: its constrained form, and how many labels fit into it.

Pure functions over the labels of a task. A constrained answer to k texts is k labels in the form
that the cell asks for; a free one may be anything, and what it holds is read by
``packsweep.run.measure.scoring``. An answer by log-probabilities is a choice among the tokens with
which labels continue where they part (``branches``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from packsweep.sweep.spec import Format

# What a line or an entry holds besides its label, the number left out.
_AROUND: dict[Format, int] = {"lines": 1, "numbered": len(". \n"), "json": len('"": "", ')}
_LINE, _SPACE = "\n", " "
# What stands between the words of a label: a model writes "not spam" as not_spam, too.
JOINT = re.compile(r"(?<=\w)[\s_-]+(?=\w)")
# What stands between the levels of a label, with or without spaces: Billing > Refund.
SEPARATOR = re.compile(r"(?<=\S)\s*([>/|&:]+)\s*(?=\S)")


def max_tokens_per_text(words: Sequence[str], num_texts: int, answer_format: Format) -> int:
    """Return the tokens in which every label fits, however the model chooses to spell it.

    No tokenizer spells a label in more tokens than it has bytes. In lines, one more is for the
    line break, or the end-of-sequence token after the last label.
    """
    number = 0 if answer_format == "lines" else len(str(num_texts))
    end = 0 if answer_format == "lines" else 1
    return max(len(word.encode()) for word in words) + _AROUND[answer_format] + number + end


def own_tokens(label_ids: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the token of each label; none where a label takes several or two take the same.

    An answer that is one of these tokens needs no grammar, and cannot spell a label otherwise: by
    pieces the likeliest beginning wins, which need not be that of the likeliest label.
    """
    tokens = {ids[0] for ids in label_ids if len(ids) == 1}
    return tuple(ids[0] for ids in label_ids) if len(tokens) == len(label_ids) else ()


def pattern(words: Sequence[str], num_texts: int, answer_format: Format) -> str:
    """Return a regular expression of an answer to ``num_texts`` texts, each one of ``words``.

    Lines are a counted repetition: written out, k alternatives take a grammar compiler k times as
    long. Numbers have to be written out.
    """
    label = f"({'|'.join(map(_escaped, words))})"
    if answer_format == "lines":
        return label if num_texts == 1 else f"{label}(\\n{label}){{{num_texts - 1}}}"
    if answer_format == "numbered":
        return "\\n".join(f"{number}\\. {label}" for number in range(1, num_texts + 1))
    entries = (f'"{number}": "{label}"' for number in range(1, num_texts + 1))
    return f"\\{{{', '.join(entries)}\\}}"


def _escaped(word: str) -> str:
    # Of ASCII only what means something: grammar compilers know fewer escapes than Python.
    return re.sub(r"([\\.^$*+?{}\[\]|()])", r"\\\1", word)


def written(labels: Sequence[str], answer_format: Format) -> str:
    """Return an answer that holds ``labels`` as asked."""
    if answer_format == "lines":
        return _LINE.join(labels)
    numbered = enumerate(labels, 1)
    if answer_format == "numbered":
        return _LINE.join(f"{number}. {label}" for number, label in numbered)
    entries = ", ".join(f'"{number}": "{label}"' for number, label in numbered)
    return f"{{{entries}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A place where labels that began alike part.

    Attributes:
        prefix: the tokens that they share.
        options: what follows: the next token, or all that end an answer, and the indices of the
            labels that continue so.
    """

    prefix: tuple[int, ...]
    options: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Every token whose log-probability is wanted here."""
        return tuple(token for tokens, _ in self.options for token in tokens)


def branches(label_ids: Sequence[Sequence[int]], end_ids: Sequence[int]) -> tuple[Branch, ...]:
    """Return the places where labels part, the one before their first token first.

    Args:
        label_ids: each label's tokens; no two alike.
        end_ids: the tokens that end an answer, which a label takes where another continues.
    """
    found: list[Branch] = []
    everything = tuple(range(len(label_ids)))
    waiting: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((), everything)]
    while waiting:
        prefix, members = waiting.pop(0)
        groups: dict[tuple[int, ...], tuple[int, ...]] = {}
        for index in members:
            rest = label_ids[index][len(prefix) :]
            step = (rest[0],) if rest else tuple(end_ids)
            groups[step] = (*groups.get(step, ()), index)
        if len(groups) > 1:
            found.append(Branch(prefix=prefix, options=tuple(groups.items())))
        waiting += [((*prefix, step[0]), own) for step, own in groups.items() if len(own) > 1]
    return tuple(found)


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
        """Return the tokens of ``num_lines`` labels and of the end, spelled in the usual way."""
        return self.first + (num_lines - 1) * self.each + 1

    def labels_held(self, num_tokens: int) -> int:
        """Return how many whole labels an answer of ``num_tokens`` tokens can hold.

        Source: first + (k - 1) * each <= num_tokens, solved for k.
        """
        return 0 if num_tokens < self.first else 1 + (num_tokens - self.first) // self.each


def label_cost(
    count: Callable[[Sequence[str]], Sequence[int]],
    words: Sequence[str],
    answer_format: Format = "lines",
) -> LabelCost:
    """Return what labels cost in a tokenizer.

    Args:
        count: texts to their numbers of tokens, without special tokens.
        words: what an answer writes for each label.
        answer_format: how it writes several.
    """
    one, two, three = (
        max(count([written([word] * repeats, answer_format) for word in words]))
        for repeats in (1, 2, 3)
    )
    return LabelCost(first=one, each=max(two - one, three - two))


def spellings(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the forms in which an answer writes a label: bare, after a space, before a break."""
    return tuple(form for label in labels for form in (label, _SPACE + label, label + _LINE))
