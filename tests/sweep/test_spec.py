"""Sweep files: defaults, axes, overrides, and one line for whatever is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep.errors import SpecError, TextsError
from packsweep.models.chat import ChatTemplate
from packsweep.sweep import expansion, keys, read, spec, texts

SWEEPS = Path(__file__).resolve().parents[2] / "sweeps"
SMALL = """
[model]
name = "some/model"

[grid]
n = 4
"""


def _load(folder: Path, more: str = "", *overrides: str) -> spec.Sweep:
    path = folder / "s.toml"
    path.write_text(SMALL + more, encoding="utf-8")
    return read.load(path, overrides)


def _refusal(path: Path, *overrides: str) -> str:
    """Return the error's text after checking that it is one line."""
    with pytest.raises(SpecError) as caught:
        read.load(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _parse(**tables: Any) -> spec.Sweep:
    values = {"model": {"name": "m"}, "grid": {"n": 4}}
    return read.parse({**values, **tables}, where="f.toml")


def _parse_refusal(**tables: Any) -> str:
    with pytest.raises(SpecError) as caught:
        _parse(**tables)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_smallest_file(tmp_path: Path) -> None:
    """A model and n are enough; the strategies are then the author's two."""
    sweep = _load(tmp_path)
    assert sweep.grid.strategy == ("packed", "separate")
    assert sweep.grid.duplication == (1,)
    assert sweep.texts.source == "builtin"
    assert (sweep.engine.kind, sweep.measure.repeats) == ("vllm", 3)
    assert sweep.measure.cache_state == ("cold",)


def test_axis_scalar() -> None:
    """One value stands for a list of one."""
    assert _parse(grid={"n": 4}).grid.n == _parse(grid={"n": [4]}).grid.n == (4,)


def test_axis_list() -> None:
    """A list keeps its order."""
    assert _parse(grid={"n": [40, 4]}).grid.n == (40, 4)


def test_axis_of_engine_settings() -> None:
    """Every engine setting may be an axis."""
    assert _parse(engine={"max_num_seqs": [8, 16]}).engine.max_num_seqs == (8, 16)


@pytest.mark.parametrize("name", ["tensor_parallel_size", "pipeline_parallel_size"])
@pytest.mark.parametrize("size", [0, 65, True, "2"])
def test_parallel_size_refused(name: str, size: object) -> None:
    """An engine has one GPU or several of one host, and no host has more than 64."""
    with pytest.raises(SpecError, match=f"engine.{name}"):
        _parse(engine={name: size})


def test_json_setting_has_one_spelling() -> None:
    """Two spellings of one JSON object are one value, so they name one cell."""
    loose = _parse(engine={"compilation_config": '{"mode":3,  "custom_ops": ["+rms_norm"]}'})
    tight = _parse(engine={"compilation_config": '{"custom_ops":["+rms_norm"],"mode":3}'})
    assert loose == tight
    assert loose.engine.compilation_config == ('{"custom_ops": ["+rms_norm"], "mode": 3}',)


def test_override_toml_value(tmp_path: Path) -> None:
    """An override is read as TOML."""
    assert _load(tmp_path, "", "grid.n=[4, 40]").grid.n == (4, 40)


def test_override_plain_text(tmp_path: Path) -> None:
    """What is no TOML is plain text, so a name needs no quotes; it may hold an equals sign."""
    assert _load(tmp_path, "", "model.name=org/a=b").model.name == "org/a=b"


def test_override_new_table(tmp_path: Path) -> None:
    """An override may name a table that the file does not have."""
    assert _load(tmp_path, "", "measure.repeats=7").measure.repeats == 7


def test_override_last_wins(tmp_path: Path) -> None:
    """The last of two overrides of one key holds."""
    assert _load(tmp_path, "", "grid.n=1", "grid.n=2").grid.n == (2,)


@pytest.mark.parametrize("form", ["grid.n", "n=4", "grid.n.x=4", "=4", "grid.=4", ".n=4", ""])
def test_override_wrong_form(tmp_path: Path, form: str) -> None:
    """An override that is no table.key=value is refused with an example."""
    with pytest.raises(SpecError, match=r"expected table\.key=value, e\.g\."):
        _load(tmp_path, "", form)


def test_override_of_no_table(tmp_path: Path) -> None:
    """An override into something that is no table is refused."""
    path = tmp_path / "s.toml"
    path.write_text("model = 3", encoding="utf-8")
    assert _refusal(path, "model.name=x") == "--set model.name=x: model is not a table"


def test_override_unknown_key(tmp_path: Path) -> None:
    """A key is checked wherever it came from."""
    (tmp_path / "s.toml").write_text(SMALL, encoding="utf-8")
    said = _refusal(tmp_path / "s.toml", "engine.max_num_seq=4")
    assert "engine.max_num_seq: unknown key; did you mean engine.max_num_seqs?" in said


TOML_VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="ascii", exclude_categories=["Cc"])),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(TOML_VALUES)
def test_override_round_trip(value: object) -> None:
    """A value written as TOML is read as itself."""
    text = json.dumps(value)  # JSON's values without null are TOML's
    assert read._toml_value(text, text_only=False) == value


