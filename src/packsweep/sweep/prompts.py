"""How n texts become requests: the strategies and the words around the texts.

Pure functions. A strategy (``strategies``) says how many texts share a prompt; a template says
what is asked. A new template is a row of ``TEMPLATES`` (and a word in ``spec.Template``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from packsweep.models.chat import ChatTemplate
from packsweep.sweep.answers import Branch
from packsweep.sweep.spec import (
    DuplicationOrder,
    Format,
    Instruction,
    LabelForm,
    Template,
)
from packsweep.sweep.strategies import STRATEGIES, Strategy
from packsweep.sweep.task import SENTIMENT, LabellingTask
from packsweep.sweep.texts import LabelledText


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """The four sentences of a template: one text or many, asked after or before them."""

    one_after: str
    many_after: str
    one_before: str
    many_before: str

    def instruction(self, *, many: bool, place: Instruction) -> str:
        """Return the sentence for a prompt of ``many`` texts or of one."""
        if place == "after":
            return self.many_after if many else self.one_after
        return self.many_before if many else self.one_before


_ORIGINAL = (
    "determine whether it is a positive or negative comment. "
    "Answer only postive or negative:\n"
)  # "postive" is the experiment's own spelling and is kept to the letter.
_CORRECTED = (
    "determine whether it is a positive or a negative comment. Answer only positive or negative:\n"
)
_SHORT = "positive or negative? Answer only with positive or negative:\n"

# A chat model that is not asked for lines writes sentences.
_LINES = (
    "in order, determine whether it is a positive or a negative comment. "
    "Answer with one line for each comment, only positive or negative on each line:\n"
)

# Source: the experiment this project reproduces (tests 1 and 2) for ``original``, placed after.
TEMPLATES: dict[Template, Wording] = {
    "original": Wording(
        one_after=f"For the above comment, {_ORIGINAL}",
        many_after=f"For each line of the above comments, {_ORIGINAL}",
        one_before=f"For the following comment, {_ORIGINAL}",
        many_before=f"For each line of the following comments, {_ORIGINAL}",
    ),
    "corrected": Wording(
        one_after=f"For the comment above, {_CORRECTED}",
        many_after=f"For each line of the comments above, {_CORRECTED}",
        one_before=f"For the comment below, {_CORRECTED}",
        many_before=f"For each line of the comments below, {_CORRECTED}",
    ),
    # Asked before a text, these are 16 tokens of Llama 3's tokenizer, the special one counted: a
    # whole block of the prefix cache, so that no prompt computes any of them again.
    "short": Wording(
        one_after=f"Is the comment above {_SHORT}",
        many_after=f"Is each comment above {_SHORT}",
        one_before=f"Is the comment below {_SHORT}",
        many_before=f"Is each comment below {_SHORT}",
    ),
    # What the user says; the model's own chat template goes around it.
    "chat": Wording(
        one_after=f"For the comment above, {_CORRECTED}",
        many_after=f"For each line of the comments above, {_LINES}",
        one_before=f"For the comment below, {_CORRECTED}",
        many_before=f"For each line of the comments below, {_LINES}",
    ),
}

_LINE_BREAK = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt and the texts in it.

    Attributes:
        text: what is submitted, before tokenization.
        first: index of its first text among the cell's n.
        num_texts: how many texts it holds, so how many labels are expected.
        add_special_tokens: the tokenizer adds the model's special tokens; False where a chat
            template has written them into the text.
        branch: where labels part that this prompt asks about; of an answer by log-probabilities.
            Only the first branch of a text counts it in ``num_texts``.
    """

    text: str
    first: int
    num_texts: int
    add_special_tokens: bool = True
    branch: Branch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a task is asked: what of a cell its prompts follow from, by the cell's own names."""

    strategy: Strategy
    pack_size: int | None = None
    instruction: Instruction = "after"
    template: Template = "original"
    format: Format = "lines"
    label_form: LabelForm = "words"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Asking:
        """Return what the values of a cell, or of a row of the grid, say."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    def texts_per_prompt(self, num_texts: int) -> int:
        """Return the texts in each prompt but the last, which holds what is left."""
        return STRATEGIES[self.strategy].texts_per_prompt(num_texts, self.pack_size)


def build(
    texts: Sequence[LabelledText],
    asking: Asking,
    *,
    chat: ChatTemplate | None = None,
    task: LabellingTask = SENTIMENT,
) -> tuple[Prompt, ...]:
    """Return the distinct prompts of a cell, in the order of the texts.

    A prompt is its texts, a line each, and the instruction on a line of its own after or before
    them. The wording for one text goes with a strategy of one text a prompt. A line break
    inside a text becomes a space, since the wording counts lines. With the template ``chat`` all
    of that is what the user says in the model's own template, ``chat``. The experiment's own
    sentences ask for its own labels as words on lines; all else is worded by the task.
    """
    around = chat if asking.template == "chat" else None
    size = asking.texts_per_prompt(len(texts))
    lines = [_LINE_BREAK.sub(" ", text.text) for text in texts]
    return tuple(
        Prompt(
            text=_within(_asked(lines[first : first + size], asking, task), around, task),
            first=first,
            num_texts=min(size, len(texts) - first),
            add_special_tokens=around is None,
        )
        for first in range(0, len(texts), size)
    )


def _asked(lines: list[str], asking: Asking, task: LabellingTask) -> str:
    many, place = not STRATEGIES[asking.strategy].one_text, asking.instruction
    if asks_in_own_words(task) and (asking.format, asking.label_form) == ("lines", "words"):
        ask = TEMPLATES[asking.template].instruction(many=many, place=place)
        return _join(lines, ask, place)
    if many:
        return task.ask_many(lines, place, asking.label_form, asking.format)
    return task.ask_one(lines[0], place, asking.label_form)


def _join(texts: Sequence[str], ask: str, place: Instruction) -> str:
    lines = "".join(f"{text}\n" for text in texts)
    return lines + ask if place == "after" else ask + lines


def _within(text: str, chat: ChatTemplate | None, task: LabellingTask) -> str:
    """Return ``text`` in a chat, without the line break at its end, or as it is."""
    if chat is None:
        return text
    return chat.render(
        text.removesuffix("\n"), system=task.system, variables=task.template_variables
    )


def asks_in_own_words(task: LabellingTask) -> bool:
    """Return whether the experiment's sentences ask what ``task`` asks."""
    same = (task.labels, task.instruction) == (SENTIMENT.labels, SENTIMENT.instruction)
    return same and task.instruction_many is None


