"""The process that makes attempts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.fakes import cells, task

from packsweep.results.store import Store
from packsweep.run.task import STATUS, status_from_json


def test_run_ends_without_tearing_down(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A worker that has written its status is gone at once: nothing of the interpreter's end."""
    folder = tmp_path / "w"
    folder.mkdir()
    one = cells(model={"name": str(byte_model)})[0]
    (folder / "task.json").write_text(task(one, store.root).to_json(), encoding="utf-8")
    program = (
        "import atexit, sys; from pathlib import Path; from packsweep.run import worker;"
        "atexit.register(print, 'torn down'); worker.run(Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
    )
    assert status_from_json((folder / STATUS).read_text(encoding="utf-8")).outcome == "ok"
    assert "packsweep: commit" in done.stdout  # what it printed is there
    assert "torn down" not in done.stdout