@given(
    n=st.lists(st.integers(1, 10**6), min_size=1, max_size=4),
    repeats=st.integers(1, 10**6),
    seed=st.none() | st.integers(-(10**6), 10**6),
    share=st.floats(0.01, 1.0),
)
def test_parse_round_trip(n: list[int], repeats: int, seed: int | None, share: float) -> None:
    """What a sweep file says, taken apart into JSON values and read again, is the same sweep."""
    sweep = _parse(
        grid={"n": n},
        texts={"seed": seed},
        engine={"gpu_memory_utilization": share},
        measure={"repeats": repeats},
    )
    again = json.loads(sweep.model_dump_json(exclude_defaults=True))
    assert read.parse(again, where="f.toml") == sweep


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"engine": {"max_num_seq": 8}}, "engine.max_num_seq: unknown key; did you mean"),
        ({"engine": {"repeats": 8}}, "engine.repeats: unknown key; did you mean measure.repeats?"),
        ({"measure": {"zzz": 8}}, "measure.zzz: unknown key; measure knows cache_state, ignore"),
        ({"engin": {}}, "engin: unknown table; did you mean engine?"),
        ({"zzz": {}}, "zzz: unknown table; known are cost, engine, grid, limits"),
        ({"grid": {}}, "grid.n: is missing"),
        ({"grid": {"n": 0}}, "grid.n: 0 is not allowed"),
        ({"grid": {"n": [4, -1]}}, "grid.n: -1 is not allowed"),
        ({"grid": {"n": "4"}}, "grid.n: '4' is not allowed"),
        ({"grid": {"n": 4.0}}, "grid.n: 4.0 is not allowed"),
        ({"grid": {"n": True}}, "grid.n: true is not allowed"),
        ({"grid": {"n": []}}, "grid.n: "),
        ({"grid": {"n": 4, "strategy": "pack"}}, "grid.strategy: 'pack' is not allowed"),
        ({"measure": {"repeats": [3]}}, "measure.repeats: [3] is not allowed"),
        ({"measure": {"ignore_eos": 1}}, "measure.ignore_eos: 1 is not allowed"),
        ({"engine": {"gpu_memory_utilization": 1.5}}, "engine.gpu_memory_utilization: 1.5 is not"),
        (
            {"engine": {"compilation_config": "mode=3"}},
            "engine.compilation_config: 'mode=3' is not",
        ),
        ({"engine": {"compilation_config": "3"}}, "engine.compilation_config: '3' is not allowed"),
        ({"engine": 3}, "engine: should be a table [engine], not 3"),
        ({"simulated": {"device": "H999"}, "engine": {"kind": "simulated"}}, "simulated.device: "),
    ],
)
def test_parse_refusal(tables: dict[str, Any], expected: str) -> None:
    """A bad value is one line with the file, the key, the value and what is known."""
    assert _parse_refusal(**tables).startswith(f"f.toml: {expected}")


