"""What a pass of a cell submits: its prompts as requests, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packsweep.engines import Request
from packsweep.models.chat import ChatTemplate
from packsweep.sweep.cells import Cell
from packsweep.sweep.prompts import Prompt, submission_order, warmup_text
from packsweep.sweep.reviews import LABELS, Review


@dataclass(frozen=True, slots=True)
class Workload:
    """A cell's prompts and the order in which a pass submits them."""

    cell: Cell
    prompts: tuple[Prompt, ...]
    order: tuple[int, ...]
    reviews: Sequence[Review]

    @classmethod
    def of(
        cls, cell: Cell, reviews: Sequence[Review], chat: ChatTemplate | None = None
    ) -> Workload:
        """Build the prompts of ``cell`` over its ``reviews``."""
        prompts = cell.build_prompts(reviews, chat)
        order = submission_order(len(prompts), cell.duplication, cell.duplication_order)
        return cls(cell, prompts, order, reviews)

    @property
    def requests(self) -> list[Request]:
        """The requests of a pass, in order of submission."""
        return [self._request(self.prompts[index], None) for index in self.order]

    @property
    def warmup(self) -> list[Request]:
        """Each distinct prompt once, as another text of the same shape."""
        return [self._request(prompt, warmup_text(prompt)) for prompt in self.prompts]

    def labels(self, prompt: Prompt) -> tuple[str, ...]:
        """Return the labels of the reviews in ``prompt``."""
        inside = self.reviews[prompt.first : prompt.first + prompt.num_reviews]
        return tuple(review.label for review in inside)

    def _request(self, prompt: Prompt, text: str | None) -> Request:
        return Request(
            text=prompt.text if text is None else text,
            max_tokens=prompt.num_reviews * self.cell.output_tokens_per_review,
            ignore_eos=self.cell.ignore_eos,
            num_reviews=prompt.num_reviews,
            add_special_tokens=prompt.add_special_tokens,
            choice=LABELS if self.cell.answer == "choice" else (),
        )
