"""What a sweep file names: model, tokenizer, texts, the user's variables; or why it cannot be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from packsweep.errors import ModelError, SpecError, TextsError, shown
from packsweep.machine import environment, processor
from packsweep.models.architecture.split import Split, refusal
from packsweep.models.chat import ChatTemplate
from packsweep.models.resolve import Model, resolve
from packsweep.models.tokenizer import Tokenizer
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.plan import label_budget
from packsweep.sweep import expansion, texts
from packsweep.sweep import task as labelling
from packsweep.sweep.cells import Cell
from packsweep.sweep.spec import Sweep
from packsweep.sweep.texts import LabelledText, cut
from packsweep.sweep.texts.cut import Cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All that a sweep's cells are made of.

    Attributes:
        rows: the texts, whole, in which the tokenizer finds no control token of the model.
        chat: the model's chat template, where a cell uses it.
        cutter: returns texts as they are sent.
        environ: the user's variables that change what is measured, as JSON.
        on_cpu: vLLM will run on this machine's processor.
        notes: what was guessed of the file of texts, a line each.
    """

    model: Model
    tokenizer: Tokenizer
    rows: tuple[LabelledText, ...]
    chat: ChatTemplate | None
    cutter: Callable[[Sequence[LabelledText], Cut], Sequence[LabelledText]]
    environ: str
    on_cpu: bool
    notes: tuple[str, ...]

    def cells(self, sweep: Sweep) -> list[Cell]:
        """Return the cells of the sweep, in the order of the grid.

        Raises:
            UserError: two of its values do not go together, or not with the model or the texts.
        """
        expanded = expansion.expand(
            sweep,
            self.rows,
            model_fingerprint=self.model.fingerprint,
            max_model_len=self.model.default_model_len,
            chat=self.chat,
            auto_dtype=_auto_dtype(self.model, on_cpu=self.on_cpu),
            cutter=self.cutter,
            label_tokens=cache(partial(label_budget.label_tokens, tokenizer=self.tokenizer)),
        )
        found = [replace(cell, environ=self.environ) for cell in expanded]
        _check_split(found, self.model)
        return found


def read(sweep: Sweep, *, on_gpu: bool) -> Inputs:
    """Load what a sweep names.

    Args:
        sweep: what is asked.
        on_gpu: it is planned for a GPU, whatever this machine has.

    Raises:
        UserError: the model, the tokenizer or the texts are not there or do not suffice.
    """
    model = _model(sweep)
    on_cpu = sweep.engine.kind == "vllm" and not on_gpu and environment.on_cpu()
    notes: list[str] = []
    rows = _texts(sweep, notes)
    tokenizer = load_tokenizer(model)
    guard = _guard(tokenizer, sweep)
    rows = tuple(replace(row, text=guard(row.text, number)) for number, row in enumerate(rows, 1))
    chat = _chat(tokenizer, model) if sweep.needs_chat else None
    _check_asked(sweep, tokenizer, chat)
    return Inputs(
        model=model,
        tokenizer=tokenizer,
        rows=rows,
        chat=chat,
        cutter=cut.cutter(tokenizer.backend, guard),
        environ=_environ(sweep),
        on_cpu=on_cpu,
        notes=tuple(notes),
    )


def _model(sweep: Sweep) -> Model:
    """Return the model of a sweep; refuse what no engine would do with it."""
    model = resolve(
        sweep.model.name,
        revision=sweep.model.revision,
        tokenizer=sweep.model.tokenizer,
        load_format=sweep.model.load_format,
    )
    longest = max(length or 0 for each in sweep.all for length in each.engine.max_model_len)
    if longest > model.max_model_len:  # vLLM would refuse it, after minutes
        raise SpecError(
            f"engine.max_model_len: {longest} is more than the {model.max_model_len} positions "
            f"of {model.name}"
        )
    if model.shape is None and sweep.engine.kind == "simulated":
        raise SpecError(f"engine.kind: {model.name} cannot be simulated: {model.design}")
    return model


