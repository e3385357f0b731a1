"""The command line as a user meets it: refusals, a whole sweep, resuming, what it prints."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from tests.fakes import Cli, cell, killed_at_end, written

from packsweep import cli as command_line
from packsweep.results.store import Store
from packsweep.version import __version__

ROOT = Path(__file__).resolve().parents[2]
ONE_CELL = ("--set", "grid.strategy=packed", "--set", "grid.duplication=1")
Done = subprocess.CompletedProcess[str]
FirstRun = tuple[Path, Done]


def _python(code: str, *arguments: object, cwd: Path) -> Done:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def _start(*arguments: object, cwd: Path, stdin: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "packsweep", *map(str, arguments)],
        cwd=cwd,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Starting.


def test_help(shell: Cli, tmp_path: Path) -> None:
    """--help names every command."""
    done = shell("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in ("plan", "run", "show", "merge", "report"):
        assert f"\n  {command} " in done.stdout
    headings = [line for line in done.stdout.splitlines() if line[:1].isupper()]
    assert headings[2:] == ["Measure:", "Read results:", "Check:"]


@pytest.mark.parametrize("group", [(), ("calc",)])
def test_help_is_not_cut(group: tuple[str, ...], cli: Cli, tmp_path: Path) -> None:
    """What a command does stands whole in the list of commands, however narrow the terminal."""
    usage, _, rest = cli(*group, "-h", cwd=tmp_path, COLUMNS="80").stdout.partition("\n")
    assert usage.endswith("COMMAND [ARGS]...")
    assert "..." not in rest


@pytest.mark.parametrize(("columns", "expected"), [("80", 80), ("99", 99), ("200", 100)])
def test_help_width(columns: str, expected: int, cli: Cli, tmp_path: Path) -> None:
    """--help takes the width of the terminal, up to 100 columns, less a margin of two."""
    lines = cli("run", "--help", cwd=tmp_path, COLUMNS=columns).stdout.splitlines()
    assert expected - 10 < max(map(len, lines)) <= expected - 2


def test_help_light(tmp_path: Path) -> None:
    """--help answers at once: it loads hardly more than the library that reads the arguments."""
    count = "import sys; print(len([n for n in sys.modules if n.partition('.')[0] != 'packsweep']))"
    wanted = "from packsweep.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    "
    bare, asked = (
        int(_python(f"{code}{count}", cwd=tmp_path).stdout.splitlines()[-1])
        for code in ("import typer; ", wanted)
    )
    assert asked <= bare + 20


def test_version(shell: Cli, tmp_path: Path) -> None:
    """--version prints the version alone."""
    done = shell("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


def test_import_light(tmp_path: Path) -> None:
    """The command line imports nothing that takes time before a command needs it."""
    code = (
        "import sys, packsweep.cli; "
        "print({'vllm', 'torch', 'ray', 'pandas', 'pyarrow', 'pydantic', 'numpy', 'scipy'}"
        " & set(sys.modules))"
    )
    assert _python(code, cwd=tmp_path).stdout == "set()\n"


@pytest.mark.parametrize("command", ["plan", "show"])
def test_no_engine_imported(sweep_file: Path, finished: Path, command: str) -> None:
    """Planning and showing load neither vLLM nor torch nor Ray."""
    code = (
        "import sys; from packsweep.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    print(end.code, {'vllm', 'torch', 'ray', 'transformers'} & set(sys.modules))\n"
    )
    target = sweep_file if command == "plan" else finished
    done = _python(code, command, target, cwd=sweep_file.parent)
    assert done.stdout.splitlines()[-1] == "0 set()"


# What a user can get wrong: one line, exit status 2, nothing created.


def _wrong(
    arguments: list[object], folder: Path, capsys: pytest.CaptureFixture[str], expected: str
) -> None:
    """Run in this process, as a start costs most of a second; check line, status, no traces."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        command_line.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.startswith("packsweep: ")
    assert said.err.count("\n") == 1
    assert expected in said.err
    assert sorted(folder.rglob("*")) == before


