"""A cell: every value that changes what is measured, and nothing else.

Its id is a readable slug and a hash of those values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from packsweep.models.chat import ChatTemplate
from packsweep.results import schema
from packsweep.sweep import prompts
from packsweep.sweep import task as labelling
from packsweep.sweep.prompts import Asking
from packsweep.sweep.spec import (
    FORMER_SETTINGS,
    MOST_WINDOWS,
    Answer,
    Arrivals,
    CacheState,
    DuplicationOrder,
    EngineKind,
    Format,
    Instruction,
    Isolation,
    Keep,
    LabelForm,
    Markup,
    Mode,
    PromptType,
    Template,
)
from packsweep.sweep.strategies import Strategy
from packsweep.sweep.task import LabellingTask
from packsweep.sweep.texts import LabelledText
from packsweep.sweep.texts.cut import Cut

Setting = str | int | float | bool | None
Settings = tuple[tuple[str, Setting], ...]

_OLD = frozenset(
    (column.name, column.formerly) for column in schema.CELL if column.formerly is not None
)


# A server is warmed with prompts of so many texts: every shape that it compiles for, and no more of
# a pool of thousands.
WARMUP_TEXTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """How a server is put under load; the keys of ``[online]``, one value each.

    Attributes:
        arrivals: how the open loop spaces its requests.
        rate: texts/s of the open loop.
        concurrency: requests under way in the closed loop.
        max_rate: texts/s from which the highest rate is looked for.
        search_s: how long that takes at most.
        slo: what a request must keep.
        url: of a server that is there; None: the cell's own.
    """

    window_s: float
    window_seed: int
    arrivals: Arrivals | None = None
    rate: float | None = None
    concurrency: int | None = None
    max_rate: float | None = None
    search_s: float | None = None
    slo: str | None = None
    url: str | None = None

    @property
    def longest_search_s(self) -> float:
        """How long a search for the highest rate drives, in all."""
        return self.search_s or MOST_WINDOWS * self.window_s

    @property
    def slug(self) -> str:
        """The load, short: ``rate2.5``, ``conc8`` or ``max``."""
        if self.rate is not None:
            return f"rate{self.rate:g}"
        return "max" if self.concurrency is None else f"conc{self.concurrency}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of the grid.

    Attributes:
        engine_settings: vLLM's names and the values passed for them, sorted by name.
        simulated_settings: what the simulated engine pretends to be; empty for vLLM.
        model_fingerprint: identifies the weights and the tokenizer behind ``model``.
        task_settings: what the task asks, as JSON.
        texts_sha256: hash of the whole texts and labels of the cell's n texts.
        prompts_sha256: hash of the prompts' texts.
        replicate: which process of those that measure the same, from 0.
        environ: JSON of the environment variables that change what is measured.
        online: the load of a server, as JSON; {} offline.
        isolation: what no other cell shares, the process or not even that.
    """

    strategy: Strategy
    n: int
    pack_size: int | None
    duplication: int
    duplication_order: DuplicationOrder
    instruction: Instruction
    template: Template
    answer: Answer
    format: Format
    label_form: LabelForm
    task: str
    task_settings: str
    text_max_tokens: int
    text_keep: Keep
    text_markup: Markup
    prompt_type: PromptType
    output_tokens_per_text: int
    cache_state: CacheState
    ignore_eos: bool
    repeats: int
    max_repeats: int | None
    stop_at_half_width: float | None
    replicate: int
    warmup_passes: int
    sample_conditions: bool
    model: str
    model_revision: str | None
    tokenizer: str | None
    load_format: str
    model_fingerprint: str
    texts_sha256: str
    prompts_sha256: str
    engine: EngineKind
    engine_settings: Settings
    simulated_settings: Settings
    environ: str = "{}"
    mode: Mode = "offline"
    online: str = "{}"
    isolation: Isolation = "process"

    @cached_property
    def load(self) -> LoadSettings:
        """The load that the cell's server is put under."""
        assert self.mode == "online"
        return LoadSettings(**json.loads(self.online))

    @property
    def settings(self) -> dict[str, Setting]:
        """vLLM's settings as a mapping."""
        return dict(self.engine_settings)

    @property
    def passed_settings(self) -> dict[str, Setting]:
        """Those that vLLM is passed; what is None it chooses."""
        every = {**FORMER_SETTINGS, **self.settings}
        return {name: value for name, value in every.items() if value is not None}

    @property
    def num_gpus(self) -> int:
        """GPUs of its engine, all of one host; on a CPU as many processes."""
        return self._size("tensor_parallel_size") * self._size("pipeline_parallel_size")

    def _size(self, name: str) -> int:
        return int(self.settings.get(name) or 1)

    @property
    def engine_key(self) -> tuple[object, ...]:
        """What cells have in common that one engine could serve."""
        return (
            self.engine,
            self.model_fingerprint,
            self.tokenizer,
            self.load_format,
            self.engine_settings,
            self.simulated_settings,
            self.prompt_type,
            self.environ,
            self.mode,
            self.replicate,
            self._known_to_server,
        )

    @property
    def _known_to_server(self) -> tuple[object, ...]:
        """What a simulated server answers by; a real one is told with each request."""
        if self.mode == "offline" or self.engine != "simulated":
            return ()
        return (self.words, self.answer, self.format, self.output_tokens_per_text)

    @cached_property
    def labelling(self) -> LabellingTask:
        """What is asked of each text."""
        return labelling.from_settings(self.task, self.task_settings)

    @property
    def words(self) -> tuple[str, ...]:
        """What an answer writes for each label."""
        return self.labelling.words(self.label_form)

    @property
    def asking(self) -> Asking:
        """What its prompts follow from, the task and the texts left out."""
        return Asking.of(vars(self))

    @property
    def picks_token(self) -> bool:
        """A constrained answer is one of the labels' own tokens, where each label is one.

        By a grammar every label has room for more: of such cells none has room for one.
        """
        return self.answer == "choice" and self.output_tokens_per_text == 1

    @property
    def cut(self) -> Cut:
        """How much of each text is sent."""
        return Cut(max_tokens=self.text_max_tokens, keep=self.text_keep, markup=self.text_markup)

    @property
    def num_texts(self) -> int:
        """Texts labelled in one pass, every copy counted."""
        return self.n * self.duplication

    @cached_property
    def cell_id(self) -> str:
        """Readable slug and 12 hex digits of the hash of all values.

        A value that every cell had before there was a choice is left out, and names are those of
        the first version, so that results of an earlier version keep their ids.
        """
        values = {
            schema.FORMER_NAMES.get(name, name): value
            for name, value in asdict(self).items()
            if (name, value) not in _OLD
        }
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return f"{self.slug}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"

    @property
    def slug(self) -> str:
        """The grid's own values, short: ``chunked4-n16-dup1-cold``."""
        strategy = f"{self.strategy}{self.pack_size or ''}"
        before = "-before" if self.instruction == "before" else ""
        tokens = "-tokens" if self.prompt_type == "tokens" else ""
        load = f"-{self.load.slug}" if self.mode == "online" else ""
        again = f"-r{self.replicate}" if self.replicate else ""
        return (
            f"{strategy}{before}{tokens}-n{self.n}-dup{self.duplication}-{self.cache_state}"
            f"{load}{again}"
        )

    @cached_property
    def group_id(self) -> str:
        """The cell_id of replicate 0: what replicates of one cell share."""
        return replace(self, replicate=0).cell_id

    def build_prompts(
        self, texts: Sequence[LabelledText], chat: ChatTemplate | None = None
    ) -> tuple[prompts.Prompt, ...]:
        """Return the cell's distinct prompts over its first n ``texts``, cut as they are sent.

        ``chat`` is the model's chat template, which the template ``chat`` needs.
        """
        assert chat is not None or self.template != "chat"
        return prompts.build(texts[: self.n], self.asking, chat=chat, task=self.labelling)


def from_dict(values: dict[str, Any]) -> Cell:
    """Return the cell that ``dataclasses.asdict`` and JSON took apart."""
    pairs = {
        name: tuple((key, value) for key, value in values[name])
        for name in ("engine_settings", "simulated_settings")
    }
    return Cell(**{**values, **pairs})
