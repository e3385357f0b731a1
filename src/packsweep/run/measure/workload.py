"""What a pass of a cell submits: its prompts as requests, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packsweep.engines import Request
from packsweep.models.chat import ChatTemplate
from packsweep.models.tokenizer import Tokenizer
from packsweep.plan import label_budget
from packsweep.sweep.cells import Cell
from packsweep.sweep.prompts import Prompt, submission_order, warmup_text
from packsweep.sweep.texts import LabelledText


@dataclass(frozen=True, slots=True)
class Workload:
    """A cell's prompts and the order in which a pass submits them."""

    cell: Cell
    prompts: tuple[Prompt, ...]
    order: tuple[int, ...]
    texts: Sequence[LabelledText]
    label_tokens: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        cell: Cell,
        texts: Sequence[LabelledText],
        chat: ChatTemplate | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> Workload:
        """Build the prompts of ``cell`` over its ``texts``, cut as they are sent.

        ``tokenizer`` says where labels part, and which token each is; ``needs_tokenizer`` tells
        whether ``cell`` asks that.
        """
        prompts = label_budget.submitted(cell, cell.build_prompts(texts, chat), tokenizer)
        order = submission_order(len(prompts), cell.duplication, cell.duplication_order)
        tokens: tuple[int, ...] = ()
        if cell.picks_token:
            assert tokenizer is not None
            tokens = label_budget.label_tokens(cell.words, tokenizer)
        return cls(cell, prompts, order, texts, tokens)

    @property
    def requests(self) -> list[Request]:
        """The requests of a pass, in order of submission."""
        return [self._request(self.prompts[index], None) for index in self.order]

    @property
    def warmup(self) -> list[Request]:
        """Each distinct prompt once, as another text of the same shape."""
        return [self._request(prompt, warmup_text(prompt)) for prompt in self.prompts]

    @property
    def scores(self) -> bool:
        """Labels are scored by their log-probabilities instead of read from an answer."""
        return self.cell.answer == "logprob"

    def labels(self, prompt: Prompt) -> tuple[str | None, ...]:
        inside = self.texts[prompt.first : prompt.first + prompt.num_texts]
        return tuple(text.label for text in inside)

    def _request(self, prompt: Prompt, text: str | None) -> Request:
        return Request(
            text=prompt.text if text is None else text,
            max_tokens=output_limit(prompt, self.cell),
            ignore_eos=self.cell.ignore_eos,
            num_texts=prompt.num_texts,
            add_special_tokens=prompt.add_special_tokens,
            choice=self.cell.words if self.cell.answer == "choice" else (),
            format=self.cell.format,
            allowed_token_ids=self.label_tokens,
            score_token_ids=prompt.branch.token_ids if prompt.branch else (),
        )


def needs_tokenizer(cell: Cell) -> bool:
    """Tell whether the requests of ``cell`` name tokens."""
    return cell.answer == "logprob" or cell.picks_token


def output_limit(prompt: Prompt, cell: Cell) -> int:
    """Return the most output tokens of a request; one that only scores labels has one."""
    return 1 if prompt.branch else prompt.num_texts * cell.output_tokens_per_text
