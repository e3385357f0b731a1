"""The configuration of a recommended cell, ready to run: label.py, serve.sh, ray_data.py.

``label.py`` here is the script itself, with what it takes from packsweep written into it and the
cell's settings in place of ``SETTINGS``. What is asked and how answers are read is thus the code
that measured the cell.
"""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from packsweep.analysis import blocks
from packsweep.engines import vllm as engine
from packsweep.errors import ResultsError
from packsweep.files import replace_file
from packsweep.models import resolve, tokenizer
from packsweep.models.resolve import Model
from packsweep.models.tokenizer import Tokenizer
from packsweep.plan import label_budget
from packsweep.report.deploy.bundle import bundle
from packsweep.results import schema
from packsweep.results.schema import Row
from packsweep.run.measure import scoring
from packsweep.sweep.cells import Cell, from_dict
from packsweep.sweep.prompts import Prompt
from packsweep.sweep.strategies import STRATEGIES
from packsweep.sweep.texts.columns import TEXT_NAMES

_EMPTY = "SETTINGS: dict[str, Any] = {}"
_SCRIPT = f"{__name__}.label"
NO_RAY_DATA = (
    "no ray_data.py: labels begin alike, so a text has several prompts, and Ray Data reads each by "
    "itself; give each GPU a part of the texts with label.py --part"
)
# By whether the engine was in one process, as it is on a CPU. The command vllm asks for the version
# of a package that is called vllm, and the one for CPUs is called otherwise.
_SERVER = {
    False: "vllm serve",
    True: "python -m vllm.entrypoints.openai.api_server --model",
}
# Of the arguments of vllm.LLM, those that measuring alone needs.
_MEASURING = ("disable_log_stats", "use_tqdm_on_load")


def write(
    row: Row,
    folder: Path,
    *,
    num_gpus: int | None = None,
    text_column: str | None = None,
    delimiter: str | None = None,
) -> list[Path]:
    """Write the configuration of a summary's cell into ``folder``; return the files.

    Args:
        row: of the summary.
        folder: is made where it is not there.
        num_gpus: that label, in as many engines as they hold; None: in one.
        text_column: of the files that will be labelled; None: one with a usual name.
        delimiter: between their fields; None: by their names and first lines.

    Raises:
        ModelError: the cell's model is not here, and its chat template or tokenizer is needed.
        ResultsError: it is another model by now, or the folder cannot be written.
    """
    settings = settings_of(row) | {"text_column": text_column, "delimiter": delimiter}
    contents = {"label.py": script(settings), "serve.sh": serve(settings)}
    if len(settings["branches"]) <= 1:
        own = blocks.num_gpus(row)
        contents["ray_data.py"] = ray_data(max(1, (num_gpus or own) // own), text_column)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            replace_file(folder / name, content.encode())
    except OSError as error:
        raise ResultsError(f"{folder}: cannot be written: {error.strerror}") from None
    return [folder / name for name in contents]


def settings_of(row: Row) -> dict[str, Any]:
    """Return what ``label.SETTINGS`` must be for a summary's cell."""
    cell = _cell(row)
    model = resolve.resolve(
        cell.model,
        revision=cell.model_revision,
        tokenizer=cell.tokenizer,
        load_format=cell.load_format,
    )
    if model.fingerprint != cell.model_fingerprint:
        raise ResultsError(
            f"{cell.model} is not the model that was measured any more: weights or tokenizer have "
            "changed; measure again"
        )
    resolved = schema.parsed(row.get("engine_resolved"))
    return {
        **_settings(cell, model, tokenizer.load(model)),
        "environ": json.loads(cell.environ),
        # On a CPU: one process, and as many threads.
        "in_process": resolved.get("in_process", False),
        "num_threads": resolved.get("num_threads"),
    }


def _cell(row: Row) -> Cell:
    values = {column.name: row[column.name] for column in fields(Cell)}
    pairs = {
        name: sorted(json.loads(row[name] or "{}").items())
        for name in ("engine_settings", "simulated_settings")
    }
    return from_dict({**values, **pairs})


def _settings(cell: Cell, model: Model, words: Tokenizer) -> dict[str, Any]:
    """Return everything that a prompt, its answer and the engine follow from."""
    asking = cell.asking
    if STRATEGIES[asking.strategy].follows_n:  # chunks of a longer file
        size = asking.texts_per_prompt(cell.n)
        asking = replace(asking, strategy="chunked", pack_size=size)
    reader = scoring.reader(cell)
    chat = words.chat if cell.template == "chat" else None
    blank = Prompt(text="", first=0, num_texts=1)
    branches = label_budget.submitted(cell, [blank], words) if cell.answer == "logprob" else ()
    arguments = engine.arguments(cell, model)
    return {
        "cell": cell.cell_id,
        "text_column": None,
        "delimiter": None,
        "asking": asdict(asking),
        "task": asdict(cell.labelling),
        "cut": asdict(cell.cut),
        "control_tokens": words.control_tokens,
        "chat": None if chat is None else asdict(chat),
        "prompt_type": cell.prompt_type,
        "choice": list(cell.words) if cell.answer == "choice" else [],
        "label_tokens": label_budget.label_tokens(cell.words, words) if cell.picks_token else (),
        "branches": [(each.text, asdict(each.branch)) for each in branches if each.branch],
        "output_tokens_per_text": cell.output_tokens_per_text,
        "reader": {"words": dict(reader.words), "exact_case": reader.exact_case},
        "engine": {
            name: value
            for name, value in arguments.items()
            if name not in _MEASURING and value is not None
        },
    }


def script(settings: Mapping[str, Any]) -> str:
    """Return label.py for ``settings``."""
    source = bundle(_SCRIPT)
    assert source.count(_EMPTY) == 1
    written = pprint.pformat(dict(settings), width=96, sort_dicts=False)
    return source.replace(_EMPTY, f"SETTINGS: dict[str, Any] = {written}")


def serve(settings: Mapping[str, Any]) -> str:
    """Return a shell script that serves the model with the settings measured."""
    engine_settings = dict(settings["engine"])
    model = engine_settings.pop("model")
    options = [option for name, value in engine_settings.items() for option in _option(name, value)]
    lines = [f"exec {_SERVER[settings['in_process']]} {shlex.quote(model)}", *options]
    return (
        "#!/bin/sh\n"
        "# The engine as it was measured. Prompts are worded by label.py: send prompts() of it to\n"
        "# /v1/completions, and read the answers with read_text().\n"
        "# More options go behind it: serve.sh --port 8001\n"
        + "".join(_exported(settings))
        + " \\\n  ".join([*lines, '"$@"'])
        + "\n"
    )


def _exported(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that set the environment, unless it is set already."""
    given = dict(settings["environ"])
    if settings["in_process"]:
        yield "# A server is several processes: none is bound to a core, and all cores compute.\n"
        given |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": settings["num_threads"]}
    for name, value in given.items():
        yield f'[ -n "${{{name}+set}}" ] || export {name}={shlex.quote(str(value))}\n'


def _option(name: str, value: object) -> list[str]:
    """Return vLLM's option for an argument."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    text = json.dumps(value) if isinstance(value, dict) else str(value)
    return [f"--{flag} {shlex.quote(text)}"]


def ray_data(num_engines: int, text_column: str | None = None) -> str:
    """Return ray_data.py, which labels with so many engines, each of the GPUs that it measured."""
    text = Path(__file__).with_name("ray_data.txt").read_text(encoding="utf-8")
    column = json.dumps(text_column or TEXT_NAMES[0])
    return text.replace("{num_engines}", str(num_engines)).replace("{column}", column)
