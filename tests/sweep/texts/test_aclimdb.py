from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from packsweep.errors import TextsError
from packsweep.sweep.texts import load

FOLDERS = ("train/pos", "train/neg", "test/pos", "test/neg", "train/unsup")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A set of 10 reviews in each folder, and 10 without a label."""
    root = tmp_path / "aclImdb"
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
        for number in range(10):
            text = f"Number {number} of {folder}."
            (root / folder / f"{number}_7.txt").write_text(text, encoding="utf-8")
    return root


def _packed(root: Path) -> Path:
    path = root.parent / "set.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(root, arcname=root.name)
    return path


def test_folder_labels_follow_from_its_folders(root: Path) -> None:
    """A text of pos is positive, a text of neg negative, and unsup is not read."""
    reviews = load(str(root), limit=40)
    assert {(review.text[-4:-1], review.label) for review in reviews} == {
        ("pos", "positive"),
        ("neg", "negative"),
    }


def test_folder_order_mixes_the_labels(root: Path) -> None:
    """The first rows hold both labels, not in alternation."""
    labels = "".join(str(review.label)[0] for review in load(str(root), limit=40))
    assert {"p", "n"} <= set(labels[:8])
    assert "pp" in labels
    assert "nn" in labels


def test_folder_order_is_the_documented_one(root: Path) -> None:
    """The order is that of the names' SHA-256, so it is pinned."""
    texts = [review.text for review in load(str(root), limit=3)]
    assert texts == [
        "Number 5 of test/pos.",
        "Number 9 of test/neg.",
        "Number 0 of test/pos.",
    ]


def test_archive_reads_as_its_folder(root: Path) -> None:
    """Packed or not, the reviews and their order are the same."""
    assert load(str(_packed(root)), limit=40) == load(str(root), limit=40)


def test_folder_with_other_files_reads_the_same(root: Path) -> None:
    """Lists, word counts and hidden files are not reviews."""
    before = load(str(root), limit=40)
    for name in ("train/labeledBow.feat", "train/pos/notes.md", "train/pos/._0_7.txt"):
        (root / name).write_text("Not a review.", encoding="utf-8")
    assert load(str(root), limit=40) == before
    with pytest.raises(TextsError, match="holds 40 texts"):
        load(str(root), limit=41)


def test_folder_when_a_file_changes_is_read_again(root: Path) -> None:
    """The copy of a folder follows its files, not the folder's own time."""
    load(str(root), limit=40)
    (root / "train/pos/0_7.txt").write_text("Quite another text.", encoding="utf-8")
    assert "Quite another text." in {review.text for review in load(str(root), limit=40)}


def test_folder_text_ending_in_a_newline_loses_it(root: Path) -> None:
    """What an editor adds at the end is not part of the review."""
    (root / "test/neg/0_7.txt").write_text("Saved by an editor.\n", encoding="utf-8")
    assert "Saved by an editor." in {review.text for review in load(str(root), limit=40)}


def test_folder_that_is_not_the_set_is_refused(tmp_path: Path) -> None:
    """The message names the folders that are missing."""
    (tmp_path / "train").mkdir()
    with pytest.raises(TextsError, match=r"not the set aclImdb: it has no train/pos, train/neg"):
        load(str(tmp_path), limit=1)


def test_folder_above_the_set_is_named_with_where_it_is(root: Path) -> None:
    """One level too high is a common slip."""
    with pytest.raises(TextsError, match=r"did you mean .*/aclImdb\?"):
        load(str(root.parent), limit=1)


def test_folder_without_reviews_is_refused(root: Path) -> None:
    """Empty folders are no set."""
    for path in root.rglob("*.txt"):
        path.unlink()
    with pytest.raises(TextsError, match=r"holds no reviews; expected \*\.txt files"):
        load(str(root), limit=1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"caf\xe9", r"is not UTF-8 text \(byte 3\)"), (b"", "the text is empty")],
)
def test_folder_with_a_faulty_text_names_it(root: Path, content: bytes, expected: str) -> None:
    """The message names the file within the set."""
    (root / "test/pos/3_7.txt").write_bytes(content)
    with pytest.raises(TextsError, match=rf"test/pos/3_7\.txt: {expected}"):
        load(str(root), limit=1)


@pytest.mark.parametrize("keep", [0, 100, -8])
def test_archive_that_is_torn_is_refused(root: Path, keep: int) -> None:
    """Half of an archive is not half of a set."""
    path = _packed(root)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(TextsError, match=r"is not a whole tar\.gz archive"):
        load(str(path), limit=1)


def test_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    """An archive without the set's folders has no reviews."""
    (tmp_path / "a.txt").write_text("Fine.", encoding="utf-8")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.txt", arcname="a.txt")
    with pytest.raises(TextsError, match="holds no reviews"):
        load(str(tmp_path / "a.tar.gz"), limit=1)