def _keys_of_texts() -> list[str]:
    """Return the keys of docs/KEYS.md that take any text."""
    tables = re.split(r"^## `\[(\w+)\]`$", keys.to_markdown(), flags=re.MULTILINE)[1:]
    return [
        f"{table}.{key}"
        for table, rows in zip(tables[::2], tables[1::2], strict=True)
        for key in re.findall(r"^\| `(\w+)` \| text \|", rows, re.MULTILINE)
    ]


@pytest.mark.parametrize("name", sorted({*_keys_of_texts()} - {"task.system", "task.label_column"}))
def test_parse_empty_text(name: str) -> None:
    """No key takes an empty text but two, to which it means something."""
    table, key = name.split(".")
    own = {"name": "m"} if table == "model" else {}
    assert _parse_refusal(**{table: {**own, key: ""}}).startswith(f"f.toml: {name}: ")


def test_parse_misspelt_needed_key() -> None:
    """A misspelt key is named before the key that is missing because of it."""
    said = _parse_refusal(model={"nam": "m"})
    assert said == "f.toml: model.nam: unknown key; did you mean model.name? (and 1 more)"


@pytest.mark.parametrize("table", sorted(set(spec.Sweep.model_fields) - {"mode", "variant"}))
@given(key=st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12))
def test_parse_any_unknown_key(table: str, key: str) -> None:
    """No table takes a key that it does not know, whatever it is called."""
    known: Any = spec.Sweep.model_fields[table].annotation
    if key not in known.model_fields:
        needed: dict[str, dict[str, Any]] = {"model": {"name": "m"}, "grid": {"n": 4}}
        assert f"f.toml: {table}.{key}: unknown key" in _parse_refusal(
            **{table: {**needed.get(table, {}), key: 1}}
        )


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"grid": {"n": 4, "strategy": "chunked"}}, "grid.pack_size: is missing"),
        ({"grid": {"n": 4, "pack_size": 2}}, "grid.pack_size: has no effect"),
        (
            {"engine": {"enable_prefix_caching": False}},
            "engine.enable_prefix_caching: false contradicts measure.cache_state cold",
        ),
        (
            {"engine": {"enable_prefix_caching": True}, "measure": {"cache_state": "off"}},
            "engine.enable_prefix_caching: true contradicts measure.cache_state off",
        ),
        ({"simulated": {"mfu": 0.1}}, "simulated: has no effect without engine.kind"),
    ],
)
def test_parse_contradiction(tables: dict[str, Any], expected: str) -> None:
    """Two keys that contradict each other are refused with both names."""
    assert expected in _parse_refusal(**tables)


def test_load_missing_file(tmp_path: Path) -> None:
    """A file that is not there is answered with the nearest name."""
    (tmp_path / "quick.toml").touch()
    said = _refusal(tmp_path / "quikc.toml")
    assert said.endswith(f"quikc.toml: no such sweep file; did you mean {tmp_path}/quick.toml?")


def test_load_missing_file_of_sweeps(tmp_path: Path) -> None:
    """Sweeps lie in a folder of that name, which is easily left out."""
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "quick.toml").touch()
    said = _refusal(tmp_path / "quick.toml")
    assert said.endswith(f"no such sweep file; did you mean {tmp_path}/sweeps/quick.toml?")


@pytest.mark.parametrize(("name", "hint"), [("QUICK", "quick.toml"), ("nosuch.toml", None)])
def test_load_missing_file_is_compared_by_name_alone(
    tmp_path: Path, name: str, hint: str | None
) -> None:
    """The ending that all sweep files share makes none alike."""
    (tmp_path / "quick.toml").write_text(SMALL, encoding="utf-8")
    said = _refusal(tmp_path / name)
    expected = f"; did you mean {tmp_path}/{hint}?" if hint else ""
    assert said == f"{tmp_path / name}: no such sweep file{expected}"


def test_load_missing_folder(tmp_path: Path) -> None:
    """Nothing is near in a folder that is not there."""
    assert _refusal(tmp_path / "no" / "a.toml").endswith("a.toml: no such sweep file")


