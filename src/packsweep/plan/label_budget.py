"""How many labels fit into the output tokens of a packed answer, in one model's tokenizer.

The original experiment allows a packed prompt of n texts n output tokens. Whether n labels fit
into them is decided by the tokenizer, before any model is asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from packsweep.models.resolve import Model
from packsweep.models.tokenizer import Tokenizer
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.sweep.answers import LabelCost, label_cost, spellings


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
        """Return the values as JSON."""
        advice = {"output_tokens_per_text": self.cost.per_text}
        return json.dumps({**asdict(self), **advice}, indent=2)

    def to_text(self) -> str:
        """Return the values as lines."""
        written = (f"  {json.dumps(form):<14}{num}" for form, num in self.spellings.items())
        held = (
            f"  {budget:>5} output tokens: {labels} labels ({100 * labels / budget:.0f}% of "
            f"{budget} texts)"
            for budget, labels in self.held.items()
        )
        return "\n".join(
            (
                f"tokens of a label, {self.model}:",
                *written,
                "labels that fit, a line each:",
                *held,
                f"room for every label: grid.output_tokens_per_text = {self.cost.per_text}",
            )
        )


def cost_of(tokenizer: Tokenizer) -> LabelCost:
    """Return what labels take that stand on a line each."""
    return label_cost(lambda texts: tokenizer.count(texts, add_special_tokens=False))


def of(model: Model, budgets: Sequence[int]) -> LabelBudget:
    """Return what labels take in ``model``, and how many each of ``budgets`` tokens can hold."""
    tokenizer = load_tokenizer(model)
    forms = spellings()
    cost = cost_of(tokenizer)
    return LabelBudget(
        model=model.name,
        spellings=dict(zip(forms, tokenizer.count(forms, add_special_tokens=False), strict=True)),
        cost=cost,
        held={budget: cost.labels_held(budget) for budget in budgets},
    )