@pytest.fixture
def here(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A current folder of our own, and a cache elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    monkeypatch.setenv("PACKSWEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
    return tmp_path


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["engine.zzz=1"], "engine.zzz: unknown key; engine knows async_scheduling"),
        (["engine.max_num_seq=1"], "did you mean engine.max_num_seqs?"),
        (["engine.max_num_seqs=many"], "engine.max_num_seqs: 'many' is not allowed"),
        (["grid.n=0"], "grid.n: 0 is not allowed"),
        (["grid.n=50001"], "50,00"),
        (["grid.strategy=chunked"], "grid.pack_size: is missing"),
        (["measure.cache_state=off", "engine.enable_prefix_caching=true"], "contradicts"),
        (["engine.max_model_len=99999"], "is more than the 32768 positions"),
        (["model.name=./gone"], "no model folder gone"),
        (["model.name=embedded:llama"], "did you mean embedded:llama-3.1-8b?"),
        (["texts.source=gone.csv"], "gone.csv: no such file or folder"),
        (["simulated.device=H999"], "simulated.device"),
        (["n=4"], "write --set grid.n=4"),
    ],
)
def test_wrong_value(
    here: Path,
    sweep_file: Path,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    expected: str,
) -> None:
    """A value that cannot be is refused before anything is made."""
    options = [word for override in overrides for word in ("--set", override)]
    _wrong(["run", sweep_file, *options], here, capsys, expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty; expected a header and texts"),
        (b"review,sentiment\n", "holds no texts"),
        (b"a,b,label\na,b,positive\n", "no column is the text; found 'a', 'b', 'label'"),
        (b"review,sentiment\na,good\nb,bad\n", "row 1 (line 2): the sentiment is 'good'"),
        (b"review,sentiment\n\n\na,bad\n", "row 1 (line 4): the sentiment is 'bad'"),
        (b"review,sentiment\n,positive\nb,negative\n", "row 1 (line 2): the text is empty"),
        (b"review,sentiment\na\xff,positive\nb,negative\n", "is not UTF-8 text"),
        (b"review,sentiment\na,positive\n", "holds 1 text, but 2 are needed"),
        (b'review,sentiment\n"a,positive\n', "is not valid CSV"),
    ],
)
def test_wrong_reviews(
    here: Path,
    sweep_file: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    expected: str,
) -> None:
    """Texts that cannot be used are refused with the file and the row."""
    (here / "r.csv").write_bytes(content)
    _wrong(["run", sweep_file, "--set", "texts.source=r.csv"], here, capsys, expected)