def test_load_folder(tmp_path: Path) -> None:
    """A folder is not a sweep file."""
    assert "is a folder" in _refusal(tmp_path)


def test_load_under_file(tmp_path: Path) -> None:
    """A path through a file cannot be read."""
    (tmp_path / "a").touch()
    assert "cannot be read: Not a directory" in _refusal(tmp_path / "a" / "b.toml")


def test_load_not_utf8(tmp_path: Path) -> None:
    """Other encodings are refused with the first wrong byte."""
    (tmp_path / "s.toml").write_bytes(b"# \xff")
    assert _refusal(tmp_path / "s.toml").endswith("is not UTF-8 text (byte 2)")


def test_load_invalid_toml(tmp_path: Path) -> None:
    """Broken TOML is refused with its line."""
    (tmp_path / "s.toml").write_text("[model\n", encoding="utf-8")
    assert "is not valid TOML: " in _refusal(tmp_path / "s.toml")


def test_sweep_immutable() -> None:
    """A sweep that was read does not change."""
    with pytest.raises(ValueError, match="frozen"):
        _parse().model.name = "other"


@pytest.mark.parametrize(
    ("name", "num_cells"), [("seed.toml", 12), ("quick.toml", 6), ("tensor_parallel.toml", 12)]
)
def test_shipped_sweep(name: str, num_cells: int) -> None:
    """The sweeps that are shipped can be read and have the promised number of cells."""
    sweep = read.load(SWEEPS / name)
    rows = texts.load("builtin", limit=max(sweep.grid.n))
    chat = ChatTemplate(text="{{ messages[0].content }}")
    cells = expansion.expand(
        sweep,
        rows,
        model_fingerprint="x",
        max_model_len=131072,
        chat=chat,
        cutter=lambda found, _: tuple(found),
    )
    assert len({cell.cell_id for cell in cells}) == num_cells


# Variants.


def test_variant_is_the_sweep_with_its_own_values(tmp_path: Path) -> None:
    """What a variant does not name is the file's; what it names is its own alone."""
    more = """
[engine]
max_num_seqs = 8

[[variant]]
engine.quantization = "fp8"

[[variant]]
grid.strategy = "separate"
measure.repeats = 5
"""
    sweep = _load(tmp_path, more)
    base, fp8, other = sweep.all
    assert (base.engine.quantization, fp8.engine.quantization) == ((None,), ("fp8",))
    assert [each.engine.max_num_seqs for each in sweep.all] == [(8,)] * 3
    assert (other.grid.strategy, other.measure.repeats, other.grid.n) == (("separate",), 5, (4,))


def test_variant_of_how_much_of_a_text(tmp_path: Path) -> None:
    """How much of each text is sent may vary within a file; where the texts come from may not."""
    sweep = _load(tmp_path, "\n[[variant]]\ntexts.max_tokens = [128, 256]\n")
    assert [each.texts.max_tokens for each in sweep.all] == [(0,), (128, 256)]


def test_variant_obeys_overrides(tmp_path: Path) -> None:
    """What is set on the command line holds everywhere, as for any value of the file."""
    more = "\n[[variant]]\nengine.max_num_seqs = 4\n"
    sweep = _load(tmp_path, more, "engine.max_num_seqs=2")
    assert [each.engine.max_num_seqs for each in sweep.all] == [(2,), (2,)]


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ([{"engine": {"max_num_seq": 1}}], "variant 1: engine.max_num_seq: unknown key"),
        ([{}, {"model": {"name": "x"}}], "variant 2: model cannot be varied"),
        ([{"engine": {"kind": "simulated"}}], "variant 1: engine.kind: must be the same"),
        (
            [{"texts": {"source": "x"}}],
            "variant 1: texts.source: must be the same for the whole sweep",
        ),
        (
            [{"measure": {"isolation": "engine"}}],
            "variant 1: measure.isolation: must be the same for the whole sweep",
        ),
        ([{"measure": {"order_seed": 1}}], "variant 1: measure.order_seed: must be the same"),
        ([{"online": {"api_key_env": "K"}}], "variant 1: online.api_key_env: must be the same"),
        ([{"grid": 3}], "variant 1: grid cannot be varied"),
        ([3], "variant 1: 3 cannot be varied"),
        ({"grid": {"n": 3}}, r"write \[\[variant\]\]"),
        ([{"grid": {"strategy": "chunked"}}], "variant 1: grid.pack_size: is missing"),
    ],
)
def test_variant_refusals(variant: Any, message: str) -> None:
    """One line with the variant's number."""
    assert re.search(message, _parse_refusal(variant=variant))


