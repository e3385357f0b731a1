"""A bundle installs where there is no network, and says what is wrong where it cannot."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from tests.cluster.manifests import CLUSTER, ROOT

# pip asks no index in these tests, but the folder that the lock's packages lie in.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}


def wheel(folder: Path, name: str) -> Path:
    """Write a small wheel of version 1.0 that has one module, named as the package."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "ANSWER = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{each},,\n" for each in [*files, f"{info}/RECORD"])
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(each, text)
    return path


def bundle(out: Path, lock: Path, index: Path) -> subprocess.CompletedProcess[str]:
    """Run ``cluster/bundle.py OUT --lock LOCK`` with ``index`` as all that pip can reach."""
    return subprocess.run(
        [sys.executable, str(CLUSTER / "bundle.py"), str(out), "--lock", str(lock)],
        env={**os.environ, **OFFLINE, "PIP_FIND_LINKS": str(index)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def install(folder: Path, venv: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a bundle's ``install.sh VENV`` with this Python."""
    return subprocess.run(
        [str(folder / "install.sh"), str(venv)],
        env={**os.environ, "PYTHON": sys.executable, **environ},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel of the packages ``one`` and ``two``, and a lock of both."""
    folder = tmp_path_factory.mktemp("index")
    wheels = [wheel(folder, name) for name in ("one", "two")]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels]
    lines = [f"{n}==1.0 --hash=sha256:{h}\n" for n, h in zip(("one", "two"), hashes, strict=True)]
    (folder / "lock.txt").write_text("".join(lines), encoding="ascii")
    return folder


@pytest.fixture(scope="module")
def packed(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the two packages, as a tar."""
    out = tmp_path_factory.mktemp("bundle") / "small.tar"
    done = bundle(out, index / "lock.txt", index)
    assert done.returncode == 0, done.stderr
    assert "3 wheels" in done.stdout
    return out


@pytest.fixture
def unpacked(packed: Path, tmp_path: Path) -> Path:
    """The bundle as it lies on the other side."""
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="tar")
    return tmp_path / "small"


def _files(package: Path) -> set[str]:
    files = (path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(package).as_posix() for path in files}


def test_bundle_installs_without_an_index(unpacked: Path, tmp_path: Path) -> None:
    done = install(unpacked, tmp_path / "venv")
    assert done.returncode == 0, done.stderr
    code = "import importlib.util, one, two; print(importlib.util.find_spec('packsweep').origin)"
    python = str(tmp_path / "venv" / "bin" / "python")
    said = subprocess.run(
        [python, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith(str(tmp_path / "venv"))
    assert _files(Path(said).parent) == _files(ROOT / "src" / "packsweep")


def test_bundle_holds_what_a_user_starts_from(unpacked: Path) -> None:
    for name in ("sweeps/quick.toml", "cluster/slurm.sh", "cluster/README.md"):
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()


def test_damaged_bundle_is_refused(unpacked: Path, tmp_path: Path) -> None:
    with (unpacked / "wheels" / "one-1.0-py3-none-any.whl").open("ab") as file:
        file.write(b"0")
    done = install(unpacked, tmp_path / "venv")
    assert done.returncode == 2
    assert "damaged on its way" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_bundle_for_another_python_is_refused(unpacked: Path, tmp_path: Path) -> None:
    (unpacked / "made-for").write_text("Python 3.2 vax\n", encoding="ascii")
    done = install(unpacked, tmp_path / "venv")
    assert done.returncode == 2
    assert "made for Python 3.2 vax" in done.stderr


def test_folder_that_is_no_environment_is_left_alone(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    done = install(unpacked, tmp_path / "mine")
    assert done.returncode == 2
    assert "no virtual environment" in done.stderr
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_package_with_another_hash_makes_no_bundle(index: Path, tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(f"one==1.0 --hash=sha256:{'0' * 64}\n", encoding="ascii")
    done = bundle(tmp_path / "bad.tar", lock, index)
    assert done.returncode == 1
    assert "could not get every package" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [lock]


def test_bundle_clears_no_other_environment(unpacked: Path, tmp_path: Path) -> None:
    """A virtual environment that somebody else made, and what lies in it, stays."""
    (tmp_path / "venv").mkdir()
    for name in ("pyvenv.cfg", "thesis.txt"):
        (tmp_path / "venv" / name).write_text("mine", encoding="utf-8")
    done = install(unpacked, tmp_path / "venv")
    assert done.returncode == 2
    assert "no virtual environment of a bundle" in done.stderr
    assert (tmp_path / "venv" / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_bundle_installs_again(unpacked: Path, tmp_path: Path) -> None:
    """What an earlier run of the script made, it may make again."""
    (tmp_path / "venv").mkdir()
    for name in (".packsweep-bundle", "old"):
        (tmp_path / "venv" / name).touch()
    done = install(unpacked, tmp_path / "venv")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "venv" / "old").exists()
