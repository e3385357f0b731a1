"""What the Slurm script does at the time limit, and with wrong arguments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.conftest import JOB, executable
from tests.cluster.manifests import CLUSTER
from tests.fakes import killed_at_end

SCRIPT = CLUSTER / "slurm.sh"
# A step that lasts until Slurm ends it. `ray stop` before it returns at once.
SRUN = """#!/bin/sh
case "$*" in *"ray stop"*) exit 0 ;; esac
echo "$*" > "$SLURM_TMP/command"
echo $$ > "$SLURM_TMP/step"
exec sleep "${STEP_S:-100}"
"""
# Requeueing ends the step.
SCONTROL = """#!/bin/sh
echo "$@" >> "$SLURM_TMP/scontrol"
kill "$(cat "$SLURM_TMP/step")"
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch script whose Slurm keeps notes in ``tmp_path``."""
    executable(tmp_path / "bin" / "srun", SRUN)
    executable(tmp_path / "bin" / "scontrol", SCONTROL)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    own = {"PATH": path, "SLURM_TMP": str(tmp_path), "TMPDIR": str(tmp_path), "VENV": str(tmp_path)}
    executable(tmp_path / "bin" / "activate", "")
    executable(tmp_path / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    return {**os.environ, **JOB, **own}


@pytest.fixture
def job(environ: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A job whose step runs."""
    started = subprocess.Popen(
        ["bash", str(SCRIPT), "sweep.toml", "results"],
        env=environ,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 300
    with killed_at_end(started) as process:
        while not (tmp_path / "step").exists() or not (tmp_path / "step").read_text():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
        process.kill()
    _end_step(tmp_path)


def _end_step(folder: Path) -> None:
    try:
        os.kill(int((folder / "step").read_text()), signal.SIGKILL)
    except ProcessLookupError:
        return


def test_job_at_its_time_limit_goes_back_into_the_queue(
    job: subprocess.Popen[str], tmp_path: Path
) -> None:
    job.send_signal(signal.SIGTERM)
    said, _ = job.communicate(timeout=300)
    assert "back into the queue" in said
    assert (tmp_path / "scontrol").read_text() == "requeue 7\n"
    assert job.returncode == 128 + signal.SIGTERM


class TestRestartedOften:
    @pytest.fixture
    def environ(self, environ: dict[str, str]) -> dict[str, str]:
        return {**environ, "SLURM_RESTART_COUNT": "3", "MAX_RESTARTS": "3"}

    def test_job_is_not_requeued_for_ever(self, job: subprocess.Popen[str], tmp_path: Path) -> None:
        job.send_signal(signal.SIGTERM)
        _end_step(tmp_path)
        said, _ = job.communicate(timeout=300)
        assert "restarted 3 times, not again" in said
        assert not (tmp_path / "scontrol").exists()


@pytest.mark.parametrize(
    ("given", "handed_on"), [("results", "{cwd}/results"), ("s3://bucket/seed", "s3://bucket/seed")]
)
def test_results_folder_is_named_alike_on_every_node(
    environ: dict[str, str], tmp_path: Path, given: str, handed_on: str
) -> None:
    subprocess.run(
        ["bash", str(SCRIPT), "sweep.toml", given, "--set", "measure.repeats=2"],
        env={**environ, "STEP_S": "0"},
        cwd=tmp_path,
        check=True,
    )
    command = (tmp_path / "command").read_text()
    expected = f"run sweep.toml --results {handed_on.format(cwd=tmp_path)} --ray 127.0.0.1:20007"
    assert f"{expected} --set measure.repeats=2\n" in command


def test_script_without_a_results_folder_says_how_it_is_used(environ: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", str(SCRIPT), "sweep.toml"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: sbatch cluster/slurm.sh SWEEP RESULTS")


def test_token_is_on_no_command_line(environ: dict[str, str], tmp_path: Path) -> None:
    """A command line is seen by every user of a node; an environment is not."""
    noted = tmp_path / "noted"
    note = f'#!/bin/sh\necho "$RAY_AUTH_MODE $RAY_AUTH_TOKEN: $*" >> {noted}\n'
    executable(tmp_path / "bin" / "srun", note)
    subprocess.run(["bash", SCRIPT, "sweep.toml", "results"], env=environ, cwd=tmp_path, check=True)
    steps = [line.split(": ", 1) for line in noted.read_text().splitlines()]
    assert len(steps) == 2
    ((mode, token),) = {tuple(variables.split()) for variables, _ in steps}
    assert (mode, len(token)) == ("token", 64)
    assert not [command for _, command in steps if token in command]


def test_folder_of_another_is_not_used(environ: dict[str, str], tmp_path: Path) -> None:
    """Who guesses the name of the cache's folder does not get to own what is compiled there."""
    executable(tmp_path / "bin" / "srun", '#!/bin/sh\nshift 3\nexec "$@"\n')
    executable(tmp_path / "bin" / "ray", "#!/bin/sh\nexit 0\n")
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"{user}-packsweep").symlink_to(tmp_path / "theirs")
    done = subprocess.run(
        ["bash", str(SCRIPT), "sweep.toml", "results"],
        env={name: value for name, value in environ.items() if name != "PACKSWEEP_CACHE"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"{user}-packsweep" in done.stderr
    assert "is not yours" in done.stderr