CHUNKED = {"n": 4, "strategy": ["separate", "chunked"], "pack_size": [4], "format": "json"}


@pytest.mark.parametrize(
    ("tables", "variant", "expected"),
    [
        (
            {"grid": CHUNKED},
            {"grid": {"strategy": "separate"}},
            {"pack_size": (), "format": ("lines",)},
        ),
        (
            {"grid": CHUNKED | {"answer": ["choice", "logprob"]}},
            {"grid": {"answer": "logprob"}},
            {"pack_size": (4,), "format": ("lines",)},
        ),
        (
            {"grid": CHUNKED | {"answer": ["choice", "logprob"]}},
            {"grid": {"strategy": "chunked"}},
            {"answer": ("choice",)},
        ),
        (
            {"grid": {"n": 4, "output_tokens_per_text": 3}},
            {"grid": {"answer": "choice"}},
            {"output_tokens_per_text": (1,)},
        ),
        (
            {"grid": {"n": 4}, "engine": {"enable_prefix_caching": True}},
            {"measure": {"cache_state": "off"}},
            {},
        ),
    ],
)
def test_variant_drops_what_it_inherits_and_has_no_effect(
    tables: dict[str, Any], variant: dict[str, Any], expected: dict[str, Any]
) -> None:
    """What the file says of the grid and the variant makes pointless is no fault of the variant."""
    (found,) = _parse(**tables, variant=[variant]).variant
    assert {name: getattr(found.grid, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        ({"strategy": "separate", "pack_size": [4]}, "grid.pack_size: has no effect without"),
        ({"strategy": "separate", "format": "json"}, "grid.format: has no effect with one text"),
        ({"strategy": "packed", "answer": "logprob"}, "grid.answer: logprob labels one text"),
    ],
)
def test_variant_is_refused_what_it_says_itself(variant: dict[str, Any], told: str) -> None:
    """What the user wrote in the variant and has no effect is a slip."""
    said = _parse_refusal(grid={"n": 4, "strategy": "packed"}, variant=[{"grid": variant}])
    assert said.startswith(f"f.toml: variant 1: {told}")


def test_variant_without_any_answer_left_is_refused() -> None:
    """A strategy with many texts a prompt leaves nothing of logprob alone."""
    grid = {"n": 4, "strategy": "separate", "answer": "logprob"}
    said = _parse_refusal(grid=grid, variant=[{"grid": {"strategy": "packed"}}])
    assert said.startswith("f.toml: variant 1: grid.answer: logprob labels one text per prompt")


def test_variants_add_their_cells_and_none_twice() -> None:
    """Two cells of the file, one more of the first variant, none of a variant that says nothing."""
    changed = {"grid": {"strategy": "separate"}, "engine": {"quantization": "fp8"}}
    sweep = _parse(variant=[changed, {}])
    rows = [texts.LabelledText(text=f"text {i}", label="positive") for i in range(4)]
    cells = expansion.expand(sweep, rows, model_fingerprint="m", max_model_len=100)
    found = [(cell.strategy, cell.settings["quantization"]) for cell in cells]
    assert found == [("packed", None), ("separate", None), ("separate", "fp8")]


def test_variant_with_more_reviews_needs_them() -> None:
    sweep = _parse(variant=[{"grid": {"n": 5}}])
    rows = [texts.LabelledText(text=f"text {i}", label="positive") for i in range(4)]
    with pytest.raises(TextsError, match="5 is more than the 4"):
        expansion.expand(sweep, rows, model_fingerprint="m", max_model_len=100)
