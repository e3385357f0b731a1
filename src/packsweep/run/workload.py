"""What a pass of a cell submits: its prompts as requests, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packsweep.engines import Request
from packsweep.models.chat import ChatTemplate
from packsweep.sweep.cells import Cell
from packsweep.sweep.prompts import Prompt, submission_order, warmup_text
from packsweep.sweep.texts import LABELS, LabelledText


@dataclass(frozen=True, slots=True)
class Workload:
    """A cell's prompts and the order in which a pass submits them."""

    cell: Cell
    prompts: tuple[Prompt, ...]
    order: tuple[int, ...]
    texts: Sequence[LabelledText]

    @classmethod
    def of(
        cls, cell: Cell, texts: Sequence[LabelledText], chat: ChatTemplate | None = None
    ) -> Workload:
        """Build the prompts of ``cell`` over its ``texts``."""
        prompts = cell.build_prompts(texts, chat)
        order = submission_order(len(prompts), cell.duplication, cell.duplication_order)
        return cls(cell, prompts, order, texts)

    @property
    def requests(self) -> list[Request]:
        """The requests of a pass, in order of submission."""
        return [self._request(self.prompts[index], None) for index in self.order]

    @property
    def warmup(self) -> list[Request]:
        """Each distinct prompt once, as another text of the same shape."""
        return [self._request(prompt, warmup_text(prompt)) for prompt in self.prompts]

    def labels(self, prompt: Prompt) -> tuple[str, ...]:
        """Return the labels of the texts in ``prompt``."""
        inside = self.texts[prompt.first : prompt.first + prompt.num_texts]
        return tuple(text.label for text in inside)

    def _request(self, prompt: Prompt, text: str | None) -> Request:
        return Request(
            text=prompt.text if text is None else text,
            max_tokens=prompt.num_texts * self.cell.output_tokens_per_text,
            ignore_eos=self.cell.ignore_eos,
            num_texts=prompt.num_texts,
            add_special_tokens=prompt.add_special_tokens,
            choice=LABELS if self.cell.answer == "choice" else (),
        )
