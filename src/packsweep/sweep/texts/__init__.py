"""Labelled texts: where they come from, and which of them a sweep uses.

``load`` is the way in. It knows the kinds of sources; how each is read is the business of the
module named for it, and ``cache`` keeps a checked copy so that a source is read once.
"""

from __future__ import annotations

import glob
from pathlib import Path

from packsweep.errors import TextsError
from packsweep.sweep.texts import aclimdb, builtin, cache, download, files, hub, rows, web
from packsweep.sweep.texts.columns import SENTIMENTS, Reading
from packsweep.sweep.texts.text import LABELS, LabelledText, content_sha256

__all__ = ["LABELS", "LabelledText", "Reading", "content_sha256", "load"]

_SUFFIXES = ", ".join((*rows.SUFFIXES, *aclimdb.ARCHIVE_SUFFIXES))
_GLOB = frozenset("*?[")


def load(
    source: str,
    *,
    limit: int,
    seed: int | None = None,
    reading: Reading = SENTIMENTS,
    notes: list[str] | None = None,
) -> tuple[LabelledText, ...]:
    """Return the first ``limit`` texts of ``source``.

    Args:
        source: ``builtin`` for generated texts; ``imdb`` for the official archive, downloaded at
            the first use; the path of a file, a folder of shards or a pattern such as
            ``part-*.csv``; the address of a file, https:// or s3://; an ``aclImdb`` folder or a
            tar.gz of it; or the id of a data set of the hub. A relative path starts at the current
            folder.
        limit: how many texts are wanted, at least 1.
        seed: shuffles the whole set before the first ``limit`` are taken; None keeps its order.
        reading: which columns are the text and its label, and what labels there are.
        notes: takes what was guessed, a line each.

    Raises:
        TextsError: the source is not there, cannot be used, or holds fewer texts.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1")
    notes = [] if notes is None else notes
    if reading.split is not None and not _is_data_set(source):
        raise TextsError(
            f"texts.split names a split of a data set of the hub; {source} has none: remove it"
        )
    if source == "builtin":
        return _generated(reading, limit, seed)
    if source == "imdb":
        _check_labels(source, reading)
        path, paths = _official(), list[Path]()
    else:
        path, paths = _found(source, reading, notes)

    def read(_: Path) -> list[LabelledText]:
        if source == "imdb":
            return _read_official(path)
        return _read(path, paths, reading, notes)

    stamp = "\n".join([reading.key, *map(_stamp, paths or [path])])
    return cache.select(path, stamp, read, limit=limit, seed=seed, notes=notes)


def _generated(reading: Reading, limit: int, seed: int | None) -> tuple[LabelledText, ...]:
    for labels, generate in builtin.GENERATED.values():
        if labels == reading.labels:
            return generate(limit=limit, seed=seed)
    raise TextsError(
        f"texts.source: builtin has texts for the tasks {' and '.join(builtin.GENERATED)} alone; "
        "name the file of your own"
    )


def _check_labels(source: str, reading: Reading) -> None:
    if reading.labels != LABELS:
        message = f"{source}: is labelled {' and '.join(LABELS)}, which are not the task's labels"
        raise TextsError(f"{message}; name another texts.source")


def _official() -> Path:
    path = cache.folder() / download.OFFICIAL.name
    return path if path.exists() else download.fetch(download.OFFICIAL, cache.folder())


def _read_official(path: Path) -> list[LabelledText]:
    # Checks the hash of a file that was there before, and replaces a wrong one.
    download.fetch(download.OFFICIAL, path.parent)
    return aclimdb.read_archive(path)


def _found(source: str, reading: Reading, notes: list[str]) -> tuple[Path, list[Path]]:
    """Return the path that stands for a source, and its files where there may be several."""
    path = web.fetch(source, notes) if _is_address(source) else _path(source)
    if path.is_dir():
        if aclimdb.is_folder(path):
            _check_labels(source, reading)
            return path, []
        return path, _shards(path)
    if path.exists():
        if not path.is_file():
            raise TextsError(f"{path}: is neither a file nor a folder")
        if path.name.lower().endswith(aclimdb.ARCHIVE_SUFFIXES):
            _check_labels(source, reading)
            return path, []
        if rows.kind(path.name) is None:
            message = f"{path}: is a file of an unknown type; expected a folder, or a file whose"
            raise TextsError(f"{message} name ends in {_SUFFIXES} (or .gz, .xz, .bz2, .zst, .zip)")
        return path, [path]
    if _GLOB.intersection(source):
        found = glob.glob(str(path), recursive=True)  # noqa: PTH207
        return path, _alike(path, sorted(map(Path, found)))
    if _is_data_set(source):
        return path, hub.fetch(source, reading.split)
    message = f"{path}: no such file or folder (the current folder is {Path.cwd()})"
    raise TextsError(f"{message}; texts.source is builtin, imdb or a path")


def _is_data_set(source: str) -> bool:
    """Return whether a source is a data set of the hub: its form, and nothing of that name here."""
    if source in {"builtin", "imdb"} or not hub.dataset_id(source) or rows.kind(source):
        return False
    path = _path(source)
    return not (path.exists() or path.parent.is_dir())


def _is_address(source: str) -> bool:
    scheme, colon, _ = source.partition("://")
    if not colon or source.startswith("hf://datasets/"):
        return False
    if scheme not in web.SCHEMES:
        raise TextsError(
            f"{source[:200]}: texts are not read from {scheme}://, but from "
            f"{' and '.join(f'{each}://' for each in web.SCHEMES)}; or download it and name the "
            "file, or name a data set of the hub"
        )
    return True


def _path(source: str) -> Path:
    try:
        path = Path(source).expanduser()
        path.is_dir()
    except (ValueError, OSError, RuntimeError) as error:  # NUL, too long, no such user
        raise TextsError(f"{source[:80]!r}: is not a path: {error}") from None
    return path


def _shards(folder: Path) -> list[Path]:
    """Return the files of texts in a folder; hidden ones are not the user's.

    Nor is a ``.json`` beside others, which says something of them.
    """
    names = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    texts = [path for path in names if rows.kind(path.name)]
    return _alike(folder, [path for path in texts if rows.kind(path.name) != ".json"] or texts)


def _alike(path: Path, found: list[Path]) -> list[Path]:
    plain = [each for each in found if each.is_file()]
    kinds = {rows.kind(each.name) for each in plain}
    if not plain or None in kinds:
        message = f"{path}: no file of texts there; expected names that end in {_SUFFIXES}"
        raise TextsError(f"{message}; a pattern such as FOLDER/**/*.csv looks in folders below")
    if len(kinds) > 1:
        names = ", ".join(each.name for each in plain[:4])
        raise TextsError(f"{path}: files of several kinds ({names}); name one kind, as in *.csv")
    return plain


def _read(path: Path, paths: list[Path], reading: Reading, notes: list[str]) -> list[LabelledText]:
    if paths:
        return files.read(paths, reading, notes)
    return aclimdb.read_folder(path) if path.is_dir() else aclimdb.read_archive(path)


def _stamp(path: Path) -> str:
    """Return a text that changes when the source changes."""
    if path.is_dir():
        return aclimdb.folder_stamp(path)
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}"
