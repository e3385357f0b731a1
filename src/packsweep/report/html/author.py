"""The experiment's own figures, and which cells may stand beside them.

One H800, vLLM of June 2025, Hermes-3-Llama-3.1-8B, IMDB texts, one repeat each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from packsweep.analysis import axes
from packsweep.models.architecture.config import ModelConfig
from packsweep.models.architecture.shape import ModelShape
from packsweep.models.embedded.llama3 import CONFIG
from packsweep.plan import roofline
from packsweep.plan.roofline import Work
from packsweep.report import format as fmt
from packsweep.report.cell import speed
from packsweep.report.html.parts import Section, grouped, make_table
from packsweep.results import schema
from packsweep.results.schema import Row

if TYPE_CHECKING:
    import pandas as pd

_UNQUANTIZED = {"quantization": None, "kv_cache_dtype": "auto"}
_NAMED = re.compile(r"llama-?3(\.1)?-8b", re.IGNORECASE)
_HEADINGS = (
    "strategy",
    "n",
    "dup",
    "texts/s, H800",
    "texts/s, here",
    "here / H800",
    "total tokens/s, H800",
    "total tokens/s, here",
    "prompt tokens, H800",
    "prompt tokens, here",
)


class Published(NamedTuple):
    """What the author printed for one cell."""

    texts_per_s: float
    total_tokens_per_s: float
    prompt_tokens: int


# (strategy, n, duplication). One output token a text, so output tokens/s are texts/s.
PUBLISHED = {
    ("packed", 400, 1): Published(16.80, 5058.22, 120_006),
    ("separate", 400, 1): Published(65.75, 21299.52, 129_180),
    ("packed", 40, 1): Published(40.65, 11443.23, 11_220),
    ("separate", 40, 1): Published(73.27, 22262.43, 12_114),
    ("packed", 4, 1): Published(32.03, 8118.47, 1_010),
    ("separate", 4, 1): Published(32.03, 8648.41, 1_076),
    ("packed", 400, 10): Published(78.58, 23652.82, 1_200_060),
    ("separate", 400, 10): Published(503.24, 163025.79, 1_291_800),
}


def section(rows: Sequence[Row], requests: pd.DataFrame) -> Section | None:
    """Return the author's figures beside ours; None where the model is another.

    Args:
        rows: of a summary.
        requests: of the cells of ``telling``: they show the shape of a model whose name does not.
    """
    alike = [row for own in _models(rows) if is_8b(_telling(own), requests) for row in own]
    if not alike:
        return None
    title = "Compared with the published H800 figures"
    cells = [row for row in alike if _published(row) and row["outcome"] == "ok"]
    if not cells:
        line = (
            "No measured cell has the strategy, n, duplication and wording of the published grid."
        )
        return Section(key="author", title=title, lines=(line,))
    caption = "The published H800 figures and this sweep, cell by cell"
    made = make_table(caption, _HEADINGS, [_cells(row) for row in cells])
    scope = (
        "Published: one H800, vLLM of June 2025, one repeat each, other texts (compare prompt "
        "tokens before speeds). ± is half the 95 % interval of this sweep."
    )
    return Section(key="author", title=title, lines=(scope,), tables=(made,))


def telling(rows: Sequence[Row]) -> list[str]:
    """Return the cells whose requests ``section`` needs: one of each model."""
    return [str(_telling(own)["cell_id"]) for own in _models(rows)]


def _models(rows: Sequence[Row]) -> list[list[Row]]:
    return list(grouped(rows, lambda row: str(row["model_fingerprint"])).values())


def _telling(rows: Sequence[Row]) -> Row:
    """Return the cell of a model that tells most of its shape."""
    return next((row for row in rows if row["flops"] is not None), rows[0])


def is_8b(row: Row, requests: pd.DataFrame) -> bool:
    """Return whether a cell's model has the shape of Llama-3.1-8B, by its name or by its FLOPs."""
    if _NAMED.search(row["model"]):
        return True
    if row["flops"] is None:
        return False
    own = requests[requests["cell_id"].eq(row["cell_id"]) & requests["repeat"].eq(0)]
    known = own[["prompt_tokens", "cached_tokens", "output_tokens"]].dropna()
    works = [_work(each) for each in known.to_dict(orient="records")]
    shape = ModelShape.from_config(ModelConfig.of(CONFIG))
    return math.isclose(roofline.flops(shape, works), row["flops"], rel_tol=1e-9)


def _work(request: Mapping[Any, Any]) -> Work:
    return Work(
        prompt_tokens=int(request["prompt_tokens"]),
        cached_tokens=int(request["cached_tokens"]),
        output_tokens=int(request["output_tokens"]),
    )


def _published(row: Row) -> Published | None:
    settings = schema.parsed(row["engine_settings"])
    if not axes.has_defaults(row) or row["output_tokens_per_text"] != 1:  # as the author asked
        return None
    if any(settings.get(name, value) != value for name, value in _UNQUANTIZED.items()):
        return None
    if axes.split(row).num_gpus > 1:
        return None
    return PUBLISHED.get((row["strategy"], row["n"], row["duplication"]))


def _cells(row: Row) -> list[str]:
    theirs = _published(row)
    assert theirs is not None
    ours = row["texts_per_s_median"]
    ratio = None if ours is None else ours / theirs.texts_per_s
    return [
        row["strategy"],
        str(row["n"]),
        str(row["duplication"]),
        fmt.number(theirs.texts_per_s),
        speed(row),
        f"{fmt.number(ratio)}x",
        fmt.number(theirs.total_tokens_per_s),
        fmt.number(row["total_tokens_per_s_median"]),
        fmt.count(theirs.prompt_tokens),
        fmt.count(row["prompt_tokens"]),
    ]
