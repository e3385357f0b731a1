"""``packsweep recommend``: which setting to run, what it costs, and the files to run it with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packsweep.cli.options import JsonOpt, MixedOpt, PriceOpt, ResultsArg, WhereOpt
from packsweep.cli.output import open_console, print_json, print_table, say
from packsweep.cli.results import open_results
from packsweep.errors import ResultsError, SpecError, UserError

if TYPE_CHECKING:
    from packsweep.analysis.advice import Terms
    from packsweep.analysis.recommend import Choice
    from packsweep.cli.results import Results
    from packsweep.results.store import Store


def recommend_command(
    results: ResultsArg,
    max_loss: Annotated[
        float,
        typer.Option(
            "--max-loss",
            metavar="SHARE",
            help="Largest acceptable loss of accuracy; 0.01 is one point.",
        ),
    ] = 0.01,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            "--min-accuracy",
            metavar="SHARE",
            help="Accuracy that a setting must be shown to reach.",
        ),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            "--texts",
            metavar="N",
            help="Number of texts to label, e.g. 5_000_000; prints hours and cost.",
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus",
            metavar="N",
            min=1,
            help="GPUs to use; those of one engine by default.",
        ),
    ] = None,
    gpu_hour_usd: PriceOpt = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Write label.py, serve.sh and ray_data.py to this folder.",
        ),
    ] = None,
    where: WhereOpt = None,
    json: JsonOpt = False,
    allow_mixed: MixedOpt = False,
) -> None:
    """Name the cheapest setting that is shown to lose no more accuracy than allowed.

    If nothing is shown yet, it names the most accurate setting for now and how many more
    texts may decide.
    """
    from packsweep.analysis import advice
    from packsweep.report.tables import advice_text

    terms = _terms(max_loss, min_accuracy, texts, gpus, gpu_hour_usd)
    found = open_results(results, where=where or [], allow_mixed=allow_mixed)
    choice = _choice(found, terms)
    given = advice.of_choice(choice, terms)
    written = _write(choice, output, gpus, found.store)
    left_out = _left_out(written)
    if json:
        files = {"files": [str(path) for path in written], "files_left_out": left_out}
        print_json(advice_text.to_record(choice, given, terms) | files)
        return
    console = open_console()
    for line in advice_text.lines_above(given):
        say(console, line)
    print_table(console, advice_text.table(given))
    for line in advice_text.lines_below(given, terms):
        say(console, line)
    if written:
        say(console, f"written: {', '.join(map(str, written))}")
        say(console, f"label a file: python {written[0]} FILE LABELS_FOLDER")
    for line in left_out:
        say(console, line)


def _terms(
    max_loss: float,
    min_accuracy: float | None,
    texts: str | None,
    gpus: int | None,
    gpu_hour_usd: float | None,
) -> Terms:
    from packsweep.analysis.advice import Terms

    if not 0 < max_loss < 1:
        raise UserError(f"--max-loss {max_loss:g}: expected a share between 0 and 1, e.g. 0.01")
    if min_accuracy is not None and not 0 < min_accuracy < 1:
        raise UserError(f"--min-accuracy {min_accuracy:g}: expected a share between 0 and 1")
    return Terms(
        max_loss=max_loss,
        min_accuracy=min_accuracy,
        num_texts=None if texts is None else _count(texts),
        num_gpus=gpus,
        gpu_hour_usd=gpu_hour_usd,
    )


def _count(texts: str) -> int:
    """Return a number that may be written as 5_000_000, 5,000,000 or 5e6."""
    try:
        number = float(texts.replace(",", ""))
        count = int(number)
    except (ValueError, OverflowError):
        count, number = 0, 1.0
    if count < 1 or count != number:
        raise UserError(f"--texts {texts}: expected a number of texts, e.g. 5_000_000")
    return count


def _choice(found: Results, terms: Terms) -> Choice:
    from packsweep.analysis import frames, recommend

    if found.nothing:
        raise ResultsError(found.nothing)
    groups = {row["group_id"] for row in found.rows}
    answers = frames.load_answers(found.store, found.passes, groups=groups)
    return recommend.choose(found.rows, answers, terms)


def _left_out(written: list[Path]) -> list[str]:
    """Say which file could not be written, and what does its work."""
    if not written or any(path.name == "ray_data.py" for path in written):
        return []
    from packsweep.report import deploy

    return [deploy.NO_RAY_DATA]


def _write(choice: Choice, folder: Path | None, gpus: int | None, store: Store) -> list[Path]:
    """Write the files of what is named; speed alone is no ground for that."""
    if folder is None:
        return []
    from packsweep.analysis import recommend
    from packsweep.report import deploy

    if choice.best is None:
        why = recommend.why_unscored(choice.settings[0].row)
        again = "again" if why == recommend.REQUESTS_GONE else "real weights first"
        raise ResultsError(
            f"--output {folder}: nothing is recommended, because {why}; measure {again}"
        )

    column, delimiter = _how_texts_are_read(store)
    return deploy.write(
        choice.best.row, folder, num_gpus=gpus, text_column=column, delimiter=delimiter
    )


def _how_texts_are_read(store: Store) -> tuple[str | None, str | None]:
    """Return the column and the delimiter that the kept sweep file names, or None."""
    from packsweep.sweep import read

    kept = store.storage.read("sweep.toml")
    if kept is None:
        return None, None
    try:
        sweep = read.kept(kept.decode())
    except (SpecError, UnicodeDecodeError):
        return None, None
    return sweep.task.text_column, sweep.texts.delimiter
