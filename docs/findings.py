"""Draw docs/findings.png from results/reference: python docs/findings.py."""

from __future__ import annotations

import json
from pathlib import Path

import altair as alt
import pandas as pd

import packsweep

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"
# The author's figures on an H800, of 2025: n, strategy, texts/s.
AUTHOR = [
    (4, "packed", 32.0),
    (40, "packed", 40.65),
    (400, "packed", 16.8),
    (4, "separate", 32.0),
    (40, "separate", 73.27),
    (400, "separate", 65.75),
]
LARGEST_N = 400
INT8 = "/tmp/int8"  # noqa: S108  (the name of a model in results/reference/h200-w8a8)
# Settings that are not distinguished in the picture, and tokens of a step that are.
PLAIN = {"kv_cache_dtype": "auto", "enforce_eager": False}
STEPS = {16384: "", 4096: ", steps of 4,096"}
SIZE: dict[str, int] = {"width": 330, "height": 260}


def cells() -> pd.DataFrame:
    """Return the cells with each request submitted once that differ only in what is drawn."""
    int8 = packsweep.load(REFERENCE / "h200-w8a8", "summary").query("model == @INT8")
    found = pd.concat([packsweep.load(REFERENCE / "h200", "summary"), int8], ignore_index=True)
    settings = found["engine_settings"].map(json.loads)
    plain = settings.map(lambda values: PLAIN.items() <= values.items())
    found["step"] = settings.map(lambda values: STEPS.get(values["max_num_batched_tokens"]))
    loaded = settings.map(lambda values: values["quantization"] or "bf16")
    found["format"] = loaded.mask(found["model"] == INT8, "int8")
    names = {f"texts_per_s_{name}": name for name in ("mean", "ci_low", "ci_high")}
    drawn = plain & found["step"].notna() & (found["duplication"] == 1)
    return found[drawn].rename(columns=names)


def by_n(found: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Return speed against n in bf16, the author's H800 dashed beside it."""
    original = (found["format"] == "bf16") & (found["instruction"] == "after")
    ours = found[original & found["strategy"].isin(["packed", "separate"])]
    author = pd.DataFrame(AUTHOR, columns=["n", "strategy", "mean"])
    frames = {"H200": ours, "H800, the author's": author}
    data = pd.concat([frame.assign(device=name) for name, frame in frames.items()])
    data = data[["n", "strategy", "device", "mean", "ci_low", "ci_high"]]
    legend = alt.Legend(title=None, orient="bottom")
    ticks = alt.Axis(values=sorted({n for n, _, _ in AUTHOR}), title="n, texts in a pass")
    base = alt.Chart(data).encode(
        x=alt.X("n:Q", scale=alt.Scale(type="log"), axis=ticks),
        y=alt.Y("mean:Q", title="texts labelled per second"),
        color=alt.Color("strategy:N", legend=legend),
    )
    lines = base.mark_line().encode(strokeDash=alt.StrokeDash("device:N", legend=legend))
    spread = base.mark_rule(strokeWidth=2).encode(y="ci_low:Q", y2="ci_high:Q")
    points = base.mark_point(filled=True, size=60)
    chart = alt.layer(lines, spread, points, title="Separate prompts win from 40 texts on")
    return chart.properties(**SIZE)


def by_setting(found: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Return the speed of 400 texts by strategy, place of the instruction and format."""
    data = found[found["n"] == LARGEST_N].copy()
    asked = data["strategy"].where(
        data["strategy"] != "chunked", data["pack_size"].astype(str) + " a prompt"
    )
    place = data["instruction"].map({"after": "", "before": ", instruction first"})
    words = data["template"].map({"original": "", "short": ", short"})
    data["setting"] = asked + place + words + ", " + data["format"] + data["step"]
    data = data[["setting", "mean", "ci_low", "ci_high"]]
    base = alt.Chart(data).encode(
        y=alt.Y("setting:N", sort="-x", title=None, axis=alt.Axis(labelLimit=320)),
        x=alt.X(
            "mean:Q",
            title="texts labelled per second",
            scale=alt.Scale(domainMax=280),
            axis=alt.Axis(tickCount=6),
        ),
    )
    bars = base.mark_bar(color="#4c78a8")
    spread = base.mark_rule(strokeWidth=2, color="black").encode(x="ci_low:Q", x2="ci_high:Q")
    text = base.mark_text(align="left", dx=8).encode(text=alt.Text("mean:Q", format=".0f"))
    return alt.layer(bars, spread, text, title="400 texts on one H200").properties(**SIZE)


if __name__ == "__main__":
    measured = cells()
    chart = alt.hconcat(by_n(measured), by_setting(measured)).configure_view(stroke=None)
    chart.save(Path(__file__).with_name("findings.png"), scale_factor=2)
