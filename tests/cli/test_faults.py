"""What users get wrong and what fails around them: one line, the right status, nothing harmed."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.fakes import cell, pass_row, written

from packsweep import cli as command_line
from packsweep.cli.commands import run
from packsweep.errors import UserError
from packsweep.machine import environment, nvml, processor
from packsweep.results.store import Store

Captured = pytest.CaptureFixture[str]


def ended(capsys: Captured, *arguments: object) -> tuple[int, str, str]:
    """Return exit status, stdout and stderr of a command in this process."""
    with pytest.raises(SystemExit) as end:
        command_line.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, captured.out, captured.err


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder of our own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def results(here: Path) -> Path:
    """Results of one cell whose id and reason hold what a terminal would obey."""
    store = Store(here / "r")
    store.prepare()
    written(store, cell(), texts_per_s=2.0, num_requests=1)
    return here / "r"


# Bounds.


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["calc", "kv", "llama-3.1-8b", "--tokens", "1e308"], "--tokens"),
        (["calc", "kv", "llama-3.1-8b", "--tokens", "9" * 5000], "--tokens"),
        (["calc", "kv", "llama-3.1-8b", "--tokens", "-1"], "--tokens"),
        (["calc", "kv", "llama-3.1-8b", "--tokens-per-text", "nan"], "--tokens-per-text"),
        (["calc", "kv", "llama-3.1-8b", "--tokens-per-text", "inf"], "--tokens-per-text"),
        (["calc", "kv", "llama-3.1-8b", "--parameters", "1e308"], "--parameters"),
        (["calc", "kv", "llama-3.1-8b", "--gpu-memory-utilization", "nan"], "utilization"),
        (["calc", "kv", "llama-3.1-8b", "--block-size", "0"], "--block-size"),
        (["calc", "labels", "llama-3.1-8b", "--tokens", "10000000000"], "--tokens"),
        (["plan", "x.toml", "--gpus", "100001"], "--gpus"),
        (["plan", "x.toml", "--gpu-hour-usd", "inf"], "--gpu-hour-usd"),
        (["plan", "x.toml", "--gpu-hour-usd", "nan"], "--gpu-hour-usd"),
        (["run", "x.toml", "--max-gpus", "10000000"], "--max-gpus"),
        (["compare", "a", "b", "--fail-below", "1e308"], "--fail-below"),
        (["compare", "a", "b", "--fail-below", "nan"], "--fail-below"),
        (["compare-tool", "x.toml", "--pairs", "1000000"], "--pairs"),
    ],
)
def test_numbers_have_bounds(
    capsys: Captured, here: Path, arguments: list[str], option: str
) -> None:
    status, out, err = ended(capsys, *arguments)
    assert (status, out) == (2, "")
    assert option in err
    assert err.count("\n") == 1
    assert len(err) < 2_500
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("", "the results folder is empty"),
        ("S3://bucket/x", "write s3:// in lower case"),
        ("s3:", "is not a whole address; write s3://bucket/prefix"),
        ("s3://", "is not a whole address"),
        ("s3:bucket", "is not a whole address"),
        ("https://host/x", "https:// is not known"),
    ],
)
@pytest.mark.parametrize("command", ["show", "export", "report", "merge"])
def test_addresses_are_named_as_what_they_are(
    capsys: Captured, here: Path, command: str, place: str, expected: str
) -> None:
    more = ["--format", "csv"] if command == "export" else []
    status, out, err = ended(capsys, command, place, *more)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert expected in err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("address", ["", "  "])
def test_empty_ray_address(capsys: Captured, here: Path, address: str) -> None:
    status, _, err = ended(capsys, "run", here / "x.toml", "--ray", address)
    assert (status, err) == (
        2,
        "packsweep: --ray: the address is empty; write auto or ray://HOST:10001\n",
    )


# What a terminal would obey.


def test_names_cannot_command_a_terminal(capsys: Captured, here: Path) -> None:
    status, _, err = ended(capsys, "show", "\x1b[2J\x07\u202egone")
    assert (status, err) == (
        2,
        "packsweep: \\x1b[2J\\x07\\u202egone: no such results folder; not made yet, or deleted\n",
    )
    assert list(here.iterdir()) == []


def test_reasons_cannot_command_a_terminal(capsys: Captured, here: Path) -> None:
    """A reason that an engine wrote is shown in every form, and never obeyed."""
    store = Store(here / "r")
    store.prepare()
    written(store, cell(), texts_per_s=2.0)
    failed = cell(n=3)
    row = pass_row(failed, outcome="crashed", reason="\x1b]0;title\x07" + "x" * 100_000)
    store.write(failed.cell_id, "a0", [row], [])
    for options in ([], ["--time"], ["--columns", "reason"], ["--vllm"], ["--json"]):
        status, out, _ = ended(capsys, "show", "r", *options)
        assert status == 0
        assert "\x1b" not in out
        assert "\x07" not in out
    _, out, _ = ended(capsys, "show", "r")
    assert "\\x1b]0;title\\x07" in out
    assert max(map(len, out.splitlines())) < 3_000


# What fails while results are shown.


def test_without_a_home_folder(
    capsys: Captured, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user whom no password file knows gets a folder for caches, is told so, and every command
    works.
    """
    for name in ("HOME", "PACKSWEEP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setattr("pwd.getpwuid", _unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(results.parent))
    for command in (["show", results], ["report", results], ["doctor"]):
        monkeypatch.delenv("HOME", raising=False)
        status, _, err = ended(capsys, *command)
        assert status in ({0, 1} if command == ["doctor"] else {0})
        assert err.startswith("packsweep: this user has no home: caches go to ")
        assert err.count("\n") == 1
    assert (results / "report.html").is_file()


def _unknown(uid: int) -> None:
    raise KeyError(uid)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), RuntimeError("x\ny"), UserError("mixed")]
)
def test_run_keeps_its_status_where_showing_fails(
    capsys: Captured,
    here: Path,
    sweep_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    """All cells are ok and committed: what fails afterwards is one line."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(run, "_measure", lambda *_, **__: 0)
    monkeypatch.setattr(run, "_print_measured", fail)
    monkeypatch.setenv("PACKSWEEP_CACHE", str(here))
    status, _, err = ended(capsys, "run", sweep_file, "--results", here / "out")
    assert (status, err.count("\n")) == (0, 1)
    assert ": measured and saved, but not shown: " in err


@pytest.mark.parametrize(
    ("redirect", "status", "complaint"),
    [
        (">&-", 0, ""),
        ("> /dev/full", 1, "packsweep: [Errno 28] No space left on device\n"),
        ("| true; exit ${PIPESTATUS[0]}", 1, ""),
    ],
)
def test_output_that_nobody_can_read(
    results: Path, redirect: str, status: int, complaint: str
) -> None:
    """Stdout closed, full, or a pipe without a reader: no traceback."""
    python = f"{sys.executable} -m packsweep"
    command = f"{python} show {results} --columns {','.join(['n'] * 3000)} {redirect}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (status, complaint)


# Arguments that nobody thought of.

_COMMANDS = (
    ("show",),
    ("export",),
    ("report",),
    ("merge",),
    ("compare",),
    ("plan",),
    ("calc", "kv"),
    ("calc", "labels"),
    ("doctor",),
    (),
)
_OPTIONS = (
    *("--where", "--sort", "--columns", "--group-by", "--format", "--table", "-o", "--metric"),
    *("--fail-below", "--gpus", "--gpu-hour-usd", "--device", "--tokens", "--tp", "--dtype"),
    *("--parameters", "--tokens-per-text", "--set", "--results", "--ceiling", "--json", "--time"),
    *("--positions", "--confusion", "--vllm", "--reverse", "--allow-mixed", "--nope"),
)
_VALUES = (
    *("", " ", "-", "--", "r", "gone", ".", "/dev/null", "/proc/self/mem", "s3:", "S3://b", "\0"),
    *("nan", "inf", "-inf", "1e308", "-1", "0", "9" * 400, "0x10", "1_000", "\ud800", "\x1b[2J"),
    *("n=1", "n>=x", "n=nan", "strategy=", "=", ">", "n", "texts_per_s", "cell_id", "A" * 5_000),
    *("llama-3.1-8b", "embedded:none", "H200", "csv", "markdown", "grid.n=[", "a.b.c=1", "../../x"),
)
_NUM_SEEDS = 100


def test_any_arguments_end_in_one_line(
    capsys: Captured, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is typed, a command ends with a status of ours and at most one line of complaint.

    The seed stands in the message of a failure.
    """
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PACKSWEEP_CACHE", str(results.parent / "cache"))
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    for seed in range(_NUM_SEEDS):
        draw = random.Random(seed)
        arguments = [*draw.choice(_COMMANDS)]
        for _ in range(draw.randrange(6)):
            arguments += [*draw.sample(_OPTIONS, draw.randrange(2)), draw.choice(_VALUES)]
        try:
            status, out, err = ended(capsys, *arguments)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {arguments}") from error
        assert status in {0, 1, 2}, (seed, arguments, err)
        assert "\x1b" not in out + err, (seed, arguments)
        if status == 2:
            assert err.count("\n") == 1, (seed, arguments, err)
    kept = {path: path.read_bytes() for path in before}
    assert {path: text for path, text in kept.items() if before[path] != text} == {}


# Engines of several GPUs.


@pytest.mark.parametrize(("num_gpus", "what"), [(1, "GPUs"), (0, "cores")])
def test_engine_of_more_gpus_than_there_are(
    capsys: Captured,
    byte_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    here: Path,
    num_gpus: int,
    what: str,
) -> None:
    """One line before anything is written; an engine of one GPU is not asked about."""
    gpu = nvml.Gpu(name="NVIDIA H100", uuid="GPU-0", memory_bytes=1, driver_version="1")
    monkeypatch.setattr(run, "_check_engine", lambda *_arguments, **_options: None)
    monkeypatch.setattr(environment, "on_cpu", lambda: not num_gpus)
    monkeypatch.setattr(nvml, "visible_gpus", lambda: (gpu,) * num_gpus)
    monkeypatch.setattr(processor, "num_cores", lambda: 1)
    sweep = here / "two.toml"
    sweep.write_text(
        f"""
model = {{name = "{byte_model}", load_format = "dummy"}}
grid = {{strategy = "separate", n = 2}}
engine = {{tensor_parallel_size = [1, 2]}}
""",
        encoding="utf-8",
    )
    status, out, err = ended(capsys, "run", sweep, "--local", "--results", here / "r")
    assert (status, out) == (2, "")
    assert err == (
        "packsweep: engine.tensor_parallel_size x engine.pipeline_parallel_size: the largest "
        f"engine of the sweep takes 2 {what} on one machine, and 1 can be used here\n"
    )
    assert not (here / "r").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["calc"], "a command is missing (packsweep calc --help)"),
        (["calc", "kv", "m", "--devise", "H200"], "--device) (packsweep calc kv --help)"),
        (["export", "r", "--format", "xlsx"], "'xlsx' is not one of"),
        (["plan", "s3://bucket/s.toml"], "is an address; copy the sweep file to this machine"),
        (["recommend", "failed"], "no cell ended ok; packsweep show RESULTS says why"),
    ],
)
def test_what_is_wrong_is_said_in_own_words(
    capsys: Captured, results: Path, arguments: list[str], told: str
) -> None:
    store = Store(results.parent / "failed")
    store.prepare()
    written(store, cell(), outcome="oom")
    status, out, err = ended(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert "Value error" not in err


def test_a_home_folder_is_one_for_results_too(
    capsys: Captured, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell leaves ``~`` in ``--results=~/r`` as it is."""
    monkeypatch.setenv("HOME", str(results.parent))
    assert ended(capsys, "show", "~/r", "--json")[0] == 0
