"""``packsweep calc``: arithmetic about models, with no engine and nothing measured.

Registers commands, as ``packsweep.cli`` does; what they compute stands in modules of its own.
"""

from __future__ import annotations

from typing import Annotated

import typer

calc = typer.Typer(
    name="calc",
    help="Arithmetic about a model: runs nothing, needs no GPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_DEFAULT_TOKENS = (4, 40, 400)

ModelArg = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Hub id, folder or embedded:NAME; no weights are needed."),
]


@calc.callback()
def _calc() -> None:
    """Arithmetic about a model: runs nothing, needs no GPU."""


@calc.command("labels")
def labels_command(
    model: ModelArg,
    tokens: Annotated[
        list[int] | None,
        typer.Option(
            "--tokens", min=1, metavar="N", help="Output tokens of an answer. May be repeated."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Show how many labels an answer of N output tokens can hold, in a model's tokenizer."""
    from packsweep import label_budget, models

    budget = label_budget.of(models.resolve(model, load_format="dummy"), tokens or _DEFAULT_TOKENS)
    print(budget.to_json() if json else budget.to_text())
