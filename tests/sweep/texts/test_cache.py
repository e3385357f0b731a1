from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from packsweep.errors import TextsError
from packsweep.sweep.texts import LabelledText, cache, load


def _write(path: Path, num_rows: int, word: str = "Fine") -> str:
    labels = ("positive", "negative")
    rows = "".join(f"{word} number {row}.,{labels[row % 2]}\n" for row in range(num_rows))
    path.write_text(f"review,sentiment\n{rows}", encoding="utf-8")
    return str(path)


def _copy() -> Path:
    (copy,) = cache.folder().iterdir()
    return copy


def _never(path: Path) -> list[LabelledText]:
    raise AssertionError(f"{path} was read again")


def test_copy_after_the_first_use_replaces_reading(tmp_path: Path) -> None:
    """The second use does not read the source."""
    path = tmp_path / "a.csv"
    _write(path, 3)
    first = cache.select(path, "stamp", lambda _: list(load(str(path), limit=3)), limit=2, seed=0)
    assert cache.select(path, "stamp", _never, limit=2, seed=0) == first


@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize("limit", [1, 499, 500, 501, 1200])
def test_copy_gives_what_the_source_gives(tmp_path: Path, limit: int, seed: int | None) -> None:
    """First use and second use agree, across the row groups of the copy."""
    source = _write(tmp_path / "a.csv", 1200)
    assert load(source, limit=limit, seed=seed) == load(source, limit=limit, seed=seed)


def test_copy_with_a_seed_is_a_shuffle_of_all(tmp_path: Path) -> None:
    """The order changes, the set does not."""
    source = _write(tmp_path / "a.csv", 50)
    plain, mixed = load(source, limit=50), load(source, limit=50, seed=1)
    assert plain != mixed
    assert set(plain) == set(mixed)


def test_copy_with_a_seed_does_not_depend_on_the_limit(tmp_path: Path) -> None:
    """The first four of 40 are the first four."""
    source = _write(tmp_path / "a.csv", 50)
    assert load(source, limit=40, seed=1)[:4] == load(source, limit=4, seed=1)


def test_copy_of_a_changed_source_is_made_anew(tmp_path: Path) -> None:
    """A source with another modification time is read again, and keeps one copy."""
    path = tmp_path / "a.csv"
    load(_write(path, 3, "Fine"), limit=1)
    load(_write(path, 3, "Dull"), limit=1)
    os.utime(path, ns=(0, 1))
    assert load(str(path), limit=1)[0].text == "Dull number 0."
    assert _copy().exists()


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_copy_that_is_torn_is_made_anew(tmp_path: Path, keep: int) -> None:
    """Part of a copy counts as none."""
    source = _write(tmp_path / "a.csv", 3)
    expected = load(source, limit=3)
    whole = _copy().read_bytes()
    _copy().write_bytes(whole[:keep])
    assert load(source, limit=3) == expected
    assert _copy().read_bytes() == whole


def test_copy_with_a_flipped_bit_is_made_anew(tmp_path: Path) -> None:
    """Page checksums notice what the file's form does not."""
    source = _write(tmp_path / "a.csv", 3)
    expected = load(source, limit=3)
    content = bytearray(_copy().read_bytes())
    content[content.index(b"number 0")] ^= 1
    _copy().write_bytes(content)
    assert load(source, limit=3) == expected


def test_copy_of_another_source_is_ignored(tmp_path: Path) -> None:
    """A copy under the right name with the wrong origin is not believed."""
    fine, dull = _write(tmp_path / "a.csv", 3, "Fine"), _write(tmp_path / "b.csv", 3, "Dull")
    load(fine, limit=1)
    of_fine = _copy()
    load(dull, limit=1)
    (of_dull,) = set(cache.folder().iterdir()) - {of_fine}
    shutil.copyfile(of_dull, of_fine)
    assert load(fine, limit=1)[0].text == "Fine number 0."


def test_copy_without_a_usable_cache_folder_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the place of the cache folder costs time, not the result."""
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("PACKSWEEP_CACHE", str(tmp_path / "taken"))
    source = _write(tmp_path / "a.csv", 3)
    assert load(source, limit=3) == load(source, limit=3)


def test_copy_of_a_faulty_source_is_not_made(tmp_path: Path) -> None:
    """What cannot be used is not kept."""
    path = tmp_path / "a.csv"
    path.write_text("review,sentiment\nHm.,neutral\n", encoding="utf-8")
    with pytest.raises(TextsError, match="neutral"):
        load(str(path), limit=1)
    assert not cache.folder().exists()


def test_copy_leaves_no_parts_behind(tmp_path: Path) -> None:
    """After a use there is the copy and nothing else."""
    load(_write(tmp_path / "a.csv", 3), limit=1)
    assert [path.suffix for path in cache.folder().iterdir()] == [".parquet"]
