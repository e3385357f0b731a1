"""label.py of a measured cell, run on the real engine, gives that cell's labels."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.engine_sweep import run, write_sweep

import packsweep
from packsweep.analysis import frames
from packsweep.machine import processor
from packsweep.machine.environment import engine_environ, on_cpu
from packsweep.report import deploy
from packsweep.results.store import Store
from packsweep.sweep import texts

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]

NUM_TEXTS = 12


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one cell: a chat prompt of 5 texts, constrained answers."""
    folder = tmp_path_factory.mktemp("label")
    grid = 'template = "chat"\nanswer = "choice"\npack_size = 5\n[engine]'
    path = write_sweep(folder, strategy='"chunked"', n=str(NUM_TEXTS), duplication="1")
    path.write_text(path.read_text(encoding="utf-8").replace("[engine]", grid), encoding="utf-8")
    done = run("run", str(path), "--results", str(folder / "results"))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "results"


def labels_of_script(folder: Path, source: Path) -> list[str | None]:
    """Run the script in ``folder`` without packsweep; return the labels that it wrote.

    How an engine on the CPU is laid out it has to say itself.
    """
    own = {"PYTHONPATH", *processor.one_process({})}
    outside = {name: value for name, value in engine_environ().items() if name not in own}
    done = subprocess.run(
        [sys.executable, str(folder / "label.py"), str(source), str(folder / "out")],
        env={**os.environ, **outside},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if on_cpu():
        assert not re.search(r"\(EngineCore\w* pid=", done.stdout + done.stderr)
    found: list[str | None] = pq.read_table(folder / "out")["label"].to_pylist()
    return found


def test_script_gives_the_labels_of_its_cell(results: Path, tmp_path: Path) -> None:
    (row,) = frames.summarise(frames.to_pandas(Store(results).read_passes()))
    deploy.write(row, tmp_path)
    source = tmp_path / "texts.parquet"
    given = texts.load("builtin", limit=NUM_TEXTS)
    pq.write_table(pa.table({"text": [each.text for each in given]}), source)
    measured = packsweep.load(results, "labels")["found"].tolist()
    assert labels_of_script(tmp_path, source) == measured
    assert len(measured) == NUM_TEXTS


PARSE = r"""
import shlex, sys
from pathlib import Path

from vllm.utils.argparse_utils import FlexibleArgumentParser

try:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
except ImportError:
    from vllm.entrypoints.openai.cli_args import make_arg_parser

command = Path(sys.argv[1]).read_text().partition("exec ")[2].replace("\\\n", " ")
words = shlex.split(command.replace('"$@"', ""))
options = words[3:] if words[0] == "python" else words[2:]
parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(options)
print(parsed.max_num_seqs)
"""


def test_options_of_serve_are_vllms(results: Path, tmp_path: Path) -> None:
    (row,) = frames.summarise(frames.to_pandas(Store(results).read_passes()))
    deploy.write(row, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(tmp_path / "serve.sh")],
        env={**os.environ, **engine_environ()},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "64"
    # By the command itself: the one called vllm ends at once where the package is vLLM's CPU build.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    helped = subprocess.run(
        ["sh", str(tmp_path / "serve.sh"), "--help"],
        env={**os.environ, **engine_environ(), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert helped.returncode == 0, helped.stderr
    assert "usage: " in helped.stdout