def branched(prompts: Sequence[Prompt], branches: Sequence[tuple[str, Branch]]) -> Iterator[Prompt]:
    """Yield each prompt once for every place where labels part, with what they share behind it.

    Args:
        prompts: of one text each.
        branches: the text of each branch's prefix, and the branch.
    """
    for prompt in prompts:
        for number, (prefix, branch) in enumerate(branches):
            yield replace(
                prompt,
                text=prompt.text + prefix,
                branch=branch,
                num_texts=prompt.num_texts if number == 0 else 0,
            )


def submission_order(
    num_prompts: int, duplication: int, order: DuplicationOrder
) -> tuple[int, ...]:
    """Return the index of the prompt behind each request of a pass.

    Args:
        num_prompts: distinct prompts of the cell.
        duplication: times each is submitted.
        order: ``grouped`` is AAABBB, ``interleaved`` is ABABAB.
    """
    if order == "grouped":
        return tuple(index for index in range(num_prompts) for _ in range(duplication))
    return tuple(range(num_prompts)) * duplication


def warmup_text(prompt: Prompt) -> str:
    """Return another text of the same shape: the prompt's words in reverse order.

    It is as long, to within a few tokens, and shares no prefix with any prompt of the cell, so it
    exercises the same kernels and leaves nothing in the prefix cache that a timed pass could use.
    """
    return " ".join(reversed(prompt.text.split(" ")))


def content_sha256(prompts: Sequence[Prompt]) -> str:
    """Return a hash of the prompts' texts and of how many labels each asks for."""
    digest = hashlib.sha256()
    for prompt in prompts:
        text = prompt.text.encode()
        digest.update(f"{prompt.num_texts} {len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()