def _check_split(cells: Sequence[Cell], model: Model) -> None:
    """Refuse what vLLM does not divide among the GPUs of an engine, which it says after minutes."""
    for each in dict.fromkeys(Split.of(cell.settings) for cell in cells):
        refused = refusal(model.config, each)
        if refused is not None:
            raise SpecError(f"engine.{refused[0]} = {getattr(each, refused[0])}: {refused[1]}")


def _texts(sweep: Sweep, notes: list[str]) -> tuple[LabelledText, ...]:
    """Return the texts of a sweep; ``notes`` takes what was guessed of their file."""
    asked = labelling.of(sweep.task)
    reading = texts.Reading(
        labels=asked.labels,
        label_map={**asked.spellings, **sweep.task.label_map},
        text_column=sweep.task.text_column,
        label_column=sweep.task.label_column,
        delimiter=sweep.texts.delimiter,
        split=sweep.texts.split,
    )
    return texts.load(
        sweep.texts.source,
        limit=sweep.largest_n,
        seed=sweep.texts.seed,
        reading=reading,
        notes=notes,
    )


def _control_tokens(tokenizer: Tokenizer) -> re.Pattern[str]:
    """Return what matches a control token of the model; nothing where there are none."""
    return re.compile("|".join(map(re.escape, tokenizer.control_tokens)) or r"(?!)")


def _guard(tokenizer: Tokenizer, sweep: Sweep) -> cut.Guard:
    """Return what gives a text in which the tokenizer finds no control token of the model.

    It raises a TextsError if there is one and the sweep does not ask to break it up.
    """
    tokens, pattern = tokenizer.control_tokens, _control_tokens(tokenizer)

    def escaped(text: str, _number: int) -> str:
        return cut.broken_up(text, tokens)

    def checked(text: str, number: int) -> str:
        if found := pattern.search(text):
            raise TextsError(
                f"text {number} holds {found[0]}, which the model reads as a control token; take "
                'it out, or set texts.control_tokens = "escape" to put a space into it'
            )
        return text

    return escaped if sweep.texts.control_tokens == "escape" else checked


def _check_asked(sweep: Sweep, tokenizer: Tokenizer, chat: ChatTemplate | None) -> None:
    """Refuse a task that would speak to the model in its control tokens, or set nothing.

    An instruction outside of a chat may hold the user's own template.
    """
    table, pattern = sweep.task, _control_tokens(tokenizer)
    asked = {"labels": " ".join(table.labels or ()), "system": table.system or ""}
    if chat is not None:
        asked["instruction"] = table.instruction or ""
        asked["instruction_many"] = table.instruction_many or ""
    for key, text in asked.items():
        if found := pattern.search(text):
            raise SpecError(
                f"task.{key}: holds {found[0]}, which the model reads as a control token; take it "
                "out"
            )
    if chat is None:
        return
    for name in table.chat_template_kwargs:
        if not chat.knows(name):
            raise SpecError(
                f"task.chat_template_kwargs: {shown(name)} is no variable of this model's chat "
                "template, so it has no effect; remove it"
            )


def _chat(tokenizer: Tokenizer, model: Model) -> ChatTemplate:
    """Return the model's chat template; refuse a model without one."""
    if tokenizer.chat is None:
        raise ModelError(
            f"grid.template: {model.name} has no chat template; take another template, or "
            "name a tokenizer that has one with model.tokenizer"
        )
    return tokenizer.chat


def _auto_dtype(model: Model, *, on_cpu: bool) -> str:
    """Return what the dtype "auto" means: the fastest one on a CPU, else vLLM's own choice."""
    return processor.dtype() if on_cpu and model.quantization is None else "auto"


def _environ(sweep: Sweep) -> str:
    """Return the user's variables that change what is measured, as JSON; none change arithmetic."""
    return json.dumps({} if sweep.engine.kind == "simulated" else environment.measuring())
