"""A model's chat template: from what the user says to the text that the engine is given.

Rendered as transformers renders it, without transformers: jinja2's immutable sandbox with its
settings, its helper functions and its variables. What a template could read of the day it is
rendered on is fixed, or a cell would be another one tomorrow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from packsweep.errors import ModelError

if TYPE_CHECKING:
    import jinja2

_OWN_VARIABLES = {
    *("messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token")
}
# The day that Llama 3.1's template falls back to.
_DAY = (2024, 7, 26)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTemplate:
    """A chat template and the special tokens that it may write.

    Attributes:
        text: in Jinja.
        bos_token: the token that begins a text, as text; empty if the tokenizer names none.
        eos_token: the token that ends a turn, as text; empty if the tokenizer names none.
    """

    text: str
    bos_token: str = ""
    eos_token: str = ""

    def render(
        self,
        content: str,
        *,
        system: str | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the text of a prompt in which the user says ``content``; the answer follows it.

        Special tokens stand in the text, so none must be added when it is tokenized.

        Args:
            content: the user's message.
            system: the message of the system before it; None: there is none.
            variables: of the template's own, such as ``enable_thinking``.

        Raises:
            ModelError: the template is damaged, or refuses a user's message alone.
        """
        import jinja2

        before = [] if system is None else [{"role": "system", "content": system}]
        try:
            return _compiled(self.text).render(
                **{
                    **(variables or {}),
                    "messages": [*before, {"role": "user", "content": content}],
                    "tools": None,
                    "documents": None,
                    "add_generation_prompt": True,
                    "bos_token": self.bos_token,
                    "eos_token": self.eos_token,
                }
            )
        except (jinja2.TemplateError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"the model's chat template cannot be rendered: {reason}") from error

    def knows(self, name: str) -> bool:
        """Return whether a variable of the user's can change what the template writes."""
        from jinja2 import TemplateError, meta

        try:
            parsed = _environment().parse(self.text)
        except TemplateError:
            return True  # render() says what is wrong
        return name in meta.find_undeclared_variables(parsed) - _OWN_VARIABLES


@lru_cache(maxsize=8)
def _compiled(text: str) -> jinja2.Template:
    return _environment().from_string(text)


def _environment() -> jinja2.Environment:
    """Return what compiles a template.

    Source: transformers 4.44 to 5, ``utils/chat_template_utils.py``: settings, loop controls, the
    filter and the functions.
    """
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _generation_tag()]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _strftime
    return environment


def _generation_tag() -> type[jinja2.ext.Extension]:
    """Return an extension that takes ``{% generation %}`` for what it encloses.

    The tag marks the assistant's words for training and writes nothing itself.
    """
    from jinja2 import ext, nodes, parser

    class Generation(ext.Extension):
        tags = {"generation"}  # noqa: RUF012  (jinja2's own declaration)

        def parse(self, parser: parser.Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return Generation


def _to_json(value: Any, indent: int | None = None) -> str:  # noqa: ANN401  (any JSON value)
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    import jinja2

    raise jinja2.TemplateError(message)


def _strftime(form: str) -> str:
    from datetime import UTC, datetime

    return datetime(*_DAY, tzinfo=UTC).strftime(form)
