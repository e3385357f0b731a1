"""How many labels fit into the output tokens of a packed answer, in one model's tokenizer.

The original experiment allows a packed prompt of n texts n output tokens. Whether n labels fit
into them is decided by the tokenizer, before any model is asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from packsweep.errors import ModelError
from packsweep.models.resolve import Model
from packsweep.models.tokenizer import Tokenizer
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.sweep import answers, prompts
from packsweep.sweep.answers import Branch, LabelCost, label_cost, spellings
from packsweep.sweep.cells import Cell
from packsweep.sweep.prompts import Prompt
from packsweep.sweep.spec import Format
from packsweep.sweep.task import SENTIMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelBudget:
    """What labels take in a model's tokenizer.

    Attributes:
        spellings: form of a label -> its tokens.
        cost: of labels that stand on a line each.
        held: output tokens -> whole labels that they can hold, a line each.
    """

    model: str
    spellings: dict[str, int]
    cost: LabelCost
    held: dict[int, int]

    def to_json(self) -> str:
        advice = {"output_tokens_per_text": self.cost.per_text}
        return json.dumps({**asdict(self), **advice}, indent=2)

    def to_text(self) -> str:
        written = (f"  {json.dumps(form):<14}{num}" for form, num in self.spellings.items())
        held = (
            f"  {budget:>5} output tokens: {labels} labels ({100 * labels / budget:.0f}% of "
            f"{budget} texts)"
            for budget, labels in self.held.items()
        )
        return "\n".join(
            (
                f"tokens per label, {self.model}:",
                *written,
                "labels that fit, one per line:",
                *held,
                f"room for every label: grid.output_tokens_per_text = {self.cost.per_text}",
            )
        )


def cost_of(
    tokenizer: Tokenizer,
    words: Sequence[str] = SENTIMENT.labels,
    answer_format: Format = "lines",
) -> LabelCost:
    """Return what labels take that are written as ``words``."""
    return label_cost(
        lambda texts: tokenizer.count(texts, add_special_tokens=False), words, answer_format
    )


def submitted(
    cell: Cell, built: Sequence[Prompt], tokenizer: Tokenizer | None
) -> tuple[Prompt, ...]:
    """Return the prompts that ``cell`` submits for those that it builds.

    Answers by log-probabilities need one for every place where labels part, which is one in all
    where their first tokens differ.

    Raises:
        ModelError: the tokenizer does not tell the labels apart.
    """
    if cell.answer != "logprob":
        return tuple(built)
    assert tokenizer is not None
    return tuple(prompts.branched(built, _branches(cell.words, tokenizer)))


def label_tokens(words: Sequence[str], tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the token that each label is; none where one is not, or does not read as the label."""
    tokens = answers.own_tokens(tokenizer.encode(words, add_special_tokens=False))
    written = (tokenizer.backend.decode([token]) for token in tokens)
    return tokens if all(map(str.__eq__, words, map(str.strip, written))) else ()


def _branches(words: Sequence[str], tokenizer: Tokenizer) -> list[tuple[str, Branch]]:
    ids = tokenizer.encode(words, add_special_tokens=False)
    alike = {tuple(own): word for own, word in zip(ids, words, strict=True)}
    if len(alike) < len(words):
        raise ModelError(
            f"task.labels: the model's tokenizer writes two of {', '.join(words)[:100]} alike; "
            "use grid.label_form = letters, or other labels"
        )
    return [
        (_prefix_text(branch.prefix, ids, words, tokenizer), branch)
        for branch in answers.branches(ids, tokenizer.eos_token_ids)
    ]


def _prefix_text(
    prefix: tuple[int, ...],
    ids: Sequence[Sequence[int]],
    words: Sequence[str],
    tokenizer: Tokenizer,
) -> str:
    """Return the text of the tokens with which some labels begin."""
    text = tokenizer.backend.decode(list(prefix)) if prefix else ""
    word = next(
        word for own, word in zip(ids, words, strict=True) if own[: len(prefix)] == [*prefix]
    )
    if tokenizer.encode([text], add_special_tokens=False)[0] != [*prefix]:
        raise ModelError(
            f"grid.answer: labels such as {word!r} part inside a word or character of the model's "
            "tokenizer, which logprob cannot score; use grid.label_form = letters"
        )
    return text


def of(model: Model, budgets: Sequence[int]) -> LabelBudget:
    """Return what labels take in ``model``, and how many each of ``budgets`` tokens can hold."""
    tokenizer = load_tokenizer(model)
    forms = spellings(SENTIMENT.labels)
    cost = cost_of(tokenizer)
    return LabelBudget(
        model=model.name,
        spellings=dict(zip(forms, tokenizer.count(forms, add_special_tokens=False), strict=True)),
        cost=cost,
        held={budget: cost.labels_held(budget) for budget in budgets},
    )
