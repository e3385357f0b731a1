"""A sweep, worked out: its cells, and what one pass of each submits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from packsweep.models.chat import ChatTemplate
from packsweep.models.resolve import Model
from packsweep.plan.pass_time import Pass
from packsweep.sweep.cells import Cell
from packsweep.sweep.texts import LabelledText
from packsweep.sweep.texts.cut import Cut


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCell:
    """A cell and what one pass of it submits.

    Attributes:
        prompt_tokens: of all requests, every copy counted.
        longest_prompt_tokens: of the longest prompt.
        output_tokens: of all requests; of constrained answers as many as labels usually take.
        request_tokens: prompt and output limit of each prompt.
        longest: which text is the longest request, where it is of one text.
        load: what a pass computes, with what the prefix cache serves of it.
        kv_bytes_per_token: what a token takes in the KV cache of each GPU; None if not known. Of
            pipeline stages, in that with the most layers.
        kv_pass_tokens: tokens of the blocks that a pass takes, if none is freed.
        shared_tokens: with which all its prompts begin alike; 0 of a single prompt.
        infeasible: why no engine can run it, or None.
    """

    cell: Cell
    num_requests: int
    prompt_tokens: int
    longest_prompt_tokens: int
    output_tokens: int
    request_tokens: tuple[int, ...]
    load: Pass
    kv_bytes_per_token: int | None
    kv_pass_tokens: int
    shared_tokens: int
    infeasible: str | None
    longest: str | None = None

    @property
    def longest_request_tokens(self) -> int:
        """Prompt and output limit of the request that needs most."""
        return max(self.request_tokens)

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that the prefix cache serves, by block arithmetic."""
        return self.load.cached_tokens

    @property
    def kv_longest_bytes(self) -> int | None:
        """KV cache of the longest request alone."""
        return self._kv_bytes(self.longest_request_tokens)

    @property
    def kv_pass_bytes(self) -> int | None:
        """KV cache in which a whole pass stays, so that nothing reused is lost."""
        return self._kv_bytes(self.kv_pass_tokens)

    def _kv_bytes(self, num_tokens: int) -> int | None:
        per_token = self.kv_bytes_per_token
        return None if per_token is None else num_tokens * per_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep, worked out.

    Attributes:
        cells: in the order of the grid.
        schedule: the same cells in the order in which they are measured.
        chat: the model's chat template, where a cell uses it.
        sent: the texts as they are sent, where that is not all of them.
        advice: what the user should know before a run, a line each.
        gpu_hour_usd: what an hour of a GPU costs, stored with the results.
        api_key_env: the environment's name for the key of a server that is there.
    """

    model: Model
    texts: tuple[LabelledText, ...]
    cells: tuple[PlannedCell, ...]
    schedule: tuple[PlannedCell, ...]
    chat: ChatTemplate | None = None
    sent: Mapping[Cut, Sequence[LabelledText]] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    gpu_hour_usd: float | None = None
    api_key_env: str | None = None

    def texts_of(self, cell: Cell) -> Sequence[LabelledText]:
        """Return the texts of ``cell`` as it sends them."""
        return self.sent.get(cell.cut, self.texts)[: cell.n]
