"""The files of a recommended cell: they ask and read as the cell did, and resume."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fakes import REVIEWS, pass_row, sweep

from packsweep.errors import ResultsError
from packsweep.machine import processor
from packsweep.models import resolve, tokenizer
from packsweep.plan import cells as plan_cells
from packsweep.report import deploy
from packsweep.results.schema import Row
from packsweep.run.measure import scoring
from packsweep.sweep import expansion, prompts
from packsweep.sweep.cells import Cell

TICKETS = {
    "name": "mine",
    "labels": ["billing", "bug report", "other"],
    "instruction": "Which team? Answer only {labels}.",
}


def cells_of(model: Path, **tables: Any) -> tuple[Cell, ...]:
    found = resolve.resolve(str(model), load_format="dummy")
    return expansion.expand(
        sweep(model={"name": str(model), "load_format": "dummy"}, **tables),
        REVIEWS,
        model_fingerprint=found.fingerprint,
        max_model_len=1000,
    )


def loaded(row: Row, folder: Path) -> ModuleType:
    """Return the script that is written for a row, imported."""
    deploy.write(row, folder)
    return imported(folder / "label.py")


def imported(path: Path) -> ModuleType:
    name = f"emitted_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Output:
    """What vLLM gives back for a prompt."""

    finish_reason = "stop"

    def __init__(self, text: str) -> None:
        self.text = text


CHUNKED = {"strategy": "chunked", "pack_size": 4}
WAYS = (
    {"strategy": "separate"},
    {"strategy": "packed"},
    CHUNKED | {"instruction": "before"},
    CHUNKED | {"format": "numbered", "answer": "choice"},
    CHUNKED | {"format": "json", "label_form": "letters"},
)


@pytest.mark.parametrize(
    ("grid", "task"),
    [
        *((grid, task) for grid in WAYS for task in ({}, TICKETS)),
        (CHUNKED | {"template": "short"}, {}),
    ],
)
def test_script_asks_and_reads_as_the_cell_does(
    byte_model: Path, tmp_path: Path, grid: dict[str, Any], task: dict[str, Any]
) -> None:
    if task and grid.get("template") == "short":
        pytest.skip("short exists for the sentiment question only")
    (cell,) = cells_of(byte_model, grid={"n": 12, **grid}, task=task)
    script = loaded(pass_row(cell), tmp_path)
    built, own = script.prompts([text.text for text in REVIEWS]), cell.build_prompts(REVIEWS)
    assert [(each.text, each.num_texts) for each in built] == [
        (each.text, each.num_texts) for each in own
    ]
    answer = "1. bug report\n2. other\nnegative, 3. A"
    read = script.read([(built[0], Output(answer))])
    expected = [None] * built[0].num_texts
    assert list(read) == list(
        scoring.score(answer, expected, cut=False, read_by=scoring.reader(cell)).labels
    )


def test_script_constrains_answers_as_the_engine_did(byte_model: Path, tmp_path: Path) -> None:
    (cell,) = cells_of(
        byte_model, grid={"n": 5, "strategy": "chunked", "pack_size": 2, "answer": "choice"}
    )
    script = loaded(pass_row(cell), tmp_path)
    whole, _, rest = script.prompts([text.text for text in REVIEWS[:5]])
    assert script.constraint(whole) == {
        "structured_outputs": {"regex": "(positive|negative)(\\n(positive|negative)){1}"}
    }
    assert script.constraint(rest) == {"structured_outputs": {"choice": ["positive", "negative"]}}
    assert script.max_tokens(rest) == cell.output_tokens_per_text


def test_script_chooses_among_the_tokens_that_the_engine_did(
    byte_model: Path, tmp_path: Path
) -> None:
    letters = {"n": 2, "strategy": "separate", "answer": "choice", "label_form": "letters"}
    made = plan_cells.make(
        sweep(model={"name": str(byte_model), "load_format": "dummy"}, grid=letters)
    )
    script = loaded(pass_row(made.cells[0].cell), tmp_path)
    (prompt,) = script.prompts(["a text"])
    tokens = tokenizer.load(made.model).encode(["A", "B"])
    assert script.constraint(prompt) == {"allowed_token_ids": [ids[0] for ids in tokens]}
    assert script.max_tokens(prompt) == 1
    assert script.read([(prompt, Output("B"))]) == ["negative"]


class FakeLabeller:
    """Labels a text by its length, and counts the calls."""

    def __init__(self, limit: int = 100) -> None:
        self.calls = 0
        self._limit = limit

    def __call__(self, _model: str | None) -> FakeLabeller:
        return self

    def label(self, texts: Sequence[str]) -> list[tuple[str | None, str | None]]:
        if self.calls == self._limit:
            raise KeyboardInterrupt
        self.calls += 1
        return [(f"{len(text)}", "answer") if text else (None, None) for text in texts]


def run(script: Any, *arguments: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["label.py", *map(str, arguments)])
    script.main()


@pytest.fixture
def script(byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (cell,) = cells_of(byte_model, grid={"n": 4, "strategy": "separate"})
    module = loaded(pass_row(cell), tmp_path / "deploy")
    monkeypatch.setattr(module, "SHARD_TEXTS", 4)
    return module


def test_script_resumes_where_it_stopped(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = tmp_path / "texts.csv"
    texts.write_text("id,text\n" + "".join(f"{i},{'x' * i}\n" for i in range(10)), encoding="utf-8")
    first = FakeLabeller(limit=2)
    monkeypatch.setattr(script, "Labeller", first)
    with pytest.raises(KeyboardInterrupt):
        run(script, texts, tmp_path / "out", monkeypatch=monkeypatch)
    again = FakeLabeller()
    monkeypatch.setattr(script, "Labeller", again)
    run(script, texts, tmp_path / "out", monkeypatch=monkeypatch)
    assert (first.calls, again.calls) == (2, 1)
    rows = pq.read_table(tmp_path / "out").to_pylist()  # as one data set
    assert [row["row"] for row in rows] == list(range(10))
    assert [row["label"] for row in rows] == [None, *(str(i) for i in range(1, 10))]


def test_parts_share_the_files_out(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = tmp_path / "texts.jsonl"
    lines = [json.dumps({"body": f"text {i}"}) for i in range(12)]
    texts.write_text("\n".join(lines), encoding="utf-8")
    for part, expected in (("1/2", 1), ("0/2", 3)):
        monkeypatch.setattr(script, "Labeller", FakeLabeller())
        run(script, texts, tmp_path / "out", "--part", part, monkeypatch=monkeypatch)
        assert len(list((tmp_path / "out").glob("*.parquet"))) == expected


def test_a_folder_of_another_input_is_refused(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "Labeller", FakeLabeller())
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("one\ntwo\n", encoding="utf-8")
    run(script, tmp_path / "a.txt", tmp_path / "out", monkeypatch=monkeypatch)
    with pytest.raises(SystemExit) as stopped:
        run(script, tmp_path / "b.txt", tmp_path / "out", monkeypatch=monkeypatch)
    assert stopped.value.code == 2
    assert "holds labels of another input" in capsys.readouterr().err


def test_a_column_that_is_not_there_is_one_line(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.csv").write_text("id,words\n1,hello\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        run(script, tmp_path / "a.csv", tmp_path / "out", monkeypatch=monkeypatch)
    assert capsys.readouterr().err == (
        "label.py: which column holds the texts? --column id or words\n"
    )


@pytest.mark.parametrize(
    ("header", "named", "column"),
    [
        ("id,words,text", "words", "words"),
        ("id,Message", None, "Message"),
        ("text,body", None, "text"),
    ],
)
def test_column_is_that_of_the_sweep_or_has_a_usual_name(
    byte_model: Path, tmp_path: Path, header: str, named: str | None, column: str
) -> None:
    (cell,) = cells_of(byte_model, grid={"n": 4, "strategy": "separate"})
    deploy.write(pass_row(cell), tmp_path, text_column=named)
    script = imported(tmp_path / "label.py")
    row = ",".join(f"<{name}>" for name in header.split(","))
    (tmp_path / "a.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    assert list(script.read_texts(tmp_path / "a.csv", None)) == [f"<{column}>"]
    written = (tmp_path / "ray_data.py").read_text(encoding="utf-8")
    assert f'COLUMN = "{named or "text"}"\n' in written


@pytest.mark.parametrize("between", [",", ";", "\t", "|"])
def test_columns_of_any_delimiter(script: ModuleType, tmp_path: Path, between: str) -> None:
    rows = [["id", "text"], ["1", "hello"], ["2", ""]]
    content = "".join(f"{between.join(row)}\n" for row in rows)
    (tmp_path / "a.csv").write_text(content, encoding="utf-8-sig")
    assert list(script.read_texts(tmp_path / "a.csv", None)) == ["hello", ""]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.bz2", "a.CSV.XZ", "a.csv.zst"])
def test_label_script_reads_compressed_files(script: ModuleType, tmp_path: Path, name: str) -> None:
    """What a sweep may have measured can be labelled as it is."""
    content = b'text,label\n"hello, world",a\n'
    compress: dict[str, Callable[[bytes], bytes]] = {
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "XZ": lzma.compress,
        "zst": lambda plain: pa.compress(plain, codec="zstd", asbytes=True),
    }
    (tmp_path / name).write_bytes(compress[name.rsplit(".", 1)[1]](content))
    assert list(script.read_texts(tmp_path / name, None)) == ["hello, world"]


@pytest.mark.parametrize(
    "content", ['{"text": "a"}\n\n{"text": "b"}\n', '[{"text": "a"},\n {"text": "b"}]\n']
)
def test_label_script_reads_json(script: ModuleType, tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    assert list(script.read_texts(tmp_path / "a.json", None)) == ["a", "b"]


def test_control_tokens_are_broken_up(script: ModuleType) -> None:
    script.SETTINGS["control_tokens"] = ["<|im_end|>"]
    script.SETTINGS["cut"] = {"markup": "strip", "max_tokens": 0, "keep": "head"}
    assert script.shorten("so &lt;|im_end|&gt;<br>so", None) == "so < |im_end|> so"


def test_files_are_whole_prompts_of_texts(script: ModuleType) -> None:
    script.SETTINGS["asking"]["pack_size"] = 3
    assert script.shard_size() == 3


def test_serve_names_every_setting_as_vllm_does() -> None:
    text = deploy.serve(
        {
            "environ": {},
            "in_process": False,
            "engine": {
                "model": "my/model",
                "max_num_seqs": 64,
                "enforce_eager": True,
                "enable_prefix_caching": False,
                "compilation_config": {"mode": 3},
            },
        }
    )
    assert "exec vllm serve my/model \\\n  --max-num-seqs 64 \\\n  --enforce-eager \\\n" in text
    assert "--no-enable-prefix-caching" in text
    assert "--compilation-config '{\"mode\": 3}'" in text


def in_process(cell: Cell, **values: str) -> Row:
    """Return a row that an engine on the CPU measured in one process."""
    resolved = json.dumps({"in_process": True, "num_threads": 2})
    return pass_row(cell, engine_resolved=resolved, environ=json.dumps(values))


def test_script_lays_an_engine_on_the_cpu_out_as_it_was_measured(
    byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = cells_of(byte_model, grid={"n": 2, "strategy": "separate"})
    script = loaded(in_process(cell, VLLM_CPU_KVCACHE_SPACE="1"), tmp_path)
    environ = {"HOME": "/home"}
    monkeypatch.setattr(os, "environ", environ)
    script.set_environment()
    threads = str(processor.num_threads())
    assert environ == {
        "HOME": "/home",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": threads,
    }
    own = {"VLLM_CPU_OMP_THREADS_BIND": "0-1"}
    monkeypatch.setattr(os, "environ", own)
    script.set_environment()
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in own  # a user's own layout stays


def test_script_of_a_gpu_sets_no_layout(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environ)
    script.set_environment()
    assert environ == {"VLLM_NO_USAGE_STATS": "1"}


def test_server_on_a_cpu_computes_with_all_cores(byte_model: Path, tmp_path: Path) -> None:
    (cell,) = cells_of(byte_model, grid={"n": 2, "strategy": "separate"})
    text = deploy.serve(deploy.settings_of(in_process(cell, VLLM_X="it's; $HOME")))
    lines = text[: text.index("exec ")] + 'echo "$VLLM_X $OMP_NUM_THREADS"\n'
    (tmp_path / "exports.sh").write_text(lines, encoding="utf-8")
    given = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "7"}
    done = subprocess.run(
        ["sh", str(tmp_path / "exports.sh")], env=given, capture_output=True, text=True, check=True
    )
    assert done.stdout == "it's; $HOME 7\n"  # what is set already stays
    assert "export VLLM_CPU_OMP_THREADS_BIND=nobind\n" in text
    # The command vllm of the CPU build ends with "No package metadata was found for vllm".
    assert f"exec python -m vllm.entrypoints.openai.api_server --model {byte_model} \\\n" in text


def test_ray_data_is_python_for_so_many_engines() -> None:
    text = deploy.ray_data(8)
    compile(text, "ray_data.py", "exec")
    assert "NUM_ENGINES = 8" in text


@pytest.mark.parametrize(("num_gpus", "num_engines"), [(None, 1), (2, 1), (5, 2), (8, 4)])
def test_engines_over_two_gpus_take_two_each(
    byte_model: Path, tmp_path: Path, num_gpus: int | None, num_engines: int
) -> None:
    (cell,) = cells_of(
        byte_model,
        grid={"n": 2, "strategy": "separate"},
        engine={"kind": "vllm", "tensor_parallel_size": 2},
    )
    row = pass_row(cell, num_gpus=2, engine_resolved="{}")
    deploy.write(row, tmp_path, num_gpus=num_gpus)
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert f"NUM_ENGINES = {num_engines}\n" in written["ray_data.py"]
    assert "--tensor-parallel-size 2 \\\n" in written["serve.sh"]
    assert "'tensor_parallel_size': 2," in written["label.py"]


TWO = {"name": "t", "labels": ["ab", "cd"], "instruction": "{labels}?"}
ALIKE = TWO | {"labels": ["ab", "ac", "x"]}
SEPARATE = {"n": 2, "strategy": "separate", "answer": "logprob"}


def ray_data_of(folder: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the emitted ray_data.py, imported with stand-ins for Ray."""
    llm = SimpleNamespace(vLLMEngineProcessorConfig=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ray.data", SimpleNamespace(llm=llm))
    monkeypatch.setitem(sys.modules, "label", script)
    return imported(folder / "ray_data.py")


def test_ray_data_gives_the_likeliest_label_of_logprob(
    byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = cells_of(byte_model, grid=SEPARATE, task=TWO)
    script = loaded(pass_row(cell), tmp_path)
    module = ray_data_of(tmp_path, script, monkeypatch)
    backend = tokenizer.load(resolve.resolve(str(byte_model), load_format="dummy"))
    monkeypatch.setattr(module, "tokenizer", lambda: SimpleNamespace(encode=lambda *_, **__: [1]))
    asked = module.ask({"text": ["one", "two"]})
    a, c = (ids[0] for ids in backend.encode(["a", "c"]))
    assert asked["texts"] == [["one"], ["two"]]
    assert (
        asked["sampling_params"]
        == [{"temperature": 0.0, "max_tokens": 1, "allowed_token_ids": [a, c]}] * 2
    )
    read = module.read({"texts": ["one"], "generated_tokens": [c]})
    assert read == {"texts": ["one"], "labels": ["cd"]}


def test_labels_that_begin_alike_have_no_ray_data(byte_model: Path, tmp_path: Path) -> None:
    (cell,) = cells_of(byte_model, grid=SEPARATE, task=ALIKE)
    written = deploy.write(pass_row(cell), tmp_path / "deploy")
    assert [path.name for path in written] == ["label.py", "serve.sh"]


def test_another_model_than_measured_is_refused(byte_model: Path, tmp_path: Path) -> None:
    (cell,) = cells_of(byte_model, grid={"n": 4, "strategy": "separate"})
    row = pass_row(cell) | {"model_fingerprint": "other"}
    with pytest.raises(ResultsError, match="is not the model that was measured"):
        deploy.write(row, tmp_path / "deploy")
    assert not (tmp_path / "deploy").exists()


def test_script_asks_by_every_axis_of_a_prompt(byte_model: Path) -> None:
    """What words the prompts that are measured words those of the script, a new axis as well."""
    (cell,) = cells_of(byte_model)
    settings = deploy.settings_of(pass_row(cell))
    assert set(settings["asking"]) == {field.name for field in fields(prompts.Asking)}
