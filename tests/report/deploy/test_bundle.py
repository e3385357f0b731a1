"""A module and what it takes from the package, in one file."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from packsweep.report.deploy.bundle import bundle

LABEL = "packsweep.report.deploy.label"


@pytest.fixture(scope="module")
def script() -> str:
    return bundle(LABEL)


def test_bundle_imports_nothing_of_the_package(script: str) -> None:
    modules = [
        node.module
        for node in ast.walk(ast.parse(script))
        if isinstance(node, ast.ImportFrom) and node.module
    ]
    assert "dataclasses" in modules
    assert not [module for module in modules if module.startswith("packsweep")]


def test_bundle_runs_where_the_package_is_not_installed(script: str, tmp_path: Path) -> None:
    (tmp_path / "label.py").write_text(script, encoding="utf-8")
    check = (
        "import sys; sys.modules['packsweep'] = None; import label; "
        "assert label.pattern(['a', 'b'], 2, 'lines') == '(a|b)(\\\\n(a|b)){1}'; "
        "assert label.Reader(words={'bug': 'bug'}).read('It is a bug.', 1) == (['bug'], 0)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {check}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


def test_bundle_takes_each_name_once_and_leaves_out_what_nothing_needs(script: str) -> None:
    made = [
        node.name
        for node in ast.parse(script).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    assert len(made) == len(set(made))
    assert "build" in made
    assert "content_sha256" not in made
    assert "TaskTable" not in made


def test_bundle_refuses_what_it_cannot_write_into_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from packsweep.sweep import prompts\n\nX = prompts.build\n"
    (tmp_path / "odd_one.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"packsweep\.sweep\.prompts cannot be written"):
        bundle("odd_one")