def test_wrong_reviews_folder(
    here: Path, sweep_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder without texts is refused."""
    (here / "r.csv").mkdir()
    _wrong(["run", sweep_file, "--set", "texts.source=r.csv"], here, capsys, "r.csv")


@pytest.mark.parametrize("command", ["plan", "run"])
def test_wrong_sweep(here: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """A sweep file that is not there, is a folder, or is no TOML is refused."""
    (here / "broken.toml").write_text("[model", encoding="utf-8")
    _wrong([command, "gone.toml"], here, capsys, "gone.toml: no such sweep file")
    _wrong([command, here], here, capsys, "is a folder")
    _wrong([command, "broken.toml"], here, capsys, "is not valid TOML")


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ("/proc/packsweep", "/proc/packsweep: cannot be written"),
        ("tiny.toml", "is a file or lies in one"),
        ("tiny.toml/x", "is a file or lies in one"),
        (".", "contains other files (tiny.toml)"),
    ],
)
def test_wrong_results(
    here: Path,
    sweep_file: Path,
    capsys: pytest.CaptureFixture[str],
    results: str,
    expected: str,
) -> None:
    """A results folder that cannot be used is refused."""
    _wrong(["run", sweep_file, "--results", results], here, capsys, expected)


def test_wrong_local_and_ray(
    here: Path, sweep_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options that contradict each other are refused."""
    arguments: list[object] = ["run", sweep_file, "--local", "--ray", "auto"]
    _wrong(arguments, here, capsys, "--local and --ray exclude each other")


def test_wrong_no_vllm(
    here: Path,
    sweep_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without vLLM a real sweep is refused before the results folder is made."""
    monkeypatch.setitem(sys.modules, "vllm", None)
    arguments: list[object] = ["run", sweep_file, "--set", "engine.kind=vllm"]
    _wrong(arguments, here, capsys, "vLLM is not installed")


def test_wrong_simulated_into_real(
    here: Path, sweep_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Simulated cells for a folder of real results are refused before they are run."""
    store = Store(here / "real")
    store.prepare()
    written(store, cell(engine="vllm"))
    arguments: list[object] = ["run", sweep_file, "--results", "real", *ONE_CELL]
    _wrong(arguments, here, capsys, "simulated and real results")


@pytest.mark.parametrize("command", ["show", "merge"])
def test_wrong_show(here: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """A folder that is not there or holds no results is refused."""
    _wrong([command, "gone"], here, capsys, "gone: no such results folder")
    _wrong([command, "."], here, capsys, "holds no packsweep results")


def test_wrong_in_real_process(shell: Cli, sweep_file: Path) -> None:
    """The same from a shell: one line on stderr, exit status 2, nothing created."""
    done = shell("run", sweep_file, "--set", "engine.max_num_seq=1", cwd=sweep_file.parent)
    said = f"packsweep: {sweep_file}: engine.max_num_seq: unknown key; "
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{said}did you mean engine.max_num_seqs?\n"
    assert list(sweep_file.parent.iterdir()) == [sweep_file]


# A whole sweep.


@pytest.fixture(scope="session")
def first_run(shell: Cli, sweep_text: str, tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    """A finished sweep: the folder it ran in and what the run said."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(sweep_text, encoding="utf-8")
    return folder, shell("run", "tiny.toml", cwd=folder)


@pytest.fixture
def finished(first_run: FirstRun, tmp_path: Path) -> Path:
    """A copy of the finished results, for a test to change."""
    return Path(shutil.copytree(first_run[0] / "results" / "tiny", tmp_path / "results" / "tiny"))


def _cells(results: Path) -> list[Path]:
    return sorted((results / "cells").iterdir())


def test_run_output(first_run: FirstRun) -> None:
    """A run prints a plain line for each cell and the table, and no control characters."""
    done = first_run[1]
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "4 cells, 4 to do"
    assert [line.split()[0] for line in lines[1:5]] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert all(": ok, " in line for line in lines[1:5])
    assert sum(line.split()[-1:] == ["ok"] for line in lines) == 4
    assert "SIMULATED: computed from a roofline, not measured" in lines


def test_run_files(first_run: FirstRun) -> None:
    """A run leaves the committed cells, their logs, the sweep file, the summary and the report."""
    results = first_run[0] / "results" / "tiny"
    assert len(_cells(results)) == 4
    assert all((folder / "COMMIT").is_file() for folder in _cells(results))
    names = {path.name for path in results.iterdir()}
    assert names == {
        "packsweep.json",
        "sweep.toml",
        "sweep_cells.json",
        "cells",
        "logs",
        "summary.parquet",
        "summary.csv",
        "report.html",
    }
    assert pq.read_table(results / "summary.parquet").num_rows == 4


def test_run_leaves_no_process(first_run: FirstRun) -> None:
    """No worker outlives a run."""
    import psutil

    assert first_run[1].returncode == 0
    running = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    folder = str(first_run[0])
    assert not [words for words in running if any(folder in word for word in words)]


def test_run_again(cli: Cli, sweep_file: Path, finished: Path) -> None:
    """The second run starts nothing, changes no cell and prints the same table."""
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.parquet")}
    done = cli("run", sweep_file, cwd=sweep_file.parent)
    assert done.returncode == 0
    assert done.stdout.startswith("4 cells, 4 done before, 0 to do\n")
    summary = finished / "summary.parquet"
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*.parquet")}
    assert {**after, summary: 0} == {**before, summary: 0}


def test_run_one_missing(cli: Cli, sweep_file: Path, finished: Path) -> None:
    """Only the cell that lost its COMMIT is measured again."""
    lost = _cells(finished)[1]
    (lost / "COMMIT").unlink()
    done = cli("run", sweep_file, cwd=sweep_file.parent)
    lines = done.stdout.splitlines()
    assert lines[0] == "4 cells, 3 done before, 1 to do"
    assert lines[1].startswith(f"[4/4] {lost.name}: ok")
    assert len(list(lost.glob("requests-*"))) == 2
    assert (lost / "COMMIT").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_interrupted(cli: Cli, sweep_file: Path, number: signal.Signals) -> None:
    """An interrupted run keeps what was committed, says so, and the same command resumes."""
    arguments = ["run", sweep_file, "--set", "grid.strategy=packed"]
    slow = [*arguments, "--set", "simulated.real_seconds=0.2"]
    with killed_at_end(_start(*slow, cwd=sweep_file.parent)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2 cells, 2 to do\n"
        assert process.stdout.readline().startswith("[1/2]")
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode == 130
    assert said == "interrupted; committed cells are kept, run the same command again to resume\n"
    if number == signal.SIGINT:
        done = cli(*slow, cwd=sweep_file.parent)
        assert done.returncode == 0
        assert done.stdout.startswith("2 cells, 1 done before, 1 to do\n[2/2]")


_MORE_THAN_A_PIPE_HOLDS = 1 << 17


def test_plan_interrupted(tmp_path: Path) -> None:
    """Ctrl-C before anything runs ends with 130 and without a traceback."""
    reads = _start("plan", "/dev/fd/0", cwd=tmp_path, stdin=subprocess.PIPE)
    with killed_at_end(reads) as process:
        assert process.stdin is not None
        process.stdin.write("#" * _MORE_THAN_A_PIPE_HOLDS)
        process.stdin.flush()  # it has read some of it
        while psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING:
            assert process.poll() is None
            time.sleep(0.01)  # until it waits for the rest
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        _, said = process.communicate(timeout=30)
    assert "Traceback" not in said


def test_run_cell_failed(cli: Cli, sweep_file: Path) -> None:
    """A failed cell makes exit status 1; its reason is named and the other cells are measured."""
    fault = 'simulated.fault=["none", "oom"]'
    done = cli("run", sweep_file, *ONE_CELL, "--set", fault, cwd=sweep_file.parent)
    assert (done.returncode, done.stderr) == (1, "")
    assert "2 cells, 2 to do" in done.stdout
    assert ": oom: OutOfMemoryError: the simulated device is out of memory" in done.stdout


def test_run_infeasible(cli: Cli, sweep_file: Path) -> None:
    """Cells that are infeasible as planned are no failure, and nothing is started for them."""
    few = ("--set", "engine.max_model_len=10", "--set", "grid.duplication=1")
    done = cli("run", sweep_file, *few, cwd=sweep_file.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(": infeasible: the longest request needs") == 4
    assert not (sweep_file.parent / "results" / "tiny" / "logs").exists()


def test_run_cell_folder_blocked(cli: Cli, sweep_file: Path, finished: Path) -> None:
    """A file where a cell's folder should be is reported in a line, without a traceback."""
    lost = _cells(finished)[0]
    shutil.rmtree(lost)
    lost.touch()
    done = cli("run", sweep_file, cwd=sweep_file.parent)
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    assert lost.name in done.stdout + done.stderr


# What the other commands print. In this process, as a start costs most of a second.


def _said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return what a command prints on stdout; it must end well and say nothing else."""
    with pytest.raises(SystemExit) as ended:
        command_line.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert (ended.value.code, said.err) == (0, "")
    return said.out


@pytest.mark.usefixtures("here")
def test_plan(capsys: pytest.CaptureFixture[str], sweep_file: Path, finished: Path) -> None:
    """The plan shows what is done and what is missing."""
    (_cells(finished)[0] / "COMMIT").unlink()
    said = _said(capsys, "plan", sweep_file)
    words = [line.split()[-1] for line in said.splitlines() if line.split()]
    assert (words.count("done"), words.count("missing")) == (3, 1)
    assert "4 cells, 1 missing; " in said


def test_plan_creates_nothing(
    capsys: pytest.CaptureFixture[str], here: Path, sweep_file: Path
) -> None:
    """A plan leaves no folder behind."""
    assert "4 cells, 4 missing; " in _said(capsys, "plan", sweep_file)
    assert list(here.iterdir()) == [sweep_file]


@pytest.mark.usefixtures("here")
def test_plan_json(capsys: pytest.CaptureFixture[str], sweep_file: Path, finished: Path) -> None:
    """With --json the plan is the sweep's totals and a list of cells."""
    found = json.loads(_said(capsys, "plan", sweep_file, "--json"))["cells"]
    assert sorted(each["cell_id"] for each in found) == [path.name for path in _cells(finished)]
    assert {each["done"] for each in found} == {True}
    assert [each["num_requests"] for each in found] == [1, 2, 2, 4]


def test_show(cli: Cli, first_run: FirstRun, finished: Path) -> None:
    """The table of a folder is the one that its run printed."""
    done = cli("show", finished, cwd=finished)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert done.stdout in first_run[1].stdout


def test_show_json(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    """With --json it is a list of rows, undefined values as null."""
    found = json.loads(_said(capsys, "show", finished, "--json"))
    assert [(row["strategy"], row["n"], row["duplication"]) for row in found] == [
        ("packed", 2, 1),
        ("packed", 2, 2),
        ("separate", 2, 1),
        ("separate", 2, 2),
    ]
    assert {row["pack_size"] for row in found} == {None}
    assert {row["num_repeats"] for row in found} == {2}


def test_show_vllm(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    """With --vllm a cell is three lines as vllm bench throughput prints them."""
    lines = _said(capsys, "show", finished, "--vllm").splitlines()
    assert lines[0].startswith("packed-n2-dup1-cold-")
    assert lines[1].startswith("Throughput: ")
    assert lines[1].endswith(" output tokens/s")
    assert lines[2].startswith("Total num prompt tokens:  ")
    assert lines[3:5] == ["Total num output tokens:  2", ""]
    assert len(lines) == 20


def test_show_where_sort_columns(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    """Cells are chosen, ordered and shown as asked, in JSON too."""
    options = ["--where", "strategy=packed", "--sort", "texts_per_s"]
    found = json.loads(
        _said(capsys, "show", finished, *options, "--columns", "texts_per_s,dup", "--json")
    )
    assert [row["duplication"] for row in found] == [2, 1]
    assert list(found[0]) == ["cell_id", "texts_per_s", "duplication"]
    said = _said(capsys, "show", finished, *options, "--columns", "n,mfu,device").splitlines()
    assert [line.split()[:3] for line in said if "packed" in line] == [
        ["packed", "2", "2"],
        ["packed", "2", "1"],
    ]


def test_show_nothing_matches(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    """What there is instead is named; in JSON it is an empty list."""
    said = _said(capsys, "show", finished, "--where", "n=7")
    assert said == "no cell matches n=7; here n is 2\n"
    assert _said(capsys, "show", finished, "--where", "n=7", "--json") == "[]\n"


@pytest.mark.parametrize("options", [[], ["--time"], ["--group-by", "n"], ["--columns", "device"]])
def test_show_fits_80_columns(cli: Cli, finished: Path, options: list[str]) -> None:
    """On a narrow terminal the tables are narrow, and what had no room is reported."""
    done = cli("show", finished, *options, cwd=finished, COLUMNS="80")
    assert done.returncode == 0
    lines = itertools.takewhile(lambda line: line[:1] in {"", " "}, done.stdout.splitlines())
    table = list(filter(None, lines))
    assert table
    assert max(map(len, table)) <= 80


@pytest.mark.usefixtures("here")
def test_wrong_show_column(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    """A misspelt name is answered with the nearest one."""
    for option in ("--sort", "--columns", "--group-by"):
        with pytest.raises(SystemExit) as ended:
            command_line.main(["show", str(finished), option, "stratgy"])
        assert ended.value.code == 2
        expected = f"packsweep: {option}: no column 'stratgy'; did you mean strategy?\n"
        assert capsys.readouterr().err == expected


def test_show_no_cells(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A folder of ours without cells says so."""
    Store(tmp_path).prepare()
    assert _said(capsys, "show", tmp_path) == "no cells yet\n"


def test_show_closed_pipe(finished: Path) -> None:
    """Output into a pipe that closes, as of head, is no traceback."""
    with killed_at_end(_start("show", finished, "--json", cwd=finished)) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_merge(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    """The merge writes the summary again from the committed cells."""
    before = pq.read_table(finished / "summary.parquet")
    for name in ("summary.parquet", "summary.csv"):
        (finished / name).unlink()
    said = _said(capsys, "merge", finished)
    assert said == f"{finished}/summary.parquet and .csv: 4 cells, 4 ok\n"
    assert pq.read_table(finished / "summary.parquet").equals(before)
    assert (finished / "summary.csv").is_file()


# sweeps/grid.py, the entry of a Ray job.


def _grid(sweep_file: Path, python: str, environ: dict[str, str]) -> Done:
    script = [str(ROOT / "sweeps" / "grid.py"), "--sweep", str(sweep_file), "--results", "mine"]
    return subprocess.run(
        [python, *script, *ONE_CELL],
        cwd=sweep_file.parent,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def test_grid_script(sweep_file: Path) -> None:
    """The script of a Ray job runs on this machine where there is no job."""
    done = _grid(sweep_file, sys.executable, {})
    assert (done.returncode, done.stderr) == (0, "")
    assert Store(sweep_file.parent / "mine").cell_ids()


def test_grid_script_not_installed(sweep_file: Path) -> None:
    """The script takes the package from its checkout where it is not installed."""
    packages = str(Path(pytest.__file__).parents[1])
    python = str(getattr(sys, "_base_executable", sys.executable))
    bare = subprocess.run([python, "-c", "import packsweep"], capture_output=True, check=False)
    if bare.returncode == 0:
        pytest.skip("packsweep is installed in the base Python")
    done = _grid(sweep_file, python, {"PYTHONPATH": packages})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_run_llama(cli: Cli, tmp_path: Path) -> None:
    """The shape and the tokenizer of Llama 3.1 8B run through the simulated engine."""
    text = """
[model]
name = "embedded:llama-3.1-8b"
load_format = "dummy"

[grid]
strategy = "separate"
n = 4
duplication = 10

[engine]
kind = "simulated"
max_model_len = 131072

[measure]
repeats = 2
"""
    (tmp_path / "llama.toml").write_text(text, encoding="utf-8")
    done = cli("run", "llama.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    row = pq.read_table(tmp_path / "results/llama/summary.parquet").to_pylist()[0]
    assert (row["num_requests"], row["num_texts"], row["output_tokens"]) == (40, 40, 40)
    assert row["cached_tokens"] == row["expected_cached_tokens"] > row["prompt_tokens"] / 2
